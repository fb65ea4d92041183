//! Objects as the caches read them: decoded straight into the few fields that are kept.

use std::{borrow::Cow, fmt::Debug};

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;

use crate::volume::{
    catalog::Kind,
    objects::{Claim, Namespace, Node, PersistentVolume, StorageClass},
};

/// A kind that is watched.
pub(super) trait Watched: Kind + Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// Within a namespace, or of the whole cluster.
    type Scope;
    /// The kind's name.
    const KIND: &'static str;
    /// The API group, empty for the core.
    const GROUP: &'static str = "";
    /// The kind in paths and rights.
    const PLURAL: &'static str;
}

impl Watched for Claim {
    type Scope = NamespaceResourceScope;
    const KIND: &'static str = "PersistentVolumeClaim";
    const PLURAL: &'static str = "persistentvolumeclaims";
}

impl Watched for PersistentVolume {
    type Scope = ClusterResourceScope;
    const KIND: &'static str = "PersistentVolume";
    const PLURAL: &'static str = "persistentvolumes";
}

impl Watched for StorageClass {
    type Scope = ClusterResourceScope;
    const KIND: &'static str = "StorageClass";
    const GROUP: &'static str = "storage.k8s.io";
    const PLURAL: &'static str = "storageclasses";
}

impl Watched for Node {
    type Scope = ClusterResourceScope;
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
}

impl Watched for Namespace {
    type Scope = ClusterResourceScope;
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
}

/// An object of a watch, or why it is none: one that cannot be read must not end the watch of all others.
#[derive(Clone, Debug)]
pub(super) struct Slim<K> {
    /// Name, namespace and version; nothing else.
    meta: ObjectMeta,
    pub(super) object: Result<K, String>,
}

impl<K> Slim<K> {
    pub(super) fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }
}

/// What even an object has that cannot be read.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    metadata: Identity<'a>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Identity<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
}

impl<'de, K: Watched> Deserialize<'de> for Slim<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Outline { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let some = |text: Cow<'_, str>| Some(text.into_owned()).filter(|text| !text.is_empty());
        Ok(Self {
            meta: ObjectMeta {
                name: some(metadata.name),
                namespace: some(metadata.namespace),
                resource_version: some(metadata.resource_version),
                ..ObjectMeta::default()
            },
            object: serde_json::from_str(text.get()).map_err(|error| error.to_string()),
        })
    }
}

impl<K: Watched> Resource for Slim<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use kube::{ResourceExt as _, core::WatchEvent};

    use super::*;

    #[test]
    fn one_object_that_cannot_be_read_is_an_event_like_any_other() {
        let event = |labels: &str| {
            format!(
                r#"{{"type":"ADDED","object":{{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{{"name":"data","namespace":"team",
                "resourceVersion":"7","labels":{labels}}},"spec":{{"volumeName":"pv"}}}}}}"#
            )
        };
        for (labels, readable) in [(r#"{"a":"b"}"#, true), (r#"{"a":5}"#, false), ("[]", false)] {
            let event: WatchEvent<Slim<Claim>> = serde_json::from_str(&event(labels)).expect("an event");
            let WatchEvent::Added(claim) = event else { panic!("not added") };
            assert_eq!((claim.namespace(), claim.name()), ("team", "data"));
            assert_eq!(claim.resource_version().as_deref(), Some("7"));
            assert_eq!(claim.object.is_ok(), readable, "{labels}");
        }
    }
}
