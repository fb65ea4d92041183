//! From the volumes of a pod to the JuiceFS volumes behind them, and to their secrets.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Catalog, UserSecret,
    attributes::SUB_PATH,
    backing::{Backing, Search},
    by_name::ByName,
    class,
    pattern::ClaimFacts,
    resolved::{
        CLAIM_VOLUME, ClaimIdentity, ClaimName, PodVolume, Resolved, SHARED_VOLUME, claim_of_ephemeral,
    },
};
use crate::{
    map::Map,
    outcome::{Code, Miss, Refusal},
    pod::{ClaimTemplate, Pod, Text, Volume},
};

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
        pod_name: pod.metadata.name.as_deref().filter(|name| !name.is_empty()).map(str::to_owned),
        search: Search::new(catalog, driver),
        claims: BTreeMap::new(),
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
    /// The pod's own name; a template has none.
    pod_name: Option<String>,
    search: Search<'a>,
    /// The claims that were looked at, with the place in `volumes` of those that are ours.
    claims: BTreeMap<String, Option<usize>>,
    /// What was found so far, mounted or not.
    volumes: Vec<Resolved>,
    resolution: Resolution,
}

impl Resolver<'_> {
    fn resolve(mut self, pod: &Pod<'_>) -> Result<Resolution, Refusal> {
        let outcome = self.volumes(pod);
        let Self { resolution, search: Search { misses, warnings, .. }, .. } = self;
        match outcome {
            Ok(()) => Ok(Resolution { misses, warnings, ..resolution }),
            Err(refusal) => Err(refusal.for_want_of(misses)),
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
        let is_left = |name: &str| {
            let shared = format!("{SHARED_VOLUME}{name}");
            let mut all = pod.spec.volumes.iter().flatten();
            name.starts_with(CLAIM_VOLUME) || all.any(|volume| *volume.name == *shared)
        };
        let mut needed = Vec::with_capacity(self.volumes.len());
        let mounted = mounted(pod, &self.volumes);
        for (resolved, mounted) in std::mem::take(&mut self.volumes).into_iter().zip(mounted) {
            if mounted {
                needed.push(resolved);
            } else {
                let what = resolved.describe();
                let name = &resolved.pod_volumes.first().name;
                self.warn(if is_left(name) {
                    format!(
                        "volume {name:?} was left by an earlier injection, whose annotation sidecar.juicefs.com/status is \
                         gone: nothing looks after the client of {what} any more"
                    )
                } else {
                    format!("{what} is not mounted by any container, so it gets no client")
                });
            }
        }
        self.secrets(needed)
    }

    fn warn(&mut self, what: String) {
        self.search.warnings.push(what);
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
        self.search.warnings.extend(warnings);
        Ok(())
    }

    /// Finds the user secret of each volume; the first that cannot be used is the refusal.
    fn secrets(&mut self, volumes: Vec<Resolved>) -> Result<(), Refusal> {
        let mut refusal = None;
        self.resolution.volumes.reserve_exact(volumes.len());
        for resolved in volumes {
            let reference = &resolved.volume.secret;
            let place = || format!("secret \"{}/{}\"", reference.namespace, reference.name);
            let unusable = match self.search.catalog.user_secret(&reference.namespace, &reference.name) {
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
                    self.search.misses.push(Miss::Secret {
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
            Some(source) if *source.driver == *self.search.driver => Err(Refusal::new(
                Code::PodUnsupported,
                format!("spec.volumes[{index}] \"{}\": csi", volume.name),
                "JuiceFS has no inline volumes",
                "use a persistentVolumeClaim, or a generic ephemeral volume",
            )),
            _ => Ok(()),
        }
    }

    fn claim_volume(&mut self, entry: PodVolume, name: &str) -> Result<(), Refusal> {
        match self.claims.get(name) {
            Some(Some(place)) => {
                self.volumes[*place].pod_volumes.push(entry);
                return Ok(());
            }
            Some(None) => return Ok(()),
            None => {}
        }
        self.claims.insert(name.to_owned(), None);
        let Some(claim) = self.search.catalog.claim(&self.namespace, name) else {
            self.resolution.missing.push(name.to_owned());
            let namespace = self.namespace.to_string();
            self.search.misses.push(Miss::Claim { namespace, name: name.to_owned() });
            return Ok(());
        };
        if let Some((claim, volume)) = self.search.behind(claim)? {
            self.claims.insert(name.to_owned(), Some(self.volumes.len()));
            self.found(Resolved { pod_volumes: entry.into(), claim, volume, ephemeral_directory: None });
        }
        Ok(())
    }

    fn ephemeral_volume(&mut self, entry: PodVolume, template: &ClaimTemplate<'_>) -> Result<(), Refusal> {
        let Some(class) = self.search.class_to_come(template.spec.storage_class_name.as_deref()) else {
            return Ok(());
        };
        let pod_name = self.pod_name.as_deref();
        let name: Option<Arc<str>> = pod_name.map(|pod| claim_of_ephemeral(pod, &entry.name).into());
        let claim = ClaimIdentity {
            namespace: Arc::clone(&self.namespace),
            name: ClaimName::AfterPod(name.clone()),
            labels: owned(template.metadata.labels.as_ref()),
            annotations: owned(template.metadata.annotations.as_ref()),
            class: Arc::clone(&class.metadata.name),
        };
        let facts = ClaimFacts {
            name: name.as_deref(),
            shares_secret: true,
            namespace: &self.namespace,
            labels: &claim.labels,
            annotations: &claim.annotations,
            volume: None,
            node: class::node(&class),
        };
        let planned = class::plan(&class, &facts, &mut self.search.warnings)?;
        let ephemeral_directory = (!planned.attributes.contains_key(SUB_PATH)).then(|| entry.name.clone());
        let modes = &template.spec.access_modes;
        let only_reads = matches!(modes.as_slice(), [mode] if &**mode == "ReadOnlyMany");
        let volume = Backing::planned(planned, Arc::default(), only_reads);
        self.found(Resolved { pod_volumes: entry.into(), claim, volume, ephemeral_directory });
        Ok(())
    }

    fn found(&mut self, resolved: Resolved) {
        if self.volumes.is_empty() {
            // Most pods have one, and a list begins with room for four.
            self.volumes.reserve_exact(1);
        }
        self.volumes.push(resolved);
    }
}

fn owned(map: Option<&BTreeMap<Text<'_>, Text<'_>>>) -> Map {
    map.into_iter().flatten().map(|(key, value)| (&**key, &**value)).collect()
}
