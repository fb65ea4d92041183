//! The kinds of objects in a catalogue: what is kept of each, and where.

use std::{mem::take, sync::Arc};

use super::{Catalog, index::Key, strings::Strings};
use crate::{
    map::Map,
    volume::{
        attributes, backing,
        objects::{
            Claim, ClaimReference, CsiSource, Metadata, Namespace, Node, PersistentVolume, Secret,
            SecretReference, StorageClass,
        },
    },
};

/// A whole object as somebody's `kubectl apply` left it; the largest annotation there is.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind of object; only those of this module.
pub trait Kind: Sized {
    /// The object without what nobody asks for.
    #[must_use]
    fn trimmed(self, strings: &mut Strings) -> Self;
    /// Adds or replaces an object.
    fn apply(catalog: &mut Catalog, object: Arc<Self>);
    /// Removes an object.
    fn delete(catalog: &mut Catalog, key: Key<'_>);
    /// Replaces every object of the kind by those of another catalogue, which has none of them any more.
    fn adopt(catalog: &mut Catalog, other: &mut Catalog);
}

impl Strings {
    fn map(&mut self, map: &Map, wanted: impl Fn(&str) -> bool) -> Map {
        map.kept(wanted, |text| self.share(text))
    }

    fn list(&mut self, list: &[Arc<str>]) -> Arc<[Arc<str>]> {
        list.iter().map(|text| self.share(text)).collect()
    }

    /// Only the name and namespace.
    fn name(&mut self, metadata: &Metadata) -> Metadata {
        Metadata {
            name: self.share(&metadata.name),
            namespace: self.share(&metadata.namespace),
            ..Metadata::default()
        }
    }

    fn claim_reference(&mut self, claim: &ClaimReference) -> ClaimReference {
        ClaimReference {
            namespace: self.share(&claim.namespace),
            name: self.share(&claim.name),
            uid: self.share(&claim.uid),
        }
    }

    fn csi(&mut self, csi: &CsiSource) -> CsiSource {
        CsiSource {
            driver: self.share(&csi.driver),
            volume_handle: self.share(&csi.volume_handle),
            volume_attributes: self.map(&csi.volume_attributes, attributes::is_read),
            node_publish_secret_ref: csi.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
                namespace: self.share(&secret.namespace),
                name: self.share(&secret.name),
            }),
        }
    }
}

impl Kind for Claim {
    fn trimmed(self, strings: &mut Strings) -> Self {
        let Self { metadata, mut spec, status } = self;
        // The templates of a class may ask for any annotation, until they have been resolved.
        let bound = !spec.volume_name.is_empty();
        let wanted =
            |key: &str| if bound { backing::is_read_of_bound_claim(key) } else { key != LAST_APPLIED };
        let metadata = Metadata {
            uid: strings.share(&metadata.uid),
            labels: strings.map(&metadata.labels, |_| true),
            annotations: strings.map(&metadata.annotations, wanted),
            pod: metadata.pod.clone(),
            deleting: metadata.deleting,
            // Those that wait for their volume get it in the order of their age.
            created: if bound { Arc::default() } else { Arc::clone(&metadata.created) },
            ..strings.name(&metadata)
        };
        spec.storage_class_name = spec.storage_class_name.as_ref().map(|class| strings.share(class));
        spec.volume_name = strings.share(&spec.volume_name);
        spec.selector = spec.selector.filter(|_| !bound);
        Self { metadata, spec, status }
    }

    fn apply(catalog: &mut Catalog, object: Arc<Self>) {
        catalog.claims.insert(object);
    }

    fn delete(catalog: &mut Catalog, key: Key<'_>) {
        catalog.claims.remove(key);
    }

    fn adopt(catalog: &mut Catalog, other: &mut Catalog) {
        catalog.claims = take(&mut other.claims);
    }
}

impl Kind for PersistentVolume {
    fn trimmed(mut self, strings: &mut Strings) -> Self {
        // Labels are for the selectors of claims.
        let free = self.is_free();
        self.metadata =
            Metadata { labels: strings.map(&self.metadata.labels, |_| free), ..strings.name(&self.metadata) };
        let spec = &mut self.spec;
        spec.claim_ref = spec.claim_ref.as_ref().map(|claim| strings.claim_reference(claim));
        spec.csi = spec.csi.as_ref().map(|csi| strings.csi(csi));
        spec.mount_options = strings.list(&spec.mount_options);
        spec.storage_class_name = strings.share(&spec.storage_class_name);
        self
    }

    fn apply(catalog: &mut Catalog, object: Arc<Self>) {
        catalog.volumes.apply(object);
    }

    fn delete(catalog: &mut Catalog, key: Key<'_>) {
        catalog.volumes.delete(key);
    }

    fn adopt(catalog: &mut Catalog, other: &mut Catalog) {
        catalog.volumes = take(&mut other.volumes);
    }
}

impl Kind for StorageClass {
    /// Classes are few.
    fn trimmed(self, _: &mut Strings) -> Self {
        self
    }

    fn apply(catalog: &mut Catalog, object: Arc<Self>) {
        catalog.classes.insert(object);
        catalog.choose_default_class();
    }

    fn delete(catalog: &mut Catalog, key: Key<'_>) {
        catalog.classes.remove(key);
        catalog.choose_default_class();
    }

    fn adopt(catalog: &mut Catalog, other: &mut Catalog) {
        catalog.classes = take(&mut other.classes);
        catalog.default_class = other.default_class.take();
    }
}

impl Kind for Node {
    fn trimmed(mut self, strings: &mut Strings) -> Self {
        self.metadata = Metadata {
            labels: strings.map(&self.metadata.labels, |_| true),
            annotations: strings.map(&self.metadata.annotations, |key| key != LAST_APPLIED),
            ..strings.name(&self.metadata)
        };
        let info = &mut self.status.node_info;
        for text in [
            &mut info.kubelet_version,
            &mut info.operating_system,
            &mut info.os_image,
            &mut info.architecture,
        ] {
            *text = strings.share(text);
        }
        for taint in &mut self.spec.taints {
            for text in [&mut taint.key, &mut taint.value, &mut taint.effect] {
                *text = strings.share(text);
            }
        }
        self
    }

    fn apply(catalog: &mut Catalog, object: Arc<Self>) {
        if object.is_remarkable() {
            catalog.remarkable_nodes.insert(Arc::clone(&object));
        } else {
            catalog.remarkable_nodes.remove(["", &object.metadata.name, ""]);
        }
        catalog.nodes.insert(object);
    }

    fn delete(catalog: &mut Catalog, key: Key<'_>) {
        catalog.nodes.remove(key);
        catalog.remarkable_nodes.remove(key);
    }

    fn adopt(catalog: &mut Catalog, other: &mut Catalog) {
        catalog.nodes = take(&mut other.nodes);
        catalog.remarkable_nodes = take(&mut other.remarkable_nodes);
    }
}

impl Kind for Namespace {
    fn trimmed(mut self, strings: &mut Strings) -> Self {
        self.metadata =
            Metadata { labels: strings.map(&self.metadata.labels, |_| true), ..strings.name(&self.metadata) };
        self
    }

    fn apply(catalog: &mut Catalog, object: Arc<Self>) {
        catalog.namespaces.insert(object);
    }

    fn delete(catalog: &mut Catalog, key: Key<'_>) {
        catalog.namespaces.remove(key);
    }

    fn adopt(catalog: &mut Catalog, other: &mut Catalog) {
        catalog.namespaces = take(&mut other.namespaces);
    }
}

impl Kind for Secret {
    fn trimmed(mut self, strings: &mut Strings) -> Self {
        self.namespace = strings.share(&self.namespace);
        self.name = strings.share(&self.name);
        self
    }

    fn apply(catalog: &mut Catalog, object: Arc<Self>) {
        catalog.secrets.insert(object);
    }

    fn delete(catalog: &mut Catalog, key: Key<'_>) {
        catalog.secrets.remove(key);
    }

    fn adopt(catalog: &mut Catalog, other: &mut Catalog) {
        catalog.secrets = take(&mut other.secrets);
    }
}
