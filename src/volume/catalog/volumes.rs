//! PersistentVolumes and everything they are looked for by.

use std::sync::Arc;

use imbl::OrdMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::index::{ByName, Index, Key, Order};
use crate::{config::match_labels, volume::objects::PersistentVolume};

/// Volumes in all their orders.
#[derive(Clone, Debug, Default)]
pub(super) struct Volumes {
    pub(super) by_name: Index<ByName, PersistentVolume>,
    pub(super) by_handle: Index<ByHandle, PersistentVolume>,
    pub(super) by_claim: Index<ByClaim, PersistentVolume>,
    free: Index<Free, PersistentVolume>,
    free_by_label: Index<FreeByLabel, Label>,
    /// How many volumes name a secret.
    secrets: OrdMap<SecretName, usize>,
}

/// The driver, and the namespace and name of the secret.
type SecretName = (Arc<str>, Arc<str>, Arc<str>);

/// By driver, handle and name; only volumes of CSI drivers are asked for by it.
#[derive(Debug)]
pub(super) struct ByHandle;
/// By the claim their `claimRef` names, and name.
#[derive(Debug)]
pub(super) struct ByClaim;
/// By driver and name.
#[derive(Debug)]
struct Free;
/// By driver, label and name.
#[derive(Debug)]
struct FreeByLabel;

/// One label of a free volume.
#[derive(Debug)]
struct Label {
    /// `key=value`: no key has an equals sign.
    text: String,
    volume: Arc<PersistentVolume>,
}

impl Volumes {
    pub(super) fn apply(&mut self, volume: Arc<PersistentVolume>) {
        if let Some(before) = self.by_name.insert(Arc::clone(&volume)) {
            self.forget(&before);
        }
        if volume.spec.csi.is_some() {
            self.by_handle.insert(Arc::clone(&volume));
        }
        if let Some(secret) = secret(&volume) {
            *self.secrets.entry(secret).or_default() += 1;
        }
        if volume.spec.claim_ref.is_some() {
            self.by_claim.insert(Arc::clone(&volume));
        }
        if volume.is_free() {
            for label in labels(&volume) {
                self.free_by_label.insert(Arc::new(label));
            }
            self.free.insert(volume);
        }
    }

    pub(super) fn delete(&mut self, key: Key<'_>) {
        if let Some(before) = self.by_name.remove(key) {
            self.forget(&before);
        }
    }

    /// Takes a volume out of every order but that of the names.
    fn forget(&mut self, volume: &Arc<PersistentVolume>) {
        self.by_handle.remove(ByHandle::key(volume));
        if let Some(secret) = secret(volume) {
            match self.secrets.get_mut(&secret) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.secrets.remove(&secret)),
            }
        }
        self.by_claim.remove(ByClaim::key(volume));
        self.free.remove(Free::key(volume));
        if volume.is_free() {
            for label in labels(volume) {
                self.free_by_label.remove(FreeByLabel::key(&label));
            }
        }
    }

    /// The secrets that volumes of a driver name, by namespace and name.
    pub(super) fn secrets_of(&self, driver: &str) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
        let secrets = self.secrets.keys().filter(move |(of, ..)| **of == *driver);
        secrets.map(|(_, namespace, name)| (Arc::clone(namespace), Arc::clone(name)))
    }

    /// The first free volume of a driver that a selector matches, sizes and modes aside.
    ///
    /// Where the selector names a label with its value, only volumes that carry it are looked at.
    pub(super) fn free_for(
        &self,
        selector: Option<&LabelSelector>,
        driver: &str,
    ) -> Option<&Arc<PersistentVolume>> {
        let Some(selector) = selector else { return self.free.beginning_with([driver, ""]).next() };
        let (wanted, expressions) = (selector.match_labels.as_ref(), selector.match_expressions.as_deref());
        let matches =
            |volume: &&Arc<PersistentVolume>| match_labels(wanted, expressions, &volume.metadata.labels);
        match wanted.into_iter().flatten().next() {
            Some((key, value)) => {
                let label = format!("{key}={value}");
                let carriers = self.free_by_label.beginning_with([driver, &label]);
                carriers.map(|label| &label.volume).find(matches)
            }
            None => self.free.beginning_with([driver, ""]).find(matches),
        }
    }
}

impl PersistentVolume {
    /// Whether a claim without a class may be bound to it.
    pub(super) fn is_free(&self) -> bool {
        let spec = &self.spec;
        spec.csi.is_some() && spec.claim_ref.is_none() && spec.storage_class_name.is_empty()
    }
}

fn labels(volume: &Arc<PersistentVolume>) -> impl Iterator<Item = Label> {
    let label = |(key, value): (&Arc<str>, &Arc<str>)| Label {
        text: format!("{key}={value}"),
        volume: Arc::clone(volume),
    };
    volume.metadata.labels.iter().map(label)
}

/// Driver, namespace and name of the secret that a volume names.
fn secret(volume: &PersistentVolume) -> Option<SecretName> {
    let (csi, secret) = (volume.spec.csi.as_ref()?, volume.secret()?);
    Some((Arc::clone(&csi.driver), Arc::clone(&secret.namespace), Arc::clone(&secret.name)))
}

fn driver(volume: &PersistentVolume) -> &str {
    volume.spec.csi.as_ref().map_or("", |csi| &csi.driver)
}

impl Order<PersistentVolume> for ByHandle {
    fn key(volume: &PersistentVolume) -> Key<'_> {
        let handle = volume.spec.csi.as_ref().map_or("", |csi| &csi.volume_handle);
        [driver(volume), handle, &volume.metadata.name]
    }
}

impl Order<PersistentVolume> for ByClaim {
    fn key(volume: &PersistentVolume) -> Key<'_> {
        let Some(claim) = &volume.spec.claim_ref else { return ["", "", &volume.metadata.name] };
        [&claim.namespace, &claim.name, &volume.metadata.name]
    }
}

impl Order<PersistentVolume> for Free {
    fn key(volume: &PersistentVolume) -> Key<'_> {
        [driver(volume), "", &volume.metadata.name]
    }
}

impl Order<Label> for FreeByLabel {
    fn key(label: &Label) -> Key<'_> {
        [driver(&label.volume), &label.text, &label.volume.metadata.name]
    }
}
