//! Which secrets there have to be, and what is in them. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::core::{Selector, SelectorExt as _};

use crate::{
    controller::{MANAGED_BY, MANAGER},
    volume::{
        Catalog,
        backing::Search,
        objects::SecretReference,
        secret::{class_secret_name, injected, injected_secret_name},
    },
};

/// A key of the secrets that the Go driver's webhook writes; its pods mount it as a file for as long as they live.
const GO_DRIVER: &str = "check_mount.sh";

/// Whose clients read a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The namespace.
    pub namespace: Arc<str>,
    /// Who, in the namespace.
    pub of: Of,
}

/// See [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// A claim, by name.
    Claim(Arc<str>),
    /// The generic ephemeral volumes of a class: their pods are admitted before their claims have names.
    Class(Arc<str>),
}

impl Target {
    /// The claim, if it is one.
    pub fn claim(&self) -> Option<&str> {
        match &self.of {
            Of::Claim(name) => Some(name),
            Of::Class(_) => None,
        }
    }

    /// The secret's name.
    pub fn secret_name(&self) -> String {
        match &self.of {
            Of::Claim(name) => injected_secret_name(name),
            Of::Class(name) => class_secret_name(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Of::Claim(name) => write!(formatter, "persistentvolumeclaim \"{}/{name}\"", self.namespace),
            Of::Class(name) => {
                write!(formatter, "ephemeral volumes of class \"{name}\" in namespace \"{}\"", self.namespace)
            }
        }
    }
}

/// What a secret depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// There has to be one.
    Secret {
        /// UID of the claim that owns it.
        owner: Option<Arc<str>>,
        /// The user secret.
        source: SecretReference,
    },
    /// Nobody reads one (any more).
    Nothing,
}

impl Wanted {
    /// The user secret.
    pub fn source(&self) -> Option<&SecretReference> {
        match self {
            Self::Secret { source, .. } => Some(source),
            Self::Nothing => None,
        }
    }
}

/// The secrets of the namespaces that one of the selectors selects: one for each claim of the driver, and one for each
/// class of which there are ephemeral volumes.
///
/// A claim that no pod could use, for one that names somebody else's volume, has none. Of classes it is said that there
/// is to be none, since nobody else would remove it; also of those that were there `before`.
pub fn desired(
    catalog: &Catalog,
    selectors: &[Selector],
    excluded: &[String],
    driver: &str,
    before: &BTreeMap<Target, Wanted>,
) -> BTreeMap<Target, Wanted> {
    let selected = catalog.namespaces().filter(|namespace| {
        let metadata = &namespace.metadata;
        let labels = metadata.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let labels: BTreeMap<_, _> = labels.collect();
        !excluded.iter().any(|name| **name == *metadata.name)
            && selectors.iter().any(|selector| selector.matches(&labels))
    });
    let selected: Vec<_> = selected.map(|namespace| Arc::clone(&namespace.metadata.name)).collect();
    let mut wanted = BTreeMap::new();
    for claim in selected.iter().flat_map(|namespace| catalog.claims_in(namespace)) {
        let Ok(Some((identity, backing))) = Search::new(catalog, driver).behind(claim) else { continue };
        let metadata = &claim.metadata;
        let (of, owner) = if metadata.pod.is_some() {
            (Of::Class(identity.class), None)
        } else {
            (Of::Claim(Arc::clone(&metadata.name)), Some(Arc::clone(&metadata.uid)))
        };
        let target = Target { namespace: Arc::clone(&metadata.namespace), of };
        wanted.entry(target).or_insert(Wanted::Secret { owner, source: backing.secret });
    }
    for class in catalog.classes().filter(|class| *class.provisioner == *driver) {
        for namespace in &selected {
            let of = Of::Class(Arc::clone(&class.metadata.name));
            let target = Target { namespace: Arc::clone(namespace), of };
            wanted.entry(target).or_insert(Wanted::Nothing);
        }
    }
    for target in before.keys().filter(|target| matches!(target.of, Of::Class(_))) {
        if selected.binary_search(&target.namespace).is_ok() {
            wanted.entry(target.clone()).or_insert(Wanted::Nothing);
        }
    }
    wanted
}

/// Whether a secret was written by us, or by the Go driver for the same purpose.
pub fn is_ours(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(injected::LABEL)).is_some_and(|value| value == "true")
}

/// A secret, made from the one there is; `None` if that is as it has to be.
///
/// What the Go driver wrote is never made smaller: pods of its webhook may still read it.
pub fn secret(
    target: &Target,
    owner: Option<&Arc<str>>,
    data: &BTreeMap<String, Vec<u8>>,
    before: Option<&Secret>,
) -> Option<Secret> {
    let old = before.and_then(|before| before.data.as_ref());
    let kept = old.filter(|old| old.contains_key(GO_DRIVER)).cloned().unwrap_or_default();
    let data = data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone())));
    let data: BTreeMap<_, _> = kept.into_iter().chain(data).collect();
    let owners: Vec<_> = owner
        .zip(target.claim())
        .map(|(uid, claim)| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "PersistentVolumeClaim".to_owned(),
            name: claim.to_owned(),
            uid: uid.to_string(),
            controller: Some(true),
            block_owner_deletion: None,
        })
        .into_iter()
        .collect();
    if let Some(before) = before {
        let uids =
            |owners: &[OwnerReference]| owners.iter().map(|owner| owner.uid.clone()).collect::<Vec<_>>();
        let owned = uids(before.metadata.owner_references.as_deref().unwrap_or_default()) == uids(&owners);
        if owned && old.map_or(data.is_empty(), |old| *old == data) {
            return None;
        }
    }
    let metadata = before.map(|before| before.metadata.clone()).unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(injected::LABEL.to_owned(), "true".to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(target.secret_name()),
            namespace: Some(target.namespace.to_string()),
            labels: Some(labels),
            annotations: metadata.annotations,
            resource_version: metadata.resource_version,
            owner_references: Some(owners).filter(|owners| !owners.is_empty()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: before.and_then(|before| before.type_.clone()),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::offline::{Manifests, documents};

    fn catalog(objects: &[Value]) -> Catalog {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let documents = documents::parse("test", &list).unwrap();
        Manifests::gather(&documents, "default").unwrap().0.catalog
    }

    fn claim(namespace: &str, name: &str, spec: &Value) -> Value {
        let metadata = json!({"namespace": namespace, "name": name, "uid": format!("uid-{name}")});
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    }

    fn volume(name: &str, driver: &str, claim: [&str; 2]) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "claimRef": {"namespace": claim[0], "name": claim[1]},
            "csi": {"driver": driver, "volumeHandle": name,
                    "nodePublishSecretRef": {"namespace": "storage", "name": format!("of-{name}")}}}})
    }

    #[test]
    fn claims_of_ours_in_labelled_namespaces_have_a_secret_bound_or_not() {
        let namespace = |name: &str, label: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"inject": label}}});
        let objects = [
            namespace("team", "true"),
            namespace("other", "false"),
            namespace("kube-system", "true"),
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "jfs"},
                "provisioner": "csi.juicefs.com", "volumeBindingMode": "WaitForFirstConsumer", "parameters": {
                "csi.storage.k8s.io/node-publish-secret-name": "of-${pvc.name}",
                "csi.storage.k8s.io/node-publish-secret-namespace": "${pvc.namespace}"}}),
            volume("pv-1", "csi.juicefs.com", ["team", "bound"]),
            volume("pv-2", "csi.example.com", ["team", "foreign"]),
            volume("pv-3", "csi.juicefs.com", ["other", "data"]),
            claim("team", "bound", &json!({"volumeName": "pv-1"})),
            claim("team", "unbound", &json!({"storageClassName": "jfs"})),
            claim("team", "foreign", &json!({"volumeName": "pv-2"})),
            claim("team", "thief", &json!({"volumeName": "pv-3"})),
            claim("team", "of-no-class", &json!({"storageClassName": "ssd"})),
            claim("other", "data", &json!({"volumeName": "pv-3"})),
            claim("kube-system", "unbound", &json!({"storageClassName": "jfs"})),
        ];
        let selectors = [Selector::from_iter([("inject".to_owned(), "true".to_owned())])];
        let excluded = ["kube-system".to_owned()];
        let before = BTreeMap::new();
        let found = desired(&catalog(&objects), &selectors, &excluded, "csi.juicefs.com", &before);
        let found = found.iter().map(|(target, wanted)| (target.secret_name(), described(wanted)));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                ("bound-jfs-secret".to_owned(), "storage/of-pv-1 owned by uid-bound".to_owned()),
                ("unbound-jfs-secret".to_owned(), "team/of-unbound owned by uid-unbound".to_owned()),
                ("jfs-jfs-class-secret".to_owned(), "nothing".to_owned()),
            ]
        );
    }

    fn described(wanted: &Wanted) -> String {
        match wanted {
            Wanted::Nothing => "nothing".to_owned(),
            Wanted::Secret { owner, source } => {
                let owner = owner.as_deref().unwrap_or("nobody");
                format!("{}/{} owned by {owner}", source.namespace, source.name)
            }
        }
    }

    #[test]
    fn ephemeral_volumes_of_a_class_share_a_secret_until_the_last_is_gone() {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "jfs"},
            "provisioner": "csi.juicefs.com", "parameters": {
            "csi.storage.k8s.io/node-publish-secret-name": "s", "csi.storage.k8s.io/node-publish-secret-namespace": "storage"}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
        let of_a_pod = |name: &str| {
            let mut claim = claim("team", name, &json!({"storageClassName": "jfs"}));
            claim["metadata"]["ownerReferences"] = json!([
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]);
            claim
        };
        let objects = [class, namespace, of_a_pod("web-0-scratch"), of_a_pod("web-1-scratch")];
        let selectors = [Selector::default()];
        let look = |objects: &[Value], before: &BTreeMap<Target, Wanted>| {
            desired(&catalog(objects), &selectors, &[], "csi.juicefs.com", before)
        };
        let all = look(&objects, &BTreeMap::new());
        let (target, wanted) = all.first_key_value().unwrap();
        assert_eq!((all.len(), target.secret_name()), (1, "jfs-jfs-class-secret".to_owned()));
        assert_eq!(described(wanted), "storage/s owned by nobody");
        assert_eq!(look(&objects[..3], &all), all, "one is left");
        assert_eq!(look(&objects[..2], &all).get(target), Some(&Wanted::Nothing));
        assert_eq!(look(&objects[1..2], &all).get(target), Some(&Wanted::Nothing), "the class is gone, too");
        assert!(look(&objects[..1], &all).is_empty(), "without its label the namespace is left as it is");
    }

    fn example() -> (Target, Arc<str>, BTreeMap<String, Vec<u8>>) {
        let target = Target { namespace: "team".into(), of: Of::Claim("data".into()) };
        (target, "u-1".into(), [("metaurl".to_owned(), b"redis://r/1".to_vec())].into())
    }

    #[test]
    fn a_secret_is_written_once_and_again_when_its_data_or_its_claim_changed() {
        let (target, owner, mut data) = example();
        let made = secret(&target, Some(&owner), &data, None).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("data-jfs-secret"));
        assert!(is_ours(&made) && !is_ours(&Secret::default()));
        assert_eq!(made.metadata.owner_references.as_ref().unwrap()[0].uid, "u-1");
        assert_eq!(secret(&target, Some(&owner), &data, Some(&made)), None);

        data.insert("secretkey".to_owned(), b"s".to_vec());
        let mut stored = made.clone();
        stored.metadata.resource_version = Some("7".to_owned());
        let changed = secret(&target, Some(&owner), &data, Some(&stored)).unwrap();
        assert_eq!(changed.data.as_ref().unwrap().len(), 2);
        assert_eq!(changed.metadata.resource_version.as_deref(), Some("7"), "nobody else's change is lost");
        data.remove("metaurl");
        let changed = secret(&target, Some(&owner), &data, Some(&changed)).unwrap();
        assert!(changed.data.unwrap().keys().eq(["secretkey"]), "what no client reads any more is gone");

        let moved = secret(&target, Some(&"u-2".into()), &data, Some(&stored)).unwrap();
        assert_eq!(moved.metadata.owner_references.unwrap()[0].uid, "u-2");
    }

    #[test]
    fn a_secret_of_the_go_driver_never_shrinks() {
        let (target, owner, data) = example();
        let mut theirs = secret(&target, Some(&owner), &data, None).unwrap();
        let more = [("check_mount.sh", "x"), ("jfsSettings", "{}"), ("metaurl", "old")];
        theirs.data = Some(more.map(|(key, value)| (key.to_owned(), ByteString(value.into()))).into());
        let made = secret(&target, Some(&owner), &data, Some(&theirs)).unwrap().data.unwrap();
        assert!(made.keys().eq(["check_mount.sh", "jfsSettings", "metaurl"]));
        assert_eq!(made["metaurl"].0, b"redis://r/1");
    }
}
