//! Whether a pod may be kept by a dead mount of ours, as far as the pod itself tells: from going, or from having a
//! container of its own started again.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::watchdog::pod::{ContainerStatus, Spec, Status};
use crate::{
    identifier::{is_label, is_name, is_uid},
    inject::{
        MOUNT,
        status::{self, STATUS},
    },
    notation::Mode,
};

/// The kubelet's directory for a pod's volumes.
pub(super) const VOLUMES: &str = "volumes";
/// The kubelet's directory for what a pod's containers mount of its volumes.
pub(super) const SUB_PATHS: &str = "volume-subpaths";
/// The kubelet's directory for `emptyDir` volumes, below [`VOLUMES`].
const EMPTY_DIRECTORIES: &str = "kubernetes.io~empty-dir";
/// Why a container waits whose `subPath` the kubelet cannot mount, one that leads to a dead mount for example (1.36).
const NOT_CREATED: &str = "CreateContainerConfigError";

/// A pod that a mount of ours may keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Its node.
    pub node: String,
    /// Whether it is over; otherwise one of its containers cannot be started.
    pub is_over: bool,
    /// Where the mounts may be.
    pub places: Vec<Place>,
}

/// A directory of the pod's on the node, with mounts of ours in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// [`VOLUMES`], or [`SUB_PATHS`], of which each volume has a place of its own.
    pub kind: &'static str,
    /// The directory below that.
    pub directory: String,
    /// What is mounted on, below that one.
    pub mountpoints: Vec<String>,
}

impl Stuck {
    /// What somebody on the node can do.
    pub fn by_hand(&self, kubelet_directory: &str, uid: &str) -> String {
        let lines = self.places.iter().flat_map(|Place { kind, directory, mountpoints }| {
            let line = move |mountpoint| {
                format!("umount -l {kubelet_directory}/pods/{uid}/{kind}/{directory}/{mountpoint}")
            };
            mountpoints.iter().map(line)
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

/// A pod with volumes in which we mount that is being deleted and has no container that runs, or one with a container
/// that cannot be started for a `subPath` in them.
///
/// One of which the kubelet is done is kept by somebody's finalizer: its grace period has become 0.
pub fn judge(metadata: &ObjectMeta, spec: &Spec, status: Option<&Status>) -> Option<Stuck> {
    let node = spec.node_name.as_deref().filter(|node| is_name(node))?;
    metadata.uid.as_deref().filter(|uid| is_uid(uid))?;
    let status = status?;
    let is_over = metadata.deletion_timestamp.is_some();
    if is_over {
        let runs = |one: &ContainerStatus| one.state.as_ref().is_some_and(|state| state.running.is_some());
        if metadata.deletion_grace_period_seconds == Some(0) || containers(status).any(runs) {
            return None;
        }
    } else if !containers(status).any(is_blocked) {
        return None;
    }
    let injected = status::Status::parse(metadata.annotations.as_ref()?.get(STATUS)?).ok()?;
    let places = if is_over { in_volumes(&injected) } else { in_sub_paths(&injected, spec, status) };
    (!places.is_empty()).then(|| Stuck { node: node.to_owned(), is_over, places })
}

fn containers(status: &Status) -> impl Iterator<Item = &ContainerStatus> {
    [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten()
}

/// Whether a container cannot be started because the kubelet cannot mount a `subPath`.
fn is_blocked(container: &ContainerStatus) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason == NOT_CREATED && waiting.message.contains("subPath"))
}

fn in_volumes(injected: &status::Status) -> Vec<Place> {
    let volumes = injected.volumes.iter().filter(|volume| volume.shared == "emptyDir");
    let mountpoints: Vec<_> = volumes
        .filter(|volume| is_label(&volume.volume))
        .map(|volume| match injected.mode {
            Mode::Resilient => format!("{}/{MOUNT}", volume.volume),
            Mode::Classic => volume.volume.clone(),
        })
        .collect();
    if mountpoints.is_empty() {
        return Vec::new();
    }
    vec![Place { kind: VOLUMES, directory: EMPTY_DIRECTORIES.to_owned(), mountpoints }]
}

/// The kubelet keeps the mount of a `subPath` until the pod goes, by volume, container and place among its mounts.
fn in_sub_paths(injected: &status::Status, spec: &Spec, status: &Status) -> Vec<Place> {
    let blocked: BTreeSet<_> =
        containers(status).filter(|one| is_blocked(one)).map(|one| one.name.as_str()).collect();
    let is_blocked = |name: &str| is_label(name) && blocked.contains(name);
    let place = |volume: &status::StatusVolume| {
        let name = &volume.volume;
        let all = [&spec.init_containers, &spec.containers].into_iter().flatten().flatten();
        let mounts = all.filter(|container| is_blocked(&container.name)).flat_map(|container| {
            let mounts = container.volume_mounts.iter().flatten().enumerate();
            mounts
                .filter(|(_, mount)| mount.name == *name)
                .map(|(index, _)| format!("{}/{index}", container.name))
        });
        Place { kind: SUB_PATHS, directory: name.clone(), mountpoints: mounts.collect() }
    };
    let volumes = injected.volumes.iter().filter(|volume| is_label(&volume.volume));
    volumes.map(place).filter(|place| !place.mountpoints.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::inject::status::StatusVolume;

    fn judged(pod: &Value) -> Option<Stuck> {
        let metadata = serde_json::from_value(pod["metadata"].clone()).unwrap();
        let spec = serde_json::from_value(pod["spec"].clone()).unwrap();
        let status = serde_json::from_value(pod["status"].clone()).unwrap();
        judge(&metadata, &spec, Some(&status))
    }

    fn pod(mode: Mode) -> Value {
        let volume = |name: &str, shared: &str| StatusVolume {
            container: "jfs-mount".to_owned(),
            volume: name.to_owned(),
            shared: shared.to_owned(),
            ..StatusVolume::default()
        };
        let mut status = status::Status::new(mode);
        status.volumes = vec![volume("data", "emptyDir"), volume("host", "hostPath")];
        let terminated = json!({"terminated": {"exitCode": 137}});
        json!({
            "metadata": {"name": "app", "uid": "0a-1", "deletionTimestamp": "2026-11-22T00:00:00Z",
                "deletionGracePeriodSeconds": 30, "annotations": {STATUS: status.to_text()}},
            "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
            "status": {"phase": "Failed", "initContainerStatuses": [{"name": "jfs-mount", "state": terminated}],
                "containerStatuses": [{"name": "app", "state": terminated}]},
        })
    }

    #[test]
    fn a_pod_that_is_over_is_found_with_the_places_of_its_mounts() {
        let found = judged(&pod(Mode::Resilient)).unwrap();
        let place = Place {
            kind: "volumes",
            directory: "kubernetes.io~empty-dir".to_owned(),
            mountpoints: vec!["data/mnt".to_owned()],
        };
        assert_eq!(found, Stuck { node: "node-1".to_owned(), is_over: true, places: vec![place] });
        assert_eq!(
            found.by_hand("/var/lib/kubelet", "0a-1"),
            "umount -l /var/lib/kubelet/pods/0a-1/volumes/kubernetes.io~empty-dir/data/mnt"
        );
        assert_eq!(judged(&pod(Mode::Classic)).unwrap().places[0].mountpoints, ["data"]);
    }

    #[test]
    fn a_container_that_cannot_be_started_is_found_with_its_sub_paths() {
        let mut pod = pod(Mode::Resilient);
        pod["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        pod["status"]["initContainerStatuses"][0]["state"] = json!({"running": {}});
        let mounts = [json!({"name": "token"}), json!({"name": "data"}), json!({"name": "data"})];
        pod["spec"]["containers"][0]["volumeMounts"] = json!(mounts);
        assert_eq!(judged(&pod), None);
        let waiting = |reason, message| json!({"waiting": {"reason": reason, "message": message}});
        let message = "failed to prepare subPath for volumeMount \"data\" of container \"app\"";
        pod["status"]["containerStatuses"][0]["state"] = waiting(NOT_CREATED, message);
        let found = judged(&pod).unwrap();
        let place = Place {
            kind: "volume-subpaths",
            directory: "data".to_owned(),
            mountpoints: vec!["app/1".to_owned(), "app/2".to_owned()],
        };
        assert_eq!(found, Stuck { node: "node-1".to_owned(), is_over: false, places: vec![place] });
        assert_eq!(
            found.by_hand("/k", "u"),
            "umount -l /k/pods/u/volume-subpaths/data/app/1; umount -l /k/pods/u/volume-subpaths/data/app/2"
        );
        for other in [waiting(NOT_CREATED, "secret \"x\" not found"), waiting("CrashLoopBackOff", message)] {
            pod["status"]["containerStatuses"][0]["state"] = other;
            assert_eq!(judged(&pod), None);
        }
    }

    #[test]
    fn others_are_left_alone() {
        let changes = [
            ("/metadata/deletionTimestamp", Value::Null),
            ("/metadata/deletionGracePeriodSeconds", json!(0)),
            ("/metadata/uid", json!("../x")),
            ("/metadata/annotations", json!({})),
            ("/spec/nodeName", Value::Null),
            ("/spec/nodeName", json!("a b")),
            ("/status/initContainerStatuses/0/state", json!({"running": {}})),
            ("/status/containerStatuses/0/state", json!({"running": {"startedAt": "2026-11-22T00:00:00Z"}})),
        ];
        for (path, value) in changes {
            let mut pod = pod(Mode::Resilient);
            *pod.pointer_mut(path).unwrap() = value.clone();
            assert_eq!(judged(&pod), None, "{path} {value}");
        }
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_not_taken() {
        let mut pod = pod(Mode::Resilient);
        let text = pod["metadata"]["annotations"][STATUS].as_str().unwrap().replace("data", "../../x");
        pod["metadata"]["annotations"][STATUS] = text.into();
        assert_eq!(judged(&pod), None);
    }
}
