//! One JuiceFS claim of a pod, with all that is known of it and of the volume behind it.

use std::sync::Arc;

use super::backing::Backing;
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
    /// Not known yet: a generic ephemeral volume's claim is named after a pod that may have no name itself.
    AfterPod,
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
            ClaimName::AfterPod => None,
        }
    }

    /// The UID, if the claim exists.
    pub fn uid(&self) -> Option<&str> {
        match &self.name {
            ClaimName::Given { uid, .. } => uid.as_deref(),
            ClaimName::AfterPod => None,
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
