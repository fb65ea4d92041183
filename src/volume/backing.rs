//! What is behind a claim: its volume, or the one that its class will make for it.
//!
//! A claim is followed to its volume and back: the volume has to name the claim too, so that nobody reaches a volume
//! by writing its name into a claim. A claim that is not bound yet is planned from its class, because the pod keeps
//! the claim and cannot start before it is bound to just that volume.

use std::sync::Arc;

use super::{
    Catalog,
    attributes::SUB_PATH,
    class::{self, Planned},
    objects::{Claim, CsiSource, PersistentVolume, SecretReference, StorageClass},
    pattern::{ClaimFacts, SelectedNode},
    resolved::{ClaimIdentity, ClaimName, directory_of_ephemeral},
};
use crate::{
    map::Map,
    outcome::{Code, Miss, Refusal},
};

/// How annotations begin that say something to us.
const OURS: &str = "juicefs";
/// The annotation by which Kubernetes says who provisions a claim.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// A JuiceFS volume, as it is or as a class will make it.
#[derive(Clone, Debug)]
pub struct Backing {
    /// Name of the PersistentVolume; for an unbound claim the name it will get, as far as known; empty for an
    /// ephemeral volume.
    pub name: Arc<str>,
    /// The volume's handle; equals the name for dynamic volumes.
    pub handle: Arc<str>,
    /// The PersistentVolume's attributes; for an unbound claim the class's resolved parameters plus `subPath`.
    pub attributes: Map,
    /// Mount options of the PersistentVolume, or the class's resolved ones.
    pub mount_options: Arc<[Arc<str>]>,
    /// Whether the access modes of the PersistentVolume, or of the claim, allow nothing but reading.
    pub only_reads: bool,
    /// Where the user secret is.
    pub secret: SecretReference,
    /// Whether the claim is bound to an existing volume; otherwise everything was planned from its class.
    pub bound: bool,
}

/// A look for what is behind claims.
#[derive(Debug)]
pub struct Search<'a> {
    /// The storage objects.
    pub catalog: &'a Catalog,
    /// The name of our CSI driver.
    pub driver: &'a str,
    /// What was not known.
    pub misses: Vec<Miss>,
    /// Worth telling the user.
    pub warnings: Vec<String>,
}

/// Whether an annotation of a claim that is bound is ever read.
pub(super) fn is_read_of_bound_claim(annotation: &str) -> bool {
    annotation.starts_with(OURS) || annotation == PROVISIONER
}

impl<'a> Search<'a> {
    /// Nothing was looked for yet.
    pub fn new(catalog: &'a Catalog, driver: &'a str) -> Self {
        Self { catalog, driver, misses: Vec::new(), warnings: Vec::new() }
    }

    /// The JuiceFS volume behind a claim; `None` if there is another driver's, or nothing that is known.
    ///
    /// # Errors
    /// A claim that cannot be used as it is; never a claim that is not ours.
    pub fn behind(&mut self, claim: &Claim) -> Result<Option<(ClaimIdentity, Backing)>, Refusal> {
        let found = match &*claim.spec.volume_name {
            "" => self.unbound(claim)?,
            volume => self.bound(claim, volume)?,
        };
        if found.is_some() && claim.spec.block {
            return Err(Refusal::new(
                Code::PodUnsupported,
                format!("{}: spec.volumeMode", place(claim)),
                "a JuiceFS volume is a file system, not a block device",
                "make the claim with volumeMode: Filesystem",
            ));
        }
        Ok(found)
    }

    /// A claim that names its volume.
    fn bound(&mut self, claim: &Claim, name: &str) -> Result<Option<(ClaimIdentity, Backing)>, Refusal> {
        let Some(volume) = self.catalog.volume(name) else {
            self.misses.push(Miss::Volume { name: name.to_owned() });
            return if self.is_provisioned_by_us(claim) {
                Err(Refusal::new(
                    Code::VolumeNotThereYet,
                    place(claim),
                    format!("its persistentvolume \"{name}\" is not known"),
                    "wait until the volume exists, then create the pod again",
                ))
            } else {
                self.warnings.push(format!(
                    "{}: persistentvolume \"{name}\" is not known; taken for one that is not JuiceFS",
                    place(claim)
                ));
                Ok(None)
            };
        };
        self.existing(claim, volume)
    }

    /// An existing volume behind a claim, if it is ours.
    fn existing(
        &self,
        claim: &Claim,
        volume: &PersistentVolume,
    ) -> Result<Option<(ClaimIdentity, Backing)>, Refusal> {
        let Some(csi) = volume.spec.csi.as_ref().filter(|csi| *csi.driver == *self.driver) else {
            return Ok(None);
        };
        if !belongs_to(volume, claim) {
            return Err(Refusal::new(
                Code::VolumeOfAnotherClaim,
                place(claim),
                format!("persistentvolume \"{}\" belongs to another claim", volume.metadata.name),
                "name a volume that is free, or whose claimRef is this claim",
            ));
        }
        let Some(secret) = volume.secret().filter(|reference| !reference.name.is_empty()).cloned() else {
            return Err(Refusal::new(
                Code::SecretMissing,
                format!("persistentvolume \"{}\": spec.csi.nodePublishSecretRef", volume.metadata.name),
                "the volume names no secret, so there are no credentials to mount it with",
                "make the volume again with a nodePublishSecretRef",
            ));
        };
        let claim = identity(claim, claim.spec.storage_class_name.clone().unwrap_or_default());
        Ok(Some((claim, Backing::existing(volume, csi, secret))))
    }

    /// The class of a claim, if it is one of ours.
    pub(super) fn class(&mut self, name: Option<&str>) -> Option<Arc<StorageClass>> {
        let class = self.catalog.class_or_default(name);
        if let (None, Some(name)) = (class, name) {
            self.misses.push(Miss::Class { name: name.to_owned() });
        }
        class.filter(|class| *class.provisioner == *self.driver).cloned()
    }

    /// The class that a volume will be made by, if it is one of ours; whether one that is not known is, nobody knows.
    pub(super) fn class_to_come(&mut self, name: Option<&str>) -> Option<Arc<StorageClass>> {
        if let Some(name) = name.filter(|name| self.catalog.class(name).is_none()) {
            self.warnings.push(format!(
                "storageclass {name:?} is not known: if it is to be one of JuiceFS, create the pod again when it exists"
            ));
        }
        self.class(name)
    }

    /// A claim without a volume: one that is reserved for it, or one its class will make.
    fn unbound(&mut self, claim: &Claim) -> Result<Option<(ClaimIdentity, Backing)>, Refusal> {
        let metadata = &claim.metadata;
        if let Some(volume) = self.catalog.volume_reserved_for(&metadata.namespace, &metadata.name) {
            return self.existing(claim, volume);
        }
        if claim.spec.storage_class_name.as_deref() == Some("") {
            return self.waiting_for_a_static_volume(claim).map(|()| None);
        }
        let Some(class) = self.class_to_come(claim.spec.storage_class_name.as_deref()) else {
            return Ok(None);
        };
        let identity = identity(claim, Arc::clone(&class.metadata.name));
        let name: Option<Arc<str>> = identity.uid().map(|uid| format!("pvc-{uid}").into());
        let node = class::selected_node(&class, claim, self.catalog);
        let facts = ClaimFacts {
            name: Some(&metadata.name),
            shares_secret: false,
            namespace: &metadata.namespace,
            labels: &metadata.labels,
            annotations: &metadata.annotations,
            volume: name.as_deref(),
            node: node.as_deref().map_or_else(|| class::node(&class), SelectedNode::Known),
        };
        let planned = class::plan(&class, &facts, &mut self.warnings)?;
        if name.is_none() && !planned.attributes.contains_key(SUB_PATH) {
            return Err(Refusal::new(
                Code::ClaimUnusable,
                place(claim),
                "its volume's directory will be named after the claim's UID, which it does not have yet",
                "take the claim from the cluster (kubectl get pvc -o yaml), or set pathPattern in its class",
            ));
        }
        let name = name.unwrap_or_default();
        let directory = directory_of_ephemeral(claim).map_or_else(|| Arc::clone(&name), Arc::from);
        let attributes = planned.attributes.clone().with_default(SUB_PATH, &directory);
        let backing =
            Backing { attributes, ..Backing::planned(planned, name, claim.spec.access_modes.only_read()) };
        Ok(Some((identity, backing)))
    }

    /// A claim that will be bound by its selector: which volume it gets is not known before.
    fn waiting_for_a_static_volume(&self, claim: &Claim) -> Result<(), Refusal> {
        match self.catalog.free_volume_for(claim, self.driver) {
            Some(volume) => Err(Refusal::new(
                Code::VolumeNotThereYet,
                place(claim),
                format!(
                    "it is not bound yet, and JuiceFS volume \"{}\" may be the one it gets",
                    volume.metadata.name
                ),
                "wait until the claim is bound, or set its spec.volumeName",
            )),
            None => Ok(()),
        }
    }

    fn is_provisioned_by_us(&mut self, claim: &Claim) -> bool {
        let provisioner = claim.metadata.annotations.get(PROVISIONER);
        provisioner.is_some_and(|provisioner| **provisioner == *self.driver)
            || claim.spec.storage_class_name.as_deref().is_some_and(|name| self.class(Some(name)).is_some())
    }
}

impl Backing {
    /// A volume that exists.
    pub(super) fn existing(volume: &PersistentVolume, csi: &CsiSource, secret: SecretReference) -> Self {
        Self {
            name: Arc::clone(&volume.metadata.name),
            handle: Arc::clone(&csi.volume_handle),
            attributes: csi.volume_attributes.clone(),
            mount_options: Arc::clone(&volume.spec.mount_options),
            only_reads: volume.spec.access_modes.only_read(),
            secret,
            bound: true,
        }
    }

    /// A volume that does not exist yet.
    pub(super) fn planned(planned: Planned, name: Arc<str>, only_reads: bool) -> Self {
        Self {
            handle: Arc::clone(&name),
            name,
            attributes: planned.attributes,
            mount_options: planned.mount_options,
            only_reads,
            secret: planned.secret,
            bound: false,
        }
    }
}

/// Whether a volume is bound to, reserved for, or free to be bound to a claim that names it.
///
/// A free one is safe: the pod keeps the claim and cannot start before the claim is bound to this very volume.
fn belongs_to(volume: &PersistentVolume, claim: &Claim) -> bool {
    let Some(reference) = &volume.spec.claim_ref else {
        return claim.spec.storage_class_name.as_deref().unwrap_or_default()
            == &*volume.spec.storage_class_name;
    };
    let (wanted, actual) = (&reference.uid, &claim.metadata.uid);
    reference.namespace == claim.metadata.namespace
        && reference.name == claim.metadata.name
        && (wanted.is_empty() || actual.is_empty() || wanted == actual)
}

fn identity(claim: &Claim, class: Arc<str>) -> ClaimIdentity {
    let metadata = &claim.metadata;
    ClaimIdentity {
        namespace: Arc::clone(&metadata.namespace),
        name: ClaimName::Given {
            name: Arc::clone(&metadata.name),
            uid: Some(&metadata.uid).filter(|uid| !uid.is_empty()).cloned(),
        },
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.kept(|key| key.starts_with(OURS), Arc::clone),
        class,
    }
}

fn place(claim: &Claim) -> String {
    format!("persistentvolumeclaim \"{}/{}\"", claim.metadata.namespace, claim.metadata.name)
}
