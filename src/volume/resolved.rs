//! One JuiceFS claim of a pod, with all that is known of it and of the volume behind it.

use std::sync::Arc;

use super::{backing::Backing, objects::Claim};
use crate::map::Map;

/// One JuiceFS claim of a pod, with the volume behind it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The pod's volumes that name this claim. All of them share one client.
    pub pod_volumes: PodVolumes,
    /// The claim.
    pub claim: ClaimIdentity,
    /// What is behind it.
    pub volume: Backing,
    /// For a generic ephemeral volume without `pathPattern`: the pod volume its directory is named after.
    pub ephemeral_directory: Option<String>,
}

/// What a volume that keeps a claim is called, before the name of the volume it was taken from.
pub(crate) const CLAIM_VOLUME: &str = "jfs-claim-";

/// What a volume that is shared in an ephemeral volume's stead is called, before the name of that.
pub(crate) const SHARED_VOLUME: &str = "jfs-shared-";

/// What the directory of a generic ephemeral volume is called, before the UID of its pod and its own name.
pub(crate) const EPHEMERAL_DIRECTORY: &str = "ephemeral-";

/// What Kubernetes calls the claim of a generic ephemeral volume.
pub(crate) fn claim_of_ephemeral(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

/// The directory of a generic ephemeral volume whose class has no pattern, as the volume's own attributes have it: the
/// pod's UID is all that its client knows of the claim.
pub(crate) fn directory_of_ephemeral(claim: &Claim) -> Option<String> {
    let pod = claim.metadata.pod.as_ref()?;
    let volume = claim.metadata.name.strip_prefix(&*pod.name)?.strip_prefix('-')?;
    Some(format!("{EPHEMERAL_DIRECTORY}{}-{volume}", pod.uid))
}

/// Entries of the pod's `volumes` that are one and the same claim, in the order of the pod; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodVolumes {
    first: PodVolume,
    others: Vec<PodVolume>,
}

/// One entry of the pod's `volumes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodVolume {
    /// Index in `spec.volumes`.
    pub index: usize,
    /// The volume's name.
    pub name: String,
    /// Whether the claim is mounted read-only by the volume source itself.
    pub read_only: bool,
}

/// The claim as far as it is known.
#[derive(Clone, Debug)]
pub struct ClaimIdentity {
    /// The claim's (and pod's) namespace.
    pub namespace: Arc<str>,
    /// Which claim of the namespace.
    pub name: ClaimName,
    /// Labels, for `pvcSelector`.
    pub labels: Map,
    /// Its annotations that concern us, of which tenants may set some.
    pub annotations: Map,
    /// The class, empty if none.
    pub class: Arc<str>,
}

/// What a claim is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimName {
    /// As its user calls it.
    Given {
        /// The name.
        name: Arc<str>,
        /// `None` in a manifest that was never applied.
        uid: Option<Arc<str>>,
    },
    /// After the pod, being a generic ephemeral volume's: the name, where the pod has one already.
    AfterPod(Option<Arc<str>>),
}

impl PodVolumes {
    /// The first one, which is shared; the others are redirected to it.
    pub fn first(&self) -> &PodVolume {
        &self.first
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PodVolume> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn push(&mut self, other: PodVolume) {
        self.others.push(other);
    }
}

impl From<PodVolume> for PodVolumes {
    fn from(first: PodVolume) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl ClaimIdentity {
    /// The name, unless it depends on the pod.
    pub fn name(&self) -> Option<&str> {
        match &self.name {
            ClaimName::Given { name, .. } => Some(name),
            ClaimName::AfterPod(_) => None,
        }
    }

    /// The name, as far as it can be told.
    pub fn expected_name(&self) -> Option<&str> {
        match &self.name {
            ClaimName::AfterPod(name) => name.as_deref(),
            ClaimName::Given { name, .. } => Some(name),
        }
    }

    /// The UID, if the claim exists.
    pub fn uid(&self) -> Option<&str> {
        match &self.name {
            ClaimName::Given { uid, .. } => uid.as_deref(),
            ClaimName::AfterPod(_) => None,
        }
    }
}

impl Resolved {
    /// The claim as messages call it.
    pub fn describe(&self) -> String {
        match self.claim.name() {
            Some(name) => format!("persistentvolumeclaim \"{}/{name}\"", self.claim.namespace),
            None => format!("ephemeral volume \"{}\"", self.pod_volumes.first().name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_claim_of_a_pods_own_volume_is_in_a_directory_of_the_pod() {
        let directory = |name: &str, owner: serde_json::Value| {
            let claim = json!({"metadata": {"namespace": "team", "name": name, "ownerReferences": [owner]}});
            directory_of_ephemeral(&serde_json::from_value(claim).unwrap())
        };
        let pod = json!({"kind": "Pod", "name": "web-0", "uid": "u-1", "controller": true});
        assert_eq!(directory("web-0-scratch", pod.clone()).as_deref(), Some("ephemeral-u-1-scratch"));
        assert_eq!(directory("web-1-scratch", pod.clone()), None);
        for (field, value) in [
            ("kind", json!("Job")),
            ("controller", json!(false)),
            ("uid", json!("../u-1")),
            ("name", json!("web 0")),
        ] {
            let mut owner = pod.clone();
            owner[field] = value;
            assert_eq!(directory("web-0-scratch", owner.clone()), None, "{owner}");
        }
    }
}
