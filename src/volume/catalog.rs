//! The storage objects around pods, indexed for every question the engine asks.
//!
//! Manifests fill a catalogue, and so do the watchers of a cluster, through a [`Writer`]; everybody else reads. A
//! [`Catalog`] is a value: copies share all they have in common, so that a writer can give one away after every
//! change, and whoever reads one sees a cluster that does not change under its hands.
//!
//! Every question costs a few comparisons in sorted trees, however many objects there are; what is not known is
//! `None`.

mod index;
mod kind;
mod strings;
#[cfg(test)]
mod tests;
mod volumes;

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

pub use self::kind::Kind;
use self::{
    index::{ByName, Index},
    strings::Strings,
    volumes::Volumes,
};
use super::{
    SecretError, UserSecret,
    objects::{Claim, Namespace, Node, PersistentVolume, Secret, StorageClass},
};

/// What is known of a cluster; never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    claims: Index<ByName, Claim>,
    volumes: Volumes,
    classes: Index<ByName, StorageClass>,
    default_class: Option<Arc<StorageClass>>,
    nodes: Index<ByName, Node>,
    /// Those among them that decide something about pods.
    remarkable_nodes: Index<ByName, Node>,
    namespaces: Index<ByName, Namespace>,
    secrets: Index<ByName, Secret>,
}

impl Catalog {
    /// A PersistentVolumeClaim.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<Claim>> {
        self.claims.get([namespace, name, ""])
    }

    /// A PersistentVolume.
    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.by_name.get(["", name, ""])
    }

    /// Every PersistentVolume of a driver with this handle, by name; more than one only if something went wrong.
    pub fn volumes_with_handle<'a, 'k>(
        &'a self,
        driver: &'k str,
        handle: &'k str,
    ) -> impl Iterator<Item = &'a Arc<PersistentVolume>> + use<'a, 'k> {
        self.volumes.by_handle.beginning_with([driver, handle])
    }

    /// Every PersistentVolume of a driver.
    pub fn volumes_of<'a, 'k>(
        &'a self,
        driver: &'k str,
    ) -> impl Iterator<Item = &'a Arc<PersistentVolume>> + use<'a, 'k> {
        self.volumes.by_handle.beginning_with_first(driver)
    }

    /// The volume whose `claimRef` names a claim; of several the first by name, as ever the same.
    pub fn volume_reserved_for(&self, namespace: &str, claim: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.by_claim.beginning_with([namespace, claim]).next()
    }

    /// A volume of the driver without class and without `claimRef` that the claim's selector matches, the first by
    /// name.
    pub fn free_volume_for(&self, claim: &Claim, driver: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.free_for(claim.spec.selector.as_ref(), driver)
    }

    /// A StorageClass.
    pub fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(["", name, ""])
    }

    /// Every StorageClass.
    pub fn classes(&self) -> impl Iterator<Item = &Arc<StorageClass>> {
        self.classes.iter()
    }

    /// The class of claims that name none, if the cluster has one.
    pub fn default_class(&self) -> Option<&Arc<StorageClass>> {
        self.default_class.as_ref()
    }

    /// The class of a claim or claim template: the one it names, else the default one.
    pub fn class_or_default(&self, name: Option<&str>) -> Option<&Arc<StorageClass>> {
        match name {
            Some(name) => self.class(name),
            None => self.default_class(),
        }
    }

    /// What a user secret says, or why it says nothing.
    pub fn user_secret(&self, namespace: &str, name: &str) -> Option<&Result<Arc<UserSecret>, SecretError>> {
        self.secrets.get([namespace, name, ""]).map(|secret| &secret.facts)
    }

    /// A Node, for `nodeSelector` in the ConfigMap and for templates.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(["", name, ""])
    }

    /// The nodes that decide something about the pods that may run on them: old ones, and those of systems that
    /// cannot be written to. In most clusters there are none.
    pub fn remarkable_nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.remarkable_nodes.iter()
    }

    /// The secrets that volumes of a driver and its classes name, each once; a class whose reference is a template
    /// names none before there is a claim.
    pub fn referenced_secrets(&self, driver: &str) -> BTreeSet<(Arc<str>, Arc<str>)> {
        let classes = self.classes.iter().filter(|class| *class.provisioner == *driver);
        let named = classes.filter_map(|class| class.secret());
        self.volumes.secrets_of(driver).chain(named).collect()
    }

    /// Every Namespace.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.iter()
    }

    /// Every PersistentVolumeClaim.
    pub fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.claims.iter()
    }

    /// The claims of a namespace.
    pub fn claims_in<'a, 'k>(
        &'a self,
        namespace: &'k str,
    ) -> impl Iterator<Item = &'a Arc<Claim>> + use<'a, 'k> {
        self.claims.beginning_with_first(namespace)
    }

    /// A Namespace.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(["", name, ""])
    }

    /// How many objects there are of each kind that a cluster is watched for.
    pub fn sizes(&self) -> [(&'static str, usize); 6] {
        [
            ("PersistentVolumeClaim", self.claims.len()),
            ("PersistentVolume", self.volumes.by_name.len()),
            ("StorageClass", self.classes.len()),
            ("Node", self.nodes.len()),
            ("Secret", self.secrets.len()),
            ("Namespace", self.namespaces.len()),
        ]
    }

    fn choose_default_class(&mut self) {
        // Of several the API server takes the newest, then the first by name. Classes are few, and change rarely.
        let defaults = self.classes.iter().filter(|class| class.is_default());
        let rank = |class: &&Arc<StorageClass>| {
            (Reverse(Arc::clone(&class.metadata.created)), Arc::clone(&class.metadata.name))
        };
        self.default_class = defaults.min_by_key(rank).cloned();
    }
}

/// The one who changes a catalogue. What arrives is trimmed to what is ever asked, and texts are kept once.
#[derive(Debug, Default)]
pub struct Writer {
    catalog: Catalog,
    /// What will take the place of a kind's objects.
    next: Catalog,
    strings: Strings,
}

impl Writer {
    /// A writer that goes on from a catalogue, which stays as it is.
    pub fn over(catalog: &Catalog) -> Self {
        Self { catalog: catalog.clone(), ..Self::default() }
    }

    /// The catalogue of this moment.
    pub fn snapshot(&self) -> Catalog {
        self.catalog.clone()
    }

    /// The catalogue as it is.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Adds an object, or replaces the one of its name.
    pub fn apply<K: Kind>(&mut self, object: K) {
        let object = Arc::new(object.trimmed(&mut self.strings));
        K::apply(&mut self.catalog, object);
    }

    /// Removes an object; `namespace` is empty for kinds that are cluster-wide.
    pub fn delete<K: Kind>(&mut self, namespace: &str, name: &str) {
        K::delete(&mut self.catalog, [namespace, name, ""]);
    }

    /// Replaces every object of a kind: what a watch begins with, and begins again with.
    pub fn replace_all<K: Kind>(&mut self, objects: impl IntoIterator<Item = K>) {
        self.begin::<K>();
        for object in objects {
            self.stage(object);
        }
        self.finish::<K>();
    }

    /// Begins to replace every object of a kind; nobody sees anything of it before [`Self::finish`].
    pub fn begin<K: Kind>(&mut self) {
        K::adopt(&mut self.next, &mut Catalog::default());
    }

    /// Adds an object to those that will replace the others of its kind.
    pub fn stage<K: Kind>(&mut self, object: K) {
        let object = Arc::new(object.trimmed(&mut self.strings));
        K::apply(&mut self.next, object);
    }

    /// Replaces every object of a kind by those that were staged.
    pub fn finish<K: Kind>(&mut self) {
        K::adopt(&mut self.catalog, &mut self.next);
    }
}
