//! From the volumes of a pod to the JuiceFS volumes behind them.

use super::objects::{Map, SecretReference};

/// One JuiceFS claim of a pod, with the volume behind it.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The pod's volumes that name this claim, in the order of the pod; never empty. All of them share one client.
    pub pod_volumes: Vec<PodVolume>,
    /// The claim.
    pub claim: ClaimIdentity,
    /// Name of the PersistentVolume; for an unbound claim the name it will get, empty for an ephemeral one.
    pub volume_name: String,
    /// The volume's handle; equals the name for dynamic volumes.
    pub volume_handle: String,
    /// The PersistentVolume's attributes; for an unbound claim the class's resolved parameters plus `subPath`.
    pub attributes: Map,
    /// Mount options of the PersistentVolume, or the class's resolved ones.
    pub mount_options: Vec<String>,
    /// Access modes of the PersistentVolume, or of the claim.
    pub access_modes: Vec<String>,
    /// The user secret.
    pub secret: SecretReference,
    /// Whether the claim is bound to an existing volume; otherwise everything was planned from its class.
    pub bound: bool,
    /// For a generic ephemeral volume without `pathPattern`: the pod volume its directory is named after.
    pub ephemeral_directory: Option<String>,
}

/// One entry of the pod's `volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodVolume {
    /// Index in `spec.volumes`.
    pub index: usize,
    /// The volume's name.
    pub name: String,
    /// Whether the claim is mounted read-only by the volume source itself.
    pub read_only: bool,
}

/// The claim as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct ClaimIdentity {
    /// The claim's (and pod's) namespace.
    pub namespace: String,
    /// Empty for a generic ephemeral volume: its claim is named after a pod that may not have a name yet.
    pub name: String,
    /// Empty for manifests that were never applied, and for generic ephemeral volumes.
    pub uid: String,
    /// Labels, for `pvcSelector`.
    pub labels: Map,
    /// Annotations, as far as tenants may set them.
    pub annotations: Map,
    /// The class, empty if none.
    pub class: String,
}

/// Finds the JuiceFS volumes of a pod. NB: being written.
pub fn resolve() {}
