//! Which claims have a secret, and what is in it. Pure.
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
        secret::{injected, injected_secret_name},
    },
};

/// A key of the secrets that the Go driver's webhook writes; its pods mount it as a file for as long as they live.
const GO_DRIVER: &str = "check_mount.sh";

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub claim: Arc<str>,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "persistentvolumeclaim \"{}/{}\"", self.namespace, self.claim)
    }
}

/// What the secret of a claim depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The claim's UID.
    pub uid: Arc<str>,
    /// The user secret.
    pub source: SecretReference,
}

/// The claims that have a secret: those of the driver in the namespaces that one of the selectors selects.
///
/// A claim that no pod could use, for one that names somebody else's volume, has none.
pub fn desired(
    catalog: &Catalog,
    selectors: &[Selector],
    excluded: &[String],
    driver: &str,
) -> BTreeMap<Target, Wanted> {
    let selected = catalog.namespaces().filter(|namespace| {
        let metadata = &namespace.metadata;
        let labels = metadata.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let labels: BTreeMap<_, _> = labels.collect();
        !excluded.iter().any(|name| **name == *metadata.name)
            && selectors.iter().any(|selector| selector.matches(&labels))
    });
    let claims = selected.flat_map(|namespace| catalog.claims_in(&namespace.metadata.name));
    claims
        .filter_map(|claim| {
            let (_, backing) = Search::new(catalog, driver).behind(claim).ok()??;
            let metadata = &claim.metadata;
            let target =
                Target { namespace: Arc::clone(&metadata.namespace), claim: Arc::clone(&metadata.name) };
            Some((target, Wanted { uid: Arc::clone(&metadata.uid), source: backing.secret }))
        })
        .collect()
}

/// Whether a secret was written by us, or by the Go driver for the same purpose.
pub fn is_ours(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(injected::LABEL)).is_some_and(|value| value == "true")
}

/// The secret of a claim, made from the one there is; `None` if that is as it has to be.
///
/// What the Go driver wrote is never made smaller: pods of its webhook may still read it.
pub fn secret(
    target: &Target,
    wanted: &Wanted,
    data: &BTreeMap<String, Vec<u8>>,
    before: Option<&Secret>,
) -> Option<Secret> {
    let old = before.and_then(|before| before.data.as_ref());
    let kept = old.filter(|old| old.contains_key(GO_DRIVER)).cloned().unwrap_or_default();
    let data = data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone())));
    let data: BTreeMap<_, _> = kept.into_iter().chain(data).collect();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        name: target.claim.to_string(),
        uid: wanted.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let owners = vec![owner];
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
            name: Some(injected_secret_name(&target.claim)),
            namespace: Some(target.namespace.to_string()),
            labels: Some(labels),
            annotations: metadata.annotations,
            resource_version: metadata.resource_version,
            owner_references: Some(owners),
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
        let found = desired(&catalog(&objects), &selectors, &excluded, "csi.juicefs.com");
        let found: Vec<_> = found
            .iter()
            .map(|(target, wanted)| {
                let source = format!("{}/{}", wanted.source.namespace, wanted.source.name);
                (target.to_string(), &*wanted.uid, source)
            })
            .collect();
        let wanted = |claim: &str| format!("persistentvolumeclaim \"team/{claim}\"");
        assert_eq!(
            found,
            [
                (wanted("bound"), "uid-bound", "storage/of-pv-1".to_owned()),
                (wanted("unbound"), "uid-unbound", "team/of-unbound".to_owned()),
            ]
        );
    }

    fn example() -> (Target, Wanted, BTreeMap<String, Vec<u8>>) {
        let target = Target { namespace: "team".into(), claim: "data".into() };
        let source = SecretReference { namespace: "storage".into(), name: "s".into() };
        let wanted = Wanted { uid: "u-1".into(), source };
        (target, wanted, [("metaurl".to_owned(), b"redis://r/1".to_vec())].into())
    }

    #[test]
    fn a_secret_is_written_once_and_again_when_its_data_or_its_claim_changed() {
        let (target, mut wanted, mut data) = example();
        let made = secret(&target, &wanted, &data, None).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("data-jfs-secret"));
        assert!(is_ours(&made) && !is_ours(&Secret::default()));
        assert_eq!(made.metadata.owner_references.as_ref().unwrap()[0].uid, "u-1");
        assert_eq!(secret(&target, &wanted, &data, Some(&made)), None);

        data.insert("secretkey".to_owned(), b"s".to_vec());
        let mut stored = made.clone();
        stored.metadata.resource_version = Some("7".to_owned());
        let changed = secret(&target, &wanted, &data, Some(&stored)).unwrap();
        assert_eq!(changed.data.as_ref().unwrap().len(), 2);
        assert_eq!(changed.metadata.resource_version.as_deref(), Some("7"), "nobody else's change is lost");
        data.remove("metaurl");
        let changed = secret(&target, &wanted, &data, Some(&changed)).unwrap();
        assert!(changed.data.unwrap().keys().eq(["secretkey"]), "what no client reads any more is gone");

        wanted.uid = "u-2".into();
        let moved = secret(&target, &wanted, &data, Some(&stored)).unwrap();
        assert_eq!(moved.metadata.owner_references.unwrap()[0].uid, "u-2");
    }

    #[test]
    fn a_secret_of_the_go_driver_never_shrinks() {
        let (target, wanted, data) = example();
        let mut theirs = secret(&target, &wanted, &data, None).unwrap();
        let more = [("check_mount.sh", "x"), ("jfsSettings", "{}"), ("metaurl", "old")];
        theirs.data = Some(more.map(|(key, value)| (key.to_owned(), ByteString(value.into()))).into());
        let made = secret(&target, &wanted, &data, Some(&theirs)).unwrap().data.unwrap();
        assert!(made.keys().eq(["check_mount.sh", "jfsSettings", "metaurl"]));
        assert_eq!(made["metaurl"].0, b"redis://r/1");
    }
}
