//! Whether a pod is over and may be kept by a mount of ours, as far as the pod itself tells.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::watchdog::pod::{Spec, Status};
use crate::{
    identifier::{is_label, is_name, is_uid},
    inject::{
        MOUNT,
        status::{self, STATUS},
    },
    notation::Mode,
};

/// A pod that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Its node.
    pub node: String,
    /// Where mounts of ours may be, below the directory of its `emptyDir` volumes.
    pub mountpoints: Vec<String>,
}

impl Stuck {
    /// What somebody on the node can do.
    pub fn by_hand(&self, kubelet_directory: &str, uid: &str) -> String {
        let line = |mountpoint: &String| {
            format!("umount -l {kubelet_directory}/pods/{uid}/volumes/kubernetes.io~empty-dir/{mountpoint}")
        };
        self.mountpoints.iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

/// A pod that is being deleted, has no container that runs, and has volumes in which we mount.
///
/// One of which the kubelet is done is kept by somebody's finalizer: its grace period has become 0.
pub fn judge(metadata: &ObjectMeta, spec: &Spec, status: Option<&Status>) -> Option<Stuck> {
    if metadata.deletion_timestamp.is_none() || metadata.deletion_grace_period_seconds == Some(0) {
        return None;
    }
    let node = spec.node_name.as_deref().filter(|node| is_name(node))?;
    metadata.uid.as_deref().filter(|uid| is_uid(uid))?;
    let status = status?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let mut states = lists.into_iter().flatten().flatten().map(|container| container.state.as_ref());
    if states.any(|state| state.is_some_and(|state| state.running.is_some())) {
        return None;
    }
    let injected = status::Status::parse(metadata.annotations.as_ref()?.get(STATUS)?).ok()?;
    let volumes = injected.volumes.iter().filter(|volume| volume.shared == "emptyDir");
    let mountpoints: Vec<_> = volumes
        .filter(|volume| is_label(&volume.volume))
        .map(|volume| match injected.mode {
            Mode::Resilient => format!("{}/{MOUNT}", volume.volume),
            Mode::Classic => volume.volume.clone(),
        })
        .collect();
    (!mountpoints.is_empty()).then(|| Stuck { node: node.to_owned(), mountpoints })
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
        assert_eq!(found, Stuck { node: "node-1".to_owned(), mountpoints: vec!["data/mnt".to_owned()] });
        assert_eq!(
            found.by_hand("/var/lib/kubelet", "0a-1"),
            "umount -l /var/lib/kubelet/pods/0a-1/volumes/kubernetes.io~empty-dir/data/mnt"
        );
        assert_eq!(judged(&pod(Mode::Classic)).unwrap().mountpoints, ["data"]);
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
