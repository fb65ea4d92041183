//! From the volumes of a pod to the JuiceFS volumes behind them.
//!
//! A claim is followed to its volume and back: the volume has to name the claim too, so that nobody reaches a volume
//! by writing its name into a claim. A claim that is not bound yet is planned from its class, because the pod keeps
//! the claim and cannot start before it is bound to just that volume.

use std::sync::Arc;

use super::{
    Lookup, class,
    objects::{Claim, Map, PersistentVolume, SecretReference},
    pattern::{ClaimFacts, SelectedNode},
};
use crate::{
    outcome::{Code, Refusal},
    pod::{ClaimTemplate, Pod, Text, Volume},
};

/// How annotations begin that say something to us.
const OURS: &str = "juicefs";
/// The annotation by which Kubernetes says who provisions a claim.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// One JuiceFS claim of a pod, with the volume behind it.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The pod's volumes that name this claim, in the order of the pod; never empty. All of them share one client.
    pub pod_volumes: Vec<PodVolume>,
    /// The claim.
    pub claim: ClaimIdentity,
    /// Name of the PersistentVolume; for an unbound claim the name it will get, as far as known; empty for an
    /// ephemeral one.
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
    /// Its annotations that concern us, of which tenants may set some.
    pub annotations: Map,
    /// The class, empty if none.
    pub class: String,
}

/// What the volumes of a pod come to.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The JuiceFS volumes that a container mounts.
    pub volumes: Vec<Resolved>,
    /// Claims that do not exist.
    pub missing: Vec<String>,
    /// Worth telling the user.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// The claim as messages call it.
    pub fn describe(&self) -> String {
        match (self.claim.name.as_str(), self.pod_volumes.first()) {
            ("", Some(volume)) => format!("ephemeral volume \"{}\"", volume.name),
            (name, _) => format!("persistentvolumeclaim \"{}/{name}\"", self.claim.namespace),
        }
    }
}

/// Finds the JuiceFS volumes of a pod in `namespace`, by the name of our CSI driver.
///
/// # Errors
/// A claim that cannot be used as the pod uses it; never a claim that is not ours.
pub fn resolve(
    pod: &Pod<'_>,
    namespace: &str,
    lookup: &dyn Lookup,
    driver: &str,
) -> Result<Resolution, Refusal> {
    let mut resolver = Resolver { namespace, lookup, driver, resolution: Resolution::default() };
    for (index, volume) in pod.spec.volumes.iter().flatten().enumerate() {
        resolver.volume(index, volume)?;
    }
    let Resolver { mut resolution, .. } = resolver;
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller);
    if let ([name, ..], Some(owner)) = (resolution.missing.as_slice(), owner) {
        return Err(Refusal::new(
            Code::ClaimNotThereYet,
            format!("persistentvolumeclaim \"{namespace}/{name}\""),
            "it does not exist (yet)",
            format!("create the claim; {} \"{}\" will try again", owner.kind.to_lowercase(), owner.name),
        ));
    }
    for name in &resolution.missing {
        resolution.warnings.push(format!(
            "persistentvolumeclaim \"{namespace}/{name}\" does not exist: if it becomes a JuiceFS claim, create the pod \
             again"
        ));
    }
    drop_unmounted(pod, &mut resolution);
    Ok(resolution)
}

/// A volume that no container mounts needs no client.
fn drop_unmounted(pod: &Pod<'_>, resolution: &mut Resolution) {
    let used = |volume: &PodVolume| {
        pod.spec.all_containers().any(|container| {
            container.volume_mounts.iter().flatten().any(|mount| *mount.name == *volume.name)
                || container.volume_devices.iter().flatten().any(|device| *device.name == *volume.name)
        })
    };
    let (volumes, unused) = std::mem::take(&mut resolution.volumes)
        .into_iter()
        .partition(|one: &Resolved| one.pod_volumes.iter().any(used));
    resolution.volumes = volumes;
    for resolved in unused {
        resolution
            .warnings
            .push(format!("{} is not mounted by any container, so it gets no client", resolved.describe()));
    }
}

struct Resolver<'a> {
    namespace: &'a str,
    lookup: &'a dyn Lookup,
    driver: &'a str,
    resolution: Resolution,
}

impl Resolver<'_> {
    fn volume(&mut self, index: usize, volume: &Volume<'_>) -> Result<(), Refusal> {
        if let Some(source) = &volume.persistent_volume_claim {
            let entry = PodVolume { index, name: volume.name.to_string(), read_only: source.read_only };
            return self.claim_volume(entry, &source.claim_name);
        }
        if let Some(template) =
            volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref())
        {
            let entry = PodVolume { index, name: volume.name.to_string(), read_only: false };
            return self.ephemeral_volume(entry, template);
        }
        match &volume.csi {
            Some(source) if *source.driver == *self.driver => Err(Refusal::new(
                Code::PodUnsupported,
                format!("spec.volumes[{index}] \"{}\": csi", volume.name),
                "JuiceFS has no inline volumes",
                "use a persistentVolumeClaim, or a generic ephemeral volume",
            )),
            _ => Ok(()),
        }
    }

    fn claim_volume(&mut self, entry: PodVolume, name: &str) -> Result<(), Refusal> {
        if let Some(known) = self.resolution.volumes.iter_mut().find(|known| known.claim.name == name) {
            known.pod_volumes.push(entry);
            return Ok(());
        }
        let Some(claim) = self.lookup.claim(self.namespace, name) else {
            if !self.resolution.missing.iter().any(|missing| missing == name) {
                self.resolution.missing.push(name.to_owned());
            }
            return Ok(());
        };
        let resolved = match claim.spec.volume_name.as_str() {
            "" => self.unbound(&claim)?,
            volume => self.bound(&claim, volume)?,
        };
        if let Some(mut resolved) = resolved {
            if claim.spec.volume_mode.as_deref() == Some("Block") {
                return Err(Refusal::new(
                    Code::PodUnsupported,
                    format!("{}: spec.volumeMode", resolved.describe()),
                    "a JuiceFS volume is a file system, not a block device",
                    "make the claim with volumeMode: Filesystem",
                ));
            }
            resolved.pod_volumes.push(entry);
            self.resolution.volumes.push(resolved);
        }
        Ok(())
    }

    /// A claim that names its volume.
    fn bound(&mut self, claim: &Claim, name: &str) -> Result<Option<Resolved>, Refusal> {
        let Some(volume) = self.lookup.volume(name) else {
            return if self.is_provisioned_by_us(claim) {
                Err(Refusal::new(
                    Code::VolumeNotThereYet,
                    claim_place(claim),
                    format!("its persistentvolume \"{name}\" is not known"),
                    "wait until the volume exists, then create the pod again",
                ))
            } else {
                self.resolution.warnings.push(format!(
                    "{}: persistentvolume \"{name}\" is not known; taken for one that is not JuiceFS",
                    claim_place(claim)
                ));
                Ok(None)
            };
        };
        self.existing(claim, &volume)
    }

    /// An existing volume behind a claim, if it is ours.
    fn existing(&self, claim: &Claim, volume: &Arc<PersistentVolume>) -> Result<Option<Resolved>, Refusal> {
        let Some(csi) = volume.spec.csi.as_ref().filter(|csi| csi.driver == self.driver) else {
            return Ok(None);
        };
        if !belongs_to(volume, claim) {
            return Err(Refusal::new(
                Code::VolumeOfAnotherClaim,
                claim_place(claim),
                format!("persistentvolume \"{}\" belongs to another claim", volume.metadata.name),
                "name a volume that is free, or whose claimRef is this claim",
            ));
        }
        let Some(secret) = csi.node_publish_secret_ref.clone().filter(|reference| !reference.name.is_empty())
        else {
            return Err(Refusal::new(
                Code::SecretMissing,
                format!("persistentvolume \"{}\": spec.csi.nodePublishSecretRef", volume.metadata.name),
                "the volume names no secret, so there are no credentials to mount it with",
                "make the volume again with a nodePublishSecretRef",
            ));
        };
        Ok(Some(Resolved {
            claim: identity(claim),
            volume_name: volume.metadata.name.clone(),
            volume_handle: csi.volume_handle.clone(),
            attributes: csi.volume_attributes.clone(),
            mount_options: volume.spec.mount_options.clone(),
            access_modes: volume.spec.access_modes.clone(),
            secret,
            bound: true,
            ..Resolved::default()
        }))
    }

    /// A claim without a volume: one that is reserved for it, or one its class will make.
    fn unbound(&mut self, claim: &Claim) -> Result<Option<Resolved>, Refusal> {
        let metadata = &claim.metadata;
        if let Some(volume) = self.lookup.volume_reserved_for(&metadata.namespace, &metadata.name) {
            return self.existing(claim, &volume);
        }
        if claim.spec.storage_class_name.as_deref() == Some("") {
            return self.waiting_for_a_static_volume(claim);
        }
        let class = match &claim.spec.storage_class_name {
            Some(name) => self.lookup.class(name),
            None => self.lookup.default_class(),
        };
        let Some(class) = class.filter(|class| class.provisioner == self.driver) else { return Ok(None) };
        let name = Some(metadata.uid.as_str()).filter(|uid| !uid.is_empty()).map(|uid| format!("pvc-{uid}"));
        let node = class::selected_node(&class, claim, self.lookup);
        let facts = ClaimFacts {
            name: Some(&metadata.name),
            namespace: &metadata.namespace,
            labels: &metadata.labels,
            annotations: &metadata.annotations,
            volume: name.as_deref(),
            node: node.as_ref().map_or_else(|| class::node(&class), SelectedNode::Known),
        };
        let mut resolved = class::plan(&class, &facts, &mut self.resolution.warnings)?;
        resolved.claim = ClaimIdentity { class: class.metadata.name.clone(), ..identity(claim) };
        resolved.access_modes.clone_from(&claim.spec.access_modes);
        if name.is_none() && !resolved.attributes.contains_key("subPath") {
            return Err(Refusal::new(
                Code::ClaimUnusable,
                claim_place(claim),
                "its volume's directory will be named after the claim's UID, which it does not have yet",
                "take the claim from the cluster (kubectl get pvc -o yaml), or set pathPattern in its class",
            ));
        }
        let name = name.unwrap_or_default();
        resolved.attributes.entry("subPath".to_owned()).or_insert_with(|| name.clone());
        resolved.volume_handle.clone_from(&name);
        resolved.volume_name = name;
        Ok(Some(resolved))
    }

    /// A claim that will be bound by its selector: which volume it gets is not known before.
    fn waiting_for_a_static_volume(&mut self, claim: &Claim) -> Result<Option<Resolved>, Refusal> {
        match self.lookup.free_volume_for(claim, self.driver) {
            Some(volume) => Err(Refusal::new(
                Code::VolumeNotThereYet,
                claim_place(claim),
                format!(
                    "it is not bound yet, and JuiceFS volume \"{}\" may be the one it gets",
                    volume.metadata.name
                ),
                "wait until the claim is bound, or set its spec.volumeName",
            )),
            None => Ok(None),
        }
    }

    fn ephemeral_volume(&mut self, entry: PodVolume, template: &ClaimTemplate<'_>) -> Result<(), Refusal> {
        let class = match template.spec.storage_class_name.as_deref() {
            Some(name) => self.lookup.class(name),
            None => self.lookup.default_class(),
        };
        let Some(class) = class.filter(|class| class.provisioner == self.driver) else { return Ok(()) };
        let claim = ClaimIdentity {
            namespace: self.namespace.to_owned(),
            labels: owned(template.metadata.labels.as_ref()),
            annotations: owned(template.metadata.annotations.as_ref()),
            class: class.metadata.name.clone(),
            ..ClaimIdentity::default()
        };
        let facts = ClaimFacts {
            name: None,
            namespace: self.namespace,
            labels: &claim.labels,
            annotations: &claim.annotations,
            volume: None,
            node: class::node(&class),
        };
        let mut resolved = class::plan(&class, &facts, &mut self.resolution.warnings)?;
        if !resolved.attributes.contains_key("subPath") {
            resolved.ephemeral_directory = Some(entry.name.clone());
        }
        resolved.claim = claim;
        resolved.access_modes = template.spec.access_modes.iter().map(ToString::to_string).collect();
        resolved.pod_volumes.push(entry);
        self.resolution.volumes.push(resolved);
        Ok(())
    }

    fn is_provisioned_by_us(&self, claim: &Claim) -> bool {
        let class = claim.spec.storage_class_name.as_ref().and_then(|name| self.lookup.class(name));
        class.is_some_and(|class| class.provisioner == self.driver)
            || claim
                .metadata
                .annotations
                .get(PROVISIONER)
                .is_some_and(|provisioner| provisioner == self.driver)
    }
}

/// Whether a volume is bound to, reserved for, or free to be bound to a claim that names it.
///
/// A free one is safe: the pod keeps the claim and cannot start before the claim is bound to this very volume.
fn belongs_to(volume: &PersistentVolume, claim: &Claim) -> bool {
    let Some(reference) = &volume.spec.claim_ref else {
        return claim.spec.storage_class_name.as_deref().unwrap_or_default()
            == volume.spec.storage_class_name;
    };
    let (wanted, actual) = (&reference.uid, &claim.metadata.uid);
    reference.namespace == claim.metadata.namespace
        && reference.name == claim.metadata.name
        && (wanted.is_empty() || actual.is_empty() || wanted == actual)
}

fn identity(claim: &Claim) -> ClaimIdentity {
    ClaimIdentity {
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        labels: claim.metadata.labels.clone(),
        annotations: claim
            .metadata
            .annotations
            .iter()
            .filter(|(key, _)| key.starts_with(OURS))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        class: claim.spec.storage_class_name.clone().unwrap_or_default(),
    }
}

fn owned(map: Option<&std::collections::BTreeMap<Text<'_>, Text<'_>>>) -> Map {
    map.into_iter().flatten().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn claim_place(claim: &Claim) -> String {
    format!("persistentvolumeclaim \"{}/{}\"", claim.metadata.namespace, claim.metadata.name)
}
