//! The pod that detaches mounts, and what became of it.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, HostPathVolumeSource, Pod, PodSpec, ResourceRequirements, SELinuxOptions,
        SeccompProfile, SecurityContext, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;

use super::stuck::{Place, SUB_PATHS};
use crate::{config::Agent, inject::MOUNT};

/// What tells these pods from others.
pub(super) const LABEL: &str = "sidecar.juicefs.com/release";
/// The account of these pods, which may do nothing.
const ACCOUNT: &str = "juicefs-sidecar-janitor";
/// Where the pod sees the directory it works in.
const DIRECTORY: &str = "/volumes";
/// The volume of the pod.
const VOLUME: &str = "node";
/// Seconds after which the kubelet gives it up, pulling its image included.
const DEADLINE: i64 = 120;

/// What a pod is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// What the pod is called; what it begins with, if it ends with a dash.
    pub(super) name: String,
    /// Its node.
    pub(super) node: String,
    /// A directory there.
    pub(super) directory: String,
    /// The directory in that one which the pod sees.
    pub(super) below: String,
    /// Directories to be removed in there, with what is mounted on them.
    pub(super) mountpoints: Vec<String>,
}

impl Work {
    /// Detaches the mounts in one of a pod's directories.
    pub(super) fn release(kubelet_directory: &str, uid: &str, node: &str, place: &Place) -> Self {
        let Place { kind, directory, mountpoints } = place;
        let name = format!("release-{}", uid.to_ascii_lowercase());
        Self {
            name: if *kind == SUB_PATHS { format!("{name}-{directory}") } else { name },
            node: node.to_owned(),
            directory: format!("{kubelet_directory}/pods/{uid}/{kind}"),
            below: directory.clone(),
            mountpoints: mountpoints.clone(),
        }
    }

    /// Removes directories that pods have left on a node.
    pub(super) fn tidy(mount_directory: &str, node: String, directories: &[String]) -> Self {
        let (parent, name) = mount_directory.rsplit_once('/').unwrap_or_default();
        let both = |directory: &String| [format!("{directory}/{MOUNT}"), directory.clone()];
        Self {
            name: "tidy-".to_owned(),
            node,
            directory: if parent.is_empty() { "/".to_owned() } else { parent.to_owned() },
            below: name.to_owned(),
            mountpoints: directories.iter().flat_map(both).collect(),
        }
    }
}

/// The pod. The kubelet binds a `subPath` without what is mounted below it, which is what lets it do its work without
/// privilege.
pub(super) fn pod(work: Work, image: &str, agent: Option<&Agent>) -> Pod {
    let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let mut command = vec!["/jfs-agent".to_owned(), "release".to_owned(), format!("--directory={DIRECTORY}")];
    command.extend(work.mountpoints.iter().map(|mountpoint| format!("--mountpoint={mountpoint}")));
    let container = Container {
        name: "release".to_owned(),
        image: Some(given(agent.and_then(|agent| agent.image.as_ref())).unwrap_or_else(|| image.to_owned())),
        image_pull_policy: given(agent.and_then(|agent| agent.image_pull_policy.as_ref())),
        command: Some(command),
        resources: Some(resources()),
        security_context: Some(security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: DIRECTORY.to_owned(),
            sub_path: Some(work.below),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let volume = Volume {
        name: VOLUME.to_owned(),
        host_path: Some(HostPathVolumeSource { path: work.directory, type_: Some("Directory".to_owned()) }),
        ..Volume::default()
    };
    let (name, generate_name) =
        if work.name.ends_with('-') { (None, Some(work.name)) } else { (Some(work.name), None) };
    Pod {
        metadata: ObjectMeta {
            name,
            generate_name,
            labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(work.node),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(DEADLINE),
            service_account_name: Some(ACCOUNT.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            tolerations: Some(vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }]),
            containers: vec![container],
            volumes: Some(vec![volume]),
            image_pull_secrets: agent
                .map(|agent| agent.image_pull_secrets.clone())
                .filter(|secrets| !secrets.is_empty()),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn resources() -> ResourceRequirements {
    let amounts = |list: &[(&str, &str)]| {
        let amounts = list.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())));
        Some(amounts.collect::<BTreeMap<_, _>>())
    };
    ResourceRequirements {
        requests: amounts(&[("cpu", "10m"), ("memory", "16Mi")]),
        limits: amounts(&[("memory", "64Mi")]),
        ..ResourceRequirements::default()
    }
}

/// Root, to whom the kubelet's directories belong, and nothing more.
fn security() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        privileged: Some(false),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        // Where SELinux is enforced, a volume is labelled for the one pod that has it.
        se_linux_options: Some(SELinuxOptions {
            type_: Some("spc_t".to_owned()),
            ..SELinuxOptions::default()
        }),
        ..SecurityContext::default()
    }
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has not ended.
    Running,
    /// The mounts are gone.
    Done,
    /// They are not, and why.
    Failed(String),
}

/// Reads it from the pod.
pub(super) fn outcome(pod: &Pod) -> Outcome {
    let Some(status) = &pod.status else { return Outcome::Running };
    match status.phase.as_deref() {
        Some("Succeeded") => Outcome::Done,
        Some("Failed") => {
            let mut containers = status.container_statuses.iter().flatten();
            let said = containers.find_map(|container| {
                let ended = container.state.as_ref()?.terminated.as_ref()?;
                ended.message.clone().filter(|message| !message.is_empty()).or_else(|| ended.reason.clone())
            });
            let said = said.or_else(|| status.message.clone()).or_else(|| status.reason.clone());
            Outcome::Failed(said.unwrap_or_else(|| "it failed".to_owned()).trim().to_owned())
        }
        _ => Outcome::Running,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::LocalObjectReference;
    use serde_json::{Value, json};

    use super::{super::stuck::VOLUMES, *};

    fn made(work: Work, agent: Option<&Agent>) -> Value {
        serde_json::to_value(pod(work, "juicefs-sidecar:1", agent)).unwrap()
    }

    fn stuck() -> Work {
        let mountpoints = vec!["data/mnt".to_owned(), "other/mnt".to_owned()];
        let directory = "kubernetes.io~empty-dir".to_owned();
        Work::release("/var/lib/kubelet", "0A-1", "n", &Place { kind: VOLUMES, directory, mountpoints })
    }

    #[test]
    fn each_volume_with_sub_paths_has_a_pod_of_its_own() {
        let mountpoints = vec!["app/0".to_owned()];
        let place = Place { kind: SUB_PATHS, directory: "v".to_owned(), mountpoints };
        let work = Work::release("/k", "0A-1", "n", &place);
        assert_eq!((work.name.as_str(), work.below.as_str()), ("release-0a-1-v", "v"));
        assert_eq!(work.directory, "/k/pods/0A-1/volume-subpaths");
    }

    #[test]
    fn it_sees_the_volumes_of_that_pod_and_nothing_else() {
        let pod = made(stuck(), None);
        let spec = &pod["spec"];
        assert_eq!(pod["metadata"]["name"], "release-0a-1");
        let path = json!({"path": "/var/lib/kubelet/pods/0A-1/volumes", "type": "Directory"});
        assert_eq!(spec["volumes"], json!([{"name": "node", "hostPath": path}]));
        let container = &spec["containers"][0];
        let command = [
            "/jfs-agent",
            "release",
            "--directory=/volumes",
            "--mountpoint=data/mnt",
            "--mountpoint=other/mnt",
        ];
        assert_eq!(container["command"], json!(command));
        assert_eq!(container["volumeMounts"][0]["subPath"], "kubernetes.io~empty-dir");
        assert_eq!((&container["image"], &spec["nodeName"]), (&json!("juicefs-sidecar:1"), &json!("n")));
    }

    #[test]
    fn directories_that_were_left_go_with_what_is_in_them() {
        let work = Work::tidy("/var/lib/juicefs/volume", "n".to_owned(), &["a".to_owned()]);
        let pod = made(work, None);
        assert_eq!(
            (&pod["metadata"]["name"], &pod["metadata"]["generateName"]),
            (&Value::Null, &json!("tidy-"))
        );
        assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/var/lib/juicefs");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"][0]["subPath"], "volume");
        let command =
            ["/jfs-agent", "release", "--directory=/volumes", "--mountpoint=a/mnt", "--mountpoint=a"];
        assert_eq!(container["command"], json!(command));
        assert_eq!(Work::tidy("/volume", "n".to_owned(), &[]).directory, "/");
    }

    #[test]
    fn the_configuration_names_the_image_and_what_it_is_pulled_with() {
        let image_pull_secrets = vec![LocalObjectReference { name: "registry".to_owned() }];
        let agent =
            Agent { image: Some("mirror/agent:2".to_owned()), image_pull_secrets, ..Agent::default() };
        let spec = &made(stuck(), Some(&agent))["spec"];
        assert_eq!(spec["containers"][0]["image"], "mirror/agent:2");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    }

    #[test]
    fn its_last_words_are_read() {
        let read = |status: Value| outcome(&serde_json::from_value(json!({"status": status})).unwrap());
        assert_eq!(read(json!({"phase": "Pending"})), Outcome::Running);
        assert_eq!(read(json!({"phase": "Succeeded"})), Outcome::Done);
        let ended = json!({"phase": "Failed", "containerStatuses": [{"name": "release", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": "data/mnt: not empty\n"}}}]});
        assert_eq!(read(ended), Outcome::Failed("data/mnt: not empty".to_owned()));
        let late = json!({"phase": "Failed", "reason": "DeadlineExceeded"});
        assert_eq!(read(late), Outcome::Failed("DeadlineExceeded".to_owned()));
    }
}
