//! Slim storage objects: the fields that are read, decoded straight from the API's JSON.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    identifier::{NAME_GRAMMAR, UID_GRAMMAR, is_name, is_uid},
    pod::bounded,
};

/// Labels, annotations, attributes and parameters.
pub type Map = BTreeMap<String, String>;

/// Object metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The object's name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Empty for cluster-wide objects.
    #[serde(deserialize_with = "name")]
    pub namespace: String,
    /// Empty in a manifest that was never applied.
    #[serde(deserialize_with = "uid")]
    pub uid: String,
    /// Labels.
    #[serde(deserialize_with = "bounded::map_or_empty::<4096, _, _, _>")]
    pub labels: Map,
    /// Annotations.
    #[serde(deserialize_with = "bounded::map_or_empty::<4096, _, _, _>")]
    pub annotations: Map,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Name, namespace, UID, labels, annotations.
    pub metadata: Metadata,
    /// What is asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: ClaimSpec,
}

/// Spec of a claim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSpec {
    /// `ReadWriteMany` and its like.
    #[serde(deserialize_with = "bounded::list_or_empty::<64, _, _>")]
    pub access_modes: Vec<String>,
    /// Absent: the default class. Empty: none, a volume is chosen by name.
    pub storage_class_name: Option<String>,
    /// The bound (or wanted) volume; empty while unbound.
    #[serde(deserialize_with = "or_default")]
    pub volume_name: String,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// Labels of the volumes that may be bound, for claims without a class.
    pub selector: Option<LabelSelector>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PersistentVolume {
    /// Name and UID.
    pub metadata: Metadata,
    /// The volume itself.
    #[serde(deserialize_with = "or_default")]
    pub spec: VolumeSpec,
}

/// Spec of a PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeSpec {
    /// `ReadOnlyMany` alone makes the mount read-only.
    #[serde(deserialize_with = "bounded::list_or_empty::<64, _, _>")]
    pub access_modes: Vec<String>,
    /// The claim the volume belongs to.
    pub claim_ref: Option<ClaimReference>,
    /// Absent for volumes of other kinds.
    pub csi: Option<CsiSource>,
    /// Mount options.
    #[serde(deserialize_with = "bounded::list_or_empty::<1024, _, _>")]
    pub mount_options: Vec<String>,
    /// The class the volume was made by; empty for static ones.
    #[serde(deserialize_with = "or_default")]
    pub storage_class_name: String,
}

/// `spec.claimRef`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimReference {
    /// The claim's namespace.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// The claim's name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Empty until the binding is complete.
    #[serde(deserialize_with = "or_default")]
    pub uid: String,
}

/// `spec.csi` of a PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CsiSource {
    /// Ours is `csi.juicefs.com` unless configured otherwise.
    #[serde(deserialize_with = "or_default")]
    pub driver: String,
    /// The volume's id.
    #[serde(deserialize_with = "or_default")]
    pub volume_handle: String,
    /// Settings of the client.
    #[serde(deserialize_with = "bounded::map_or_empty::<4096, _, _, _>")]
    pub volume_attributes: Map,
    /// The user secret.
    pub node_publish_secret_ref: Option<SecretReference>,
}

/// A secret by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SecretReference {
    /// The secret's namespace.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// The secret's name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// A StorageClass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageClass {
    /// Name and annotations.
    pub metadata: Metadata,
    /// The driver's name.
    #[serde(deserialize_with = "or_default")]
    pub provisioner: String,
    /// Settings and secret references, templates among them.
    #[serde(deserialize_with = "bounded::map_or_empty::<4096, _, _, _>")]
    pub parameters: Map,
    /// Mount options, templates among them.
    #[serde(deserialize_with = "bounded::list_or_empty::<1024, _, _>")]
    pub mount_options: Vec<String>,
    /// `Immediate` or `WaitForFirstConsumer`.
    #[serde(deserialize_with = "or_default")]
    pub volume_binding_mode: String,
}

impl StorageClass {
    /// Whether a claim of the class is bound only when a pod that uses it has been scheduled.
    pub fn waits_for_consumer(&self) -> bool {
        self.volume_binding_mode == "WaitForFirstConsumer"
    }
}

/// A Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name, labels and annotations.
    pub metadata: Metadata,
    /// Only the range of pod addresses is read.
    #[serde(deserialize_with = "or_default")]
    pub spec: NodeSpec,
    /// Only the kubelet's version is read.
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// Spec of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// For example `10.244.1.0/24`.
    #[serde(deserialize_with = "or_default", rename = "podCIDR")]
    pub pod_cidr: String,
}

/// Status of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// Versions of the software on the node.
    #[serde(deserialize_with = "or_default")]
    pub node_info: NodeInfo,
}

/// `status.nodeInfo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeInfo {
    /// For example `v1.36.2`.
    #[serde(deserialize_with = "or_default")]
    pub kubelet_version: String,
}

/// Reads a name, which becomes part of paths, commands and other names.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text: String = or_default(deserializer)?;
    if text.is_empty() || is_name(&text) {
        return Ok(text);
    }
    Err(D::Error::custom(format_args!("is not a name that Kubernetes takes ({NAME_GRAMMAR})")))
}

/// Reads a UID, which becomes part of paths, commands and names.
fn uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text: String = or_default(deserializer)?;
    if text.is_empty() || is_uid(&text) {
        return Ok(text);
    }
    Err(D::Error::custom(format_args!("is not a UID that Kubernetes gives ({UID_GRAMMAR})")))
}

/// Reads `null` as the default, as Kubernetes does.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
