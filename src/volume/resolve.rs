//! From the volumes of a pod to the JuiceFS volumes behind them.
//!
//! A claim is followed to its volume and back: the volume has to name the claim too, so that nobody reaches a volume
//! by writing its name into a claim. A claim that is not bound yet is planned from its class, because the pod keeps
//! the claim and cannot start before it is bound to just that volume.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Catalog, UserSecret,
    attributes::SUB_PATH,
    by_name::ByName,
    class,
    objects::{Claim, PersistentVolume, StorageClass},
    pattern::{ClaimFacts, SelectedNode},
    resolved::{ClaimIdentity, ClaimName, PodVolume, Resolved},
};
use crate::{
    map::Map,
    outcome::{Code, Miss, Refusal},
    pod::{ClaimTemplate, Pod, Text, Volume},
};

/// How annotations begin that say something to us.
const OURS: &str = "juicefs";
/// The annotation by which Kubernetes says who provisions a claim.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// What the volumes of a pod come to.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The JuiceFS volumes that a container mounts, each with what its user secret says.
    pub volumes: Vec<(Resolved, Arc<UserSecret>)>,
    /// Claims that do not exist.
    pub missing: Vec<String>,
    /// What was not known.
    pub misses: Vec<Miss>,
    /// Worth telling the user.
    pub warnings: Vec<String>,
}

/// Whether an annotation of a claim that is bound is ever read.
pub(super) fn is_read_of_bound_claim(annotation: &str) -> bool {
    annotation.starts_with(OURS) || annotation == PROVISIONER
}

/// Finds the JuiceFS volumes of a pod in `namespace`, by the name of our CSI driver.
///
/// # Errors
/// A claim that cannot be used as the pod uses it; never a claim that is not ours.
pub fn resolve(
    pod: &Pod<'_>,
    namespace: &str,
    catalog: &Catalog,
    driver: &str,
) -> Result<Resolution, Refusal> {
    let resolver = Resolver {
        namespace: namespace.into(),
        catalog,
        driver,
        volumes: Vec::new(),
        resolution: Resolution::default(),
    };
    resolver.resolve(pod)
}

/// The pod's volumes by name, each with the place of its claim in `resolved`.
pub(crate) fn by_name<'a>(
    resolved: impl IntoIterator<Item = &'a Resolved>,
) -> ByName<'a, (usize, &'a PodVolume)> {
    let numbered = resolved.into_iter().enumerate();
    let volumes =
        numbered.flat_map(|(number, one)| one.pod_volumes.iter().map(move |volume| (number, volume)));
    volumes.map(|(number, volume)| (volume.name.as_str(), (number, volume))).collect()
}

/// Which of the claims a container mounts.
fn mounted(pod: &Pod<'_>, resolved: &[Resolved]) -> Vec<bool> {
    let (volumes, mut mounted) = (by_name(resolved), vec![false; resolved.len()]);
    for container in pod.spec.all_containers() {
        let mounts = container.volume_mounts.iter().flatten().map(|mount| &mount.name);
        let devices = container.volume_devices.iter().flatten().map(|device| &device.name);
        for (number, _) in mounts.chain(devices).filter_map(|name| volumes.get(name)) {
            mounted[*number] = true;
        }
    }
    mounted
}

struct Resolver<'a> {
    namespace: Arc<str>,
    catalog: &'a Catalog,
    driver: &'a str,
    /// What was found so far, mounted or not.
    volumes: Vec<Resolved>,
    resolution: Resolution,
}

impl Resolver<'_> {
    fn resolve(mut self, pod: &Pod<'_>) -> Result<Resolution, Refusal> {
        let outcome = self.volumes(pod);
        let Self { mut resolution, .. } = self;
        match outcome {
            Ok(()) => Ok(resolution),
            Err(refusal) => Err(refusal.for_want_of(std::mem::take(&mut resolution.misses))),
        }
    }

    fn volumes(&mut self, pod: &Pod<'_>) -> Result<(), Refusal> {
        for (index, volume) in pod.spec.volumes.iter().flatten().enumerate() {
            self.volume(index, volume)?;
        }
        self.missing(pod)?;
        if self.volumes.is_empty() {
            return Ok(());
        }
        let mut needed = Vec::with_capacity(self.volumes.len());
        let mounted = mounted(pod, &self.volumes);
        for (resolved, mounted) in std::mem::take(&mut self.volumes).into_iter().zip(mounted) {
            if mounted {
                needed.push(resolved);
            } else {
                let what = resolved.describe();
                self.warn(format!("{what} is not mounted by any container, so it gets no client"));
            }
        }
        self.secrets(needed)
    }

    fn warn(&mut self, what: String) {
        self.resolution.warnings.push(what);
    }

    /// What becomes of claims that do not exist.
    fn missing(&mut self, pod: &Pod<'_>) -> Result<(), Refusal> {
        let namespace = Arc::clone(&self.namespace);
        let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller);
        if let ([name, ..], Some(owner)) = (self.resolution.missing.as_slice(), owner) {
            return Err(Refusal::new(
                Code::ClaimNotThereYet,
                format!("persistentvolumeclaim \"{namespace}/{name}\""),
                "it does not exist (yet)",
                format!("create the claim; {} \"{}\" will try again", owner.kind.to_lowercase(), owner.name),
            ));
        }
        let warning = |name: &String| {
            format!(
                "persistentvolumeclaim \"{namespace}/{name}\" does not exist: if it becomes a JuiceFS claim, create \
                 the pod again"
            )
        };
        let warnings: Vec<_> = self.resolution.missing.iter().map(warning).collect();
        self.resolution.warnings.extend(warnings);
        Ok(())
    }

    /// Finds the user secret of each volume; the first that cannot be used is the refusal.
    fn secrets(&mut self, volumes: Vec<Resolved>) -> Result<(), Refusal> {
        let mut refusal = None;
        for resolved in volumes {
            let reference = &resolved.secret;
            let place = || format!("secret \"{}/{}\"", reference.namespace, reference.name);
            let unusable = match self.catalog.user_secret(&reference.namespace, &reference.name) {
                Some(Ok(secret)) => {
                    self.resolution.volumes.push((resolved, Arc::clone(secret)));
                    continue;
                }
                Some(Err(error)) => Refusal::new(
                    Code::SecretInvalid,
                    place(),
                    error.to_string(),
                    "correct the secret; pods created afterwards will use it",
                ),
                None => {
                    self.resolution.misses.push(Miss::Secret {
                        namespace: reference.namespace.to_string(),
                        name: reference.name.to_string(),
                    });
                    Refusal::new(
                        Code::SecretMissing,
                        place(),
                        format!("it does not exist, and {} needs it", resolved.describe()),
                        "create the secret, or correct the reference to it",
                    )
                }
            };
            refusal.get_or_insert(unusable);
        }
        refusal.map_or(Ok(()), Err)
    }

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
        if let Some(known) = self.volumes.iter_mut().find(|known| known.claim.name() == Some(name)) {
            known.pod_volumes.push(entry);
            return Ok(());
        }
        let Some(claim) = self.catalog.claim(&self.namespace, name) else {
            if !self.resolution.missing.iter().any(|missing| missing == name) {
                self.resolution.missing.push(name.to_owned());
                let namespace = self.namespace.to_string();
                self.resolution.misses.push(Miss::Claim { namespace, name: name.to_owned() });
            }
            return Ok(());
        };
        let resolved = match &*claim.spec.volume_name {
            "" => self.unbound(entry, claim)?,
            volume => self.bound(entry, claim, volume)?,
        };
        if let Some(resolved) = resolved {
            if claim.spec.block {
                return Err(Refusal::new(
                    Code::PodUnsupported,
                    format!("{}: spec.volumeMode", resolved.describe()),
                    "a JuiceFS volume is a file system, not a block device",
                    "make the claim with volumeMode: Filesystem",
                ));
            }
            self.volumes.push(resolved);
        }
        Ok(())
    }

    /// A claim that names its volume.
    fn bound(&mut self, entry: PodVolume, claim: &Claim, name: &str) -> Result<Option<Resolved>, Refusal> {
        let Some(volume) = self.catalog.volume(name) else {
            self.resolution.misses.push(Miss::Volume { name: name.to_owned() });
            return if self.is_provisioned_by_us(claim) {
                Err(Refusal::new(
                    Code::VolumeNotThereYet,
                    claim_place(claim),
                    format!("its persistentvolume \"{name}\" is not known"),
                    "wait until the volume exists, then create the pod again",
                ))
            } else {
                self.warn(format!(
                    "{}: persistentvolume \"{name}\" is not known; taken for one that is not JuiceFS",
                    claim_place(claim)
                ));
                Ok(None)
            };
        };
        self.existing(entry, claim, volume)
    }

    /// An existing volume behind a claim, if it is ours.
    fn existing(
        &self,
        entry: PodVolume,
        claim: &Claim,
        volume: &PersistentVolume,
    ) -> Result<Option<Resolved>, Refusal> {
        let Some(csi) = volume.spec.csi.as_ref().filter(|csi| *csi.driver == *self.driver) else {
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
            pod_volumes: entry.into(),
            claim: identity(claim, claim.spec.storage_class_name.clone().unwrap_or_default()),
            volume_name: Arc::clone(&volume.metadata.name),
            volume_handle: Arc::clone(&csi.volume_handle),
            attributes: csi.volume_attributes.clone(),
            mount_options: Arc::clone(&volume.spec.mount_options),
            only_reads: volume.spec.only_reads,
            secret,
            bound: true,
            ephemeral_directory: None,
        }))
    }

    /// The class of a claim, if it is one of ours.
    fn class(&mut self, name: Option<&str>) -> Option<Arc<StorageClass>> {
        let class = self.catalog.class_or_default(name);
        if let (None, Some(name)) = (class, name) {
            self.resolution.misses.push(Miss::Class { name: name.to_owned() });
        }
        class.filter(|class| *class.provisioner == *self.driver).cloned()
    }

    /// A claim without a volume: one that is reserved for it, or one its class will make.
    fn unbound(&mut self, entry: PodVolume, claim: &Claim) -> Result<Option<Resolved>, Refusal> {
        let metadata = &claim.metadata;
        if let Some(volume) = self.catalog.volume_reserved_for(&metadata.namespace, &metadata.name) {
            return self.existing(entry, claim, volume);
        }
        if claim.spec.storage_class_name.as_deref() == Some("") {
            return self.waiting_for_a_static_volume(claim);
        }
        let Some(class) = self.class(claim.spec.storage_class_name.as_deref()) else { return Ok(None) };
        let identity = identity(claim, Arc::clone(&class.metadata.name));
        let name: Option<Arc<str>> = identity.uid().map(|uid| format!("pvc-{uid}").into());
        let node = class::selected_node(&class, claim, self.catalog);
        let facts = ClaimFacts {
            name: Some(&metadata.name),
            namespace: &metadata.namespace,
            labels: &metadata.labels,
            annotations: &metadata.annotations,
            volume: name.as_deref(),
            node: node.as_deref().map_or_else(|| class::node(&class), SelectedNode::Known),
        };
        let planned = class::plan(&class, &facts, &mut self.resolution.warnings)?;
        if name.is_none() && !planned.attributes.contains_key(SUB_PATH) {
            return Err(Refusal::new(
                Code::ClaimUnusable,
                claim_place(claim),
                "its volume's directory will be named after the claim's UID, which it does not have yet",
                "take the claim from the cluster (kubectl get pvc -o yaml), or set pathPattern in its class",
            ));
        }
        let name = name.unwrap_or_default();
        Ok(Some(Resolved {
            pod_volumes: entry.into(),
            claim: identity,
            attributes: planned.attributes.with_default(SUB_PATH, &name),
            volume_handle: Arc::clone(&name),
            volume_name: name,
            mount_options: planned.mount_options,
            only_reads: claim.spec.only_reads,
            secret: planned.secret,
            bound: false,
            ephemeral_directory: None,
        }))
    }

    /// A claim that will be bound by its selector: which volume it gets is not known before.
    fn waiting_for_a_static_volume(&mut self, claim: &Claim) -> Result<Option<Resolved>, Refusal> {
        match self.catalog.free_volume_for(claim, self.driver) {
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
        let Some(class) = self.class(template.spec.storage_class_name.as_deref()) else { return Ok(()) };
        let claim = ClaimIdentity {
            namespace: Arc::clone(&self.namespace),
            name: ClaimName::AfterPod,
            labels: owned(template.metadata.labels.as_ref()),
            annotations: owned(template.metadata.annotations.as_ref()),
            class: Arc::clone(&class.metadata.name),
        };
        let facts = ClaimFacts {
            name: None,
            namespace: &self.namespace,
            labels: &claim.labels,
            annotations: &claim.annotations,
            volume: None,
            node: class::node(&class),
        };
        let planned = class::plan(&class, &facts, &mut self.resolution.warnings)?;
        let named_after = (!planned.attributes.contains_key(SUB_PATH)).then(|| entry.name.clone());
        let modes = &template.spec.access_modes;
        self.volumes.push(Resolved {
            pod_volumes: entry.into(),
            claim,
            volume_name: Arc::default(),
            volume_handle: Arc::default(),
            attributes: planned.attributes,
            mount_options: planned.mount_options,
            only_reads: matches!(modes.as_slice(), [mode] if &**mode == "ReadOnlyMany"),
            secret: planned.secret,
            bound: false,
            ephemeral_directory: named_after,
        });
        Ok(())
    }

    fn is_provisioned_by_us(&mut self, claim: &Claim) -> bool {
        let provisioner = claim.metadata.annotations.get(PROVISIONER);
        provisioner.is_some_and(|provisioner| **provisioner == *self.driver)
            || claim.spec.storage_class_name.as_deref().is_some_and(|name| self.class(Some(name)).is_some())
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

fn owned(map: Option<&BTreeMap<Text<'_>, Text<'_>>>) -> Map {
    map.into_iter().flatten().map(|(key, value)| (&**key, &**value)).collect()
}

fn claim_place(claim: &Claim) -> String {
    format!("persistentvolumeclaim \"{}/{}\"", claim.metadata.namespace, claim.metadata.name)
}
