//! Slim storage objects: the fields that are read, decoded straight from the API's JSON.

mod access;
mod bytes;

use std::{num::NonZero, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};

pub use self::access::AccessModes;
pub use super::node::{Node, NodeInfo, NodeSpec, NodeStatus, Taint};
use super::{SecretError, UserSecret};
use crate::{
    identifier::{NAME_GRAMMAR, UID_GRAMMAR, is_name, is_uid},
    map::Map,
    pod::{Text, bounded, lenient::or_default},
};

/// Object metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The object's name.
    #[serde(deserialize_with = "name")]
    pub name: Arc<str>,
    /// Empty for cluster-wide objects.
    #[serde(deserialize_with = "name")]
    pub namespace: Arc<str>,
    /// Empty in a manifest that was never applied.
    #[serde(deserialize_with = "uid")]
    pub uid: Arc<str>,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: Map,
    /// Annotations.
    #[serde(deserialize_with = "or_default")]
    pub annotations: Map,
    /// The pod that controls it, of a claim that was made for a generic ephemeral volume.
    #[serde(deserialize_with = "controlling_pod", rename = "ownerReferences")]
    pub pod: Option<Box<PodReference>>,
    /// Where a watch goes on from; not kept.
    #[serde(deserialize_with = "or_default", rename = "resourceVersion")]
    pub resource_version: Arc<str>,
    /// RFC 3339 in UTC, so that text order is time order; empty in a manifest that was never applied.
    #[serde(deserialize_with = "or_default", rename = "creationTimestamp")]
    pub created: Arc<str>,
    /// Whether it is being deleted, and finalizers keep it.
    #[serde(deserialize_with = "is_there", rename = "deletionTimestamp")]
    pub deleting: bool,
}

/// A pod, by what never changes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodReference {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Name, namespace, UID, labels, annotations.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What is asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: ClaimSpec,
    /// What there is.
    #[serde(deserialize_with = "or_default")]
    pub status: ClaimStatus,
}

/// Status of a claim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimStatus {
    /// Bytes that its user may count on; `None` while it is not bound.
    #[serde(deserialize_with = "bytes::storage", rename = "capacity")]
    pub bytes: Option<NonZero<u64>>,
}

/// Spec of a claim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSpec {
    /// Who may do what at the same time.
    #[serde(deserialize_with = "or_default")]
    pub access_modes: AccessModes,
    /// Absent: the default class. Empty: none, a volume is chosen by name.
    pub storage_class_name: Option<Arc<str>>,
    /// The bound (or wanted) volume; empty while unbound.
    #[serde(deserialize_with = "or_default")]
    pub volume_name: Arc<str>,
    /// Whether a block device is wanted and not a file system.
    #[serde(deserialize_with = "is_block", rename = "volumeMode")]
    pub block: bool,
    /// What it is to begin with, if not empty.
    pub data_source: Option<Box<DataSource>>,
    /// See [`Self::data_source`]; the newer field of the two.
    pub data_source_ref: Option<Box<DataSource>>,
    /// Labels of the volumes that may be bound, for claims without a class.
    pub selector: Option<LabelSelector>,
    /// Bytes that are asked for.
    #[serde(deserialize_with = "bytes::requested", rename = "resources")]
    pub bytes: Option<NonZero<u64>>,
}

/// What a claim begins with: another claim, a snapshot, or something of anybody's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataSource {
    /// Empty for a claim.
    #[serde(deserialize_with = "or_default")]
    pub api_group: Arc<str>,
    /// Its kind.
    #[serde(deserialize_with = "or_default")]
    pub kind: Arc<str>,
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub name: Arc<str>,
    /// Where it is, if not where the claim is.
    #[serde(deserialize_with = "or_default")]
    pub namespace: Arc<str>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PersistentVolume {
    /// Name and UID.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// The volume itself.
    #[serde(deserialize_with = "or_default")]
    pub spec: VolumeSpec,
    /// Whether a claim has it.
    #[serde(deserialize_with = "or_default")]
    pub status: VolumeStatus,
}

impl PersistentVolume {
    /// The user secret, if the volume names one.
    pub fn secret(&self) -> Option<&SecretReference> {
        self.spec.csi.as_ref()?.node_publish_secret_ref.as_ref()
    }
}

/// Status of a PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VolumeStatus {
    /// Where in its life it is.
    #[serde(deserialize_with = "or_default")]
    pub phase: VolumePhase,
}

/// Phases of a PersistentVolume, as far as something follows from them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum VolumePhase {
    /// Its claim is gone.
    Released,
    /// As before, and somebody tried in vain to remove it.
    Failed,
    /// Any other, or none that is known.
    #[default]
    #[serde(other)]
    Other,
}

/// Spec of a PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeSpec {
    /// Who may do what at the same time.
    #[serde(deserialize_with = "or_default")]
    pub access_modes: AccessModes,
    /// The claim the volume belongs to.
    pub claim_ref: Option<ClaimReference>,
    /// Absent for volumes of other kinds.
    pub csi: Option<CsiSource>,
    /// Mount options.
    #[serde(deserialize_with = "texts")]
    pub mount_options: Arc<[Arc<str>]>,
    /// The class the volume was made by; empty for static ones.
    #[serde(deserialize_with = "or_default")]
    pub storage_class_name: Arc<str>,
    /// Whether it goes when its claim is gone.
    #[serde(deserialize_with = "is_delete", rename = "persistentVolumeReclaimPolicy")]
    pub is_deleted_with_claim: bool,
}

/// `spec.claimRef`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimReference {
    /// The claim's namespace.
    #[serde(deserialize_with = "or_default")]
    pub namespace: Arc<str>,
    /// The claim's name.
    #[serde(deserialize_with = "or_default")]
    pub name: Arc<str>,
    /// Empty until the binding is complete.
    #[serde(deserialize_with = "or_default")]
    pub uid: Arc<str>,
}

/// `spec.csi` of a PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CsiSource {
    /// Ours is `csi.juicefs.com` unless configured otherwise.
    #[serde(deserialize_with = "or_default")]
    pub driver: Arc<str>,
    /// The volume's id.
    #[serde(deserialize_with = "or_default")]
    pub volume_handle: Arc<str>,
    /// Settings of the client.
    #[serde(deserialize_with = "or_default")]
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
    pub namespace: Arc<str>,
    /// The secret's name.
    #[serde(deserialize_with = "or_default")]
    pub name: Arc<str>,
}

/// A StorageClass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageClass {
    /// Name, annotations and age.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// The driver's name.
    #[serde(deserialize_with = "or_default")]
    pub provisioner: Arc<str>,
    /// Settings and secret references, templates among them.
    #[serde(deserialize_with = "or_default")]
    pub parameters: Map,
    /// Mount options, templates among them.
    #[serde(deserialize_with = "texts")]
    pub mount_options: Arc<[Arc<str>]>,
    /// `Immediate` or `WaitForFirstConsumer`.
    #[serde(deserialize_with = "or_default")]
    pub volume_binding_mode: Arc<str>,
    /// `Delete`, which is the default, or `Retain`.
    #[serde(deserialize_with = "or_default")]
    pub reclaim_policy: Arc<str>,
    /// Whether there are `allowedTopologies`.
    #[serde(deserialize_with = "has_some", rename = "allowedTopologies")]
    pub has_topologies: bool,
}

/// Annotations that make a class the default, as the API server reads them.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

impl StorageClass {
    /// Whether claims that name no class are of this one, if it is the newest that says so.
    pub fn is_default(&self) -> bool {
        DEFAULT_CLASS.iter().any(|key| self.metadata.annotations.get(key).is_some_and(|set| &**set == "true"))
    }

    /// Whether a claim of the class is bound only when a pod that uses it has been scheduled.
    pub fn waits_for_consumer(&self) -> bool {
        &*self.volume_binding_mode == "WaitForFirstConsumer"
    }
}

/// A Namespace: its labels say whether pods get clients.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
}

/// A user secret, of which only facts are kept.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The secret's namespace.
    pub namespace: Arc<str>,
    /// The secret's name.
    pub name: Arc<str>,
    /// What it says, or why it says nothing.
    pub facts: Result<Arc<UserSecret>, SecretError>,
}

fn controlling_pod<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<PodReference>>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Owner<'a> {
        #[serde(borrow, deserialize_with = "or_default")]
        kind: Text<'a>,
        #[serde(deserialize_with = "or_default")]
        controller: bool,
        #[serde(deserialize_with = "or_default")]
        name: Text<'a>,
        #[serde(deserialize_with = "or_default")]
        uid: Text<'a>,
    }
    impl bounded::Element for Owner<'_> {}
    let owners: Vec<Owner<'de>> = bounded::list_or_empty::<64, _, _>(deserializer)?;
    let is_pod = |owner: &Owner<'_>| &*owner.kind == "Pod" && is_name(&owner.name) && is_uid(&owner.uid);
    let pod = owners.iter().find(|owner| owner.controller && is_pod(owner));
    Ok(pod.map(|owner| Box::new(PodReference { name: (*owner.name).into(), uid: (*owner.uid).into() })))
}

fn is_block<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<Text<'de>>::deserialize(deserializer)?.is_some_and(|mode| &*mode == "Block"))
}

fn is_delete<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<Text<'de>>::deserialize(deserializer)?.is_some_and(|policy| &*policy == "Delete"))
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

fn has_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<Vec<IgnoredAny>>::deserialize(deserializer)?.is_some_and(|list| !list.is_empty()))
}

/// Reads a list of texts.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Arc<str>]>, D::Error> {
    let texts: Vec<Text<'de>> = bounded::list_or_empty::<1024, _, _>(deserializer)?;
    Ok(texts.iter().map(|text| Arc::from(&**text)).collect())
}

/// Reads a name, which becomes part of paths, commands and other names.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    let text: Arc<str> = or_default(deserializer)?;
    if text.is_empty() || is_name(&text) {
        return Ok(text);
    }
    Err(D::Error::custom(format_args!("is not a name that Kubernetes takes ({NAME_GRAMMAR})")))
}

/// Reads a UID, which becomes part of paths, commands and names.
fn uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    let text: Arc<str> = or_default(deserializer)?;
    if text.is_empty() || is_uid(&text) {
        return Ok(text);
    }
    Err(D::Error::custom(format_args!("is not a UID that Kubernetes gives ({UID_GRAMMAR})")))
}
