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

use super::{Settings, stuck::Stuck};
use crate::config::Agent;

/// What tells these pods from others.
pub(super) const LABEL: &str = "sidecar.juicefs.com/release";
/// The account of these pods, which may do nothing.
const ACCOUNT: &str = "juicefs-sidecar-janitor";
/// Where the pod sees the directories of `emptyDir` volumes.
const DIRECTORY: &str = "/volumes";
/// The kubelet's directory for them.
const EMPTY_DIRECTORIES: &str = "kubernetes.io~empty-dir";
/// Seconds after which the kubelet gives it up, pulling its image included.
const DEADLINE: i64 = 120;

/// The pod. The kubelet binds a `subPath` without what is mounted below it, which is what lets it do its work without
/// privilege.
pub(super) fn pod(settings: &Settings, agent: Option<&Agent>, uid: &str, stuck: &Stuck) -> Pod {
    let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let mut command = vec!["/jfs-agent".to_owned(), "release".to_owned(), format!("--directory={DIRECTORY}")];
    command.extend(stuck.mountpoints.iter().map(|mountpoint| format!("--mountpoint={mountpoint}")));
    let container = Container {
        name: "release".to_owned(),
        image: Some(
            given(agent.and_then(|agent| agent.image.as_ref())).unwrap_or_else(|| settings.image.clone()),
        ),
        image_pull_policy: given(agent.and_then(|agent| agent.image_pull_policy.as_ref())),
        command: Some(command),
        resources: Some(resources()),
        security_context: Some(security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: "pod".to_owned(),
            mount_path: DIRECTORY.to_owned(),
            sub_path: Some(EMPTY_DIRECTORIES.to_owned()),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let volume = Volume {
        name: "pod".to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: format!("{}/pods/{uid}/volumes", settings.kubelet_directory),
            type_: Some("Directory".to_owned()),
        }),
        ..Volume::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("release-{}", uid.to_ascii_lowercase())),
            labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(stuck.node.clone()),
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
    use serde_json::{Value, json};

    use super::*;

    fn made(agent: Option<&Agent>) -> Value {
        let settings = Settings {
            namespace: None,
            kubelet_directory: "/var/lib/kubelet".to_owned(),
            image: "juicefs-sidecar:1".to_owned(),
        };
        let stuck =
            Stuck { node: "n".to_owned(), mountpoints: vec!["data/mnt".to_owned(), "other/mnt".to_owned()] };
        serde_json::to_value(pod(&settings, agent, "0A-1", &stuck)).unwrap()
    }

    #[test]
    fn it_sees_the_volumes_of_that_pod_and_nothing_else() {
        let pod = made(None);
        let spec = &pod["spec"];
        assert_eq!(pod["metadata"]["name"], "release-0a-1");
        assert_eq!(
            spec["volumes"],
            json!([{"name": "pod", "hostPath": {"path": "/var/lib/kubelet/pods/0A-1/volumes", "type": "Directory"}}])
        );
        let container = &spec["containers"][0];
        assert_eq!(
            container["command"],
            json!([
                "/jfs-agent",
                "release",
                "--directory=/volumes",
                "--mountpoint=data/mnt",
                "--mountpoint=other/mnt"
            ])
        );
        assert_eq!((&container["image"], &spec["nodeName"]), (&json!("juicefs-sidecar:1"), &json!("n")));
    }

    #[test]
    fn the_configuration_names_the_image() {
        let agent = Agent { image: Some("mirror/agent:2".to_owned()), ..Agent::default() };
        assert_eq!(made(Some(&agent))["spec"]["containers"][0]["image"], "mirror/agent:2");
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
