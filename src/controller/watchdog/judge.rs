//! Whether a pod has the client it needs, as far as the pod itself tells.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use super::pod::{Spec, Status, Volume};
use crate::{
    inject::status::{self, STATUS},
    pod::labels,
    volume::claim_of_ephemeral,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The name of every client's container begins like this, also the Go driver's.
const CLIENT: &str = "jfs-mount";

/// A claim without a client, if it is one of JuiceFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The claim.
    pub claim: String,
    /// Whether the pod runs all the same: with a mount of the CSI driver's.
    pub running: bool,
    /// Whether somebody makes the pod again when it is deleted.
    pub owned: bool,
}

impl Finding {
    /// What is the matter, and what to do.
    pub fn sentence(&self) -> String {
        let remedy = if self.owned {
            "delete the pod, so that its owner makes it again with a client"
        } else {
            "delete the pod and create it again"
        };
        let state = if self.running {
            "it runs with a mount of the JuiceFS CSI driver on its node"
        } else {
            "the volume will not be mounted"
        };
        format!(
            "claim \"{}\" is a JuiceFS volume, and the pod has no JuiceFS client: it was created before its namespace \
             was labelled, or while the webhook was away; {state}; {remedy}",
            self.claim
        )
    }
}

/// The claims of a pod that would need a client which is not there, were they of JuiceFS.
pub fn judge(metadata: &ObjectMeta, spec: &Spec, status: Option<&Status>) -> Vec<Finding> {
    let phase = status.map_or("", |status| status.phase.as_str());
    let over = matches!(phase, "Succeeded" | "Failed") || metadata.deletion_timestamp.is_some();
    let disabled = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::DISABLE))
        .is_some_and(|set| set == "true");
    if over || disabled || has_client(metadata, spec) {
        return Vec::new();
    }
    let pod = metadata.name.as_deref().unwrap_or_default();
    let claim = |volume: &Volume| match &volume.persistent_volume_claim {
        Some(source) => Some(source.claim_name.clone()),
        None => volume.ephemeral.as_ref().map(|_| claim_of_ephemeral(pod, &volume.name)),
    };
    let owners = metadata.owner_references.iter().flatten();
    let owned = owners.clone().any(|owner| owner.controller == Some(true));
    spec.volumes
        .iter()
        .flatten()
        .filter_map(claim)
        .map(|claim| Finding { claim, running: phase == "Running", owned })
        .collect()
}

/// Every client that the pod says it has; without a word from it, one that looks like one.
fn has_client(metadata: &ObjectMeta, spec: &Spec) -> bool {
    let containers = || spec.init_containers.iter().chain(&spec.containers).flatten();
    let status = metadata.annotations.as_ref().and_then(|annotations| annotations.get(STATUS));
    match status.and_then(|text| status::Status::parse(text).ok()) {
        Some(status) => {
            status.containers().all(|client| containers().any(|container| container.name == client))
        }
        None => containers().any(|container| container.name.starts_with(CLIENT)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{inject::status::StatusVolume, notation::Mode};

    fn judged(pod: &Value) -> Vec<Finding> {
        let metadata = serde_json::from_value(pod["metadata"].clone()).unwrap();
        let spec = serde_json::from_value(pod["spec"].clone()).unwrap();
        let status = pod.get("status").map(|status| serde_json::from_value(status.clone()).unwrap());
        judge(&metadata, &spec, status.as_ref())
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "app", "namespace": "team-a"},
            "spec": {
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                    {"name": "tmp", "emptyDir": {}},
                ],
                "containers": [{"name": "app", "image": "x"}],
            },
            "status": {"phase": "Pending"},
        })
    }

    #[test]
    fn claims_of_a_pod_without_a_client_are_found() {
        let found = judged(&pod());
        assert_eq!(found.iter().map(|one| one.claim.as_str()).collect::<Vec<_>>(), ["data", "app-scratch"]);
        assert!(found[0].sentence().contains("claim \"data\""));
        assert!(
            found[0]
                .sentence()
                .ends_with("the volume will not be mounted; delete the pod and create it again")
        );

        let mut running = pod();
        running["status"]["phase"] = json!("Running");
        running["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true}]);
        let sentence = judged(&running)[0].sentence();
        assert!(sentence.contains("it runs with a mount of the JuiceFS CSI driver"), "{sentence}");
        assert!(sentence.ends_with("so that its owner makes it again with a client"), "{sentence}");
    }

    #[test]
    fn pods_that_are_over_or_opted_out_are_not() {
        for (path, value) in [
            ("/status/phase", json!("Succeeded")),
            ("/status/phase", json!("Failed")),
            ("/metadata/deletionTimestamp", json!("2026-11-22T00:00:00Z")),
            ("/metadata/labels", json!({"disable.sidecar.juicefs.com/inject": "true"})),
        ] {
            let mut pod = pod();
            let (parent, key) = path.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value;
            assert!(judged(&pod).is_empty(), "{path}");
        }
    }

    #[test]
    fn labels_prove_nothing_and_containers_do() {
        let mut marked = pod();
        marked["metadata"]["labels"] = json!({"done.sidecar.juicefs.com/inject": "true"});
        assert_eq!(judged(&marked).len(), 2);

        marked["spec"]["initContainers"] = json!([{"name": "jfs-mount"}]);
        assert!(judged(&marked).is_empty(), "as the Go driver makes them");

        let mut status = status::Status::new(Mode::Classic);
        status.volumes = ["jfs-mount", "jfs-mount-1"]
            .map(|name| StatusVolume { container: name.to_owned(), ..Default::default() })
            .into();
        marked["metadata"]["annotations"] = json!({ STATUS: status.to_text() });
        assert_eq!(judged(&marked).len(), 2, "one of two clients is gone");
        marked["spec"]["containers"] = json!([{"name": "app"}, {"name": "jfs-mount-1"}]);
        assert!(judged(&marked).is_empty());
    }
}
