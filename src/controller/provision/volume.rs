//! The PersistentVolume of a claim, as the standard provisioner would leave it. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        CSIPersistentVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeSpec, SecretReference,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use crate::{
    outcome::{Code, Refusal},
    volume::{
        Claim, StorageClass,
        attributes::{CAPACITY, PATH_PATTERN, QUOTA_SET},
        backing::Backing,
    },
};

/// Keeps a volume until its data is gone; the standard provisioner's, so that whoever provisions next takes it away.
pub const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// Annotation of a volume: the driver that made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Attribute of a volume: its directory, from the root of the file system. Attributes cannot be edited, mount options
/// can.
pub const DIRECTORY: &str = "sidecar.juicefs.com/directory";
/// Parameters that name the secret for expansions.
const EXPAND_SECRET: [&str; 2] = [
    "csi.storage.k8s.io/controller-expand-secret-name",
    "csi.storage.k8s.io/controller-expand-secret-namespace",
];

/// What a claim asks that cannot be had.
pub fn check(claim: &Claim, class: &StorageClass) -> Result<u64, Refusal> {
    let Claim { metadata, spec, .. } = claim;
    let refused = |field: &str, what: &str, remedy: &str| {
        let place = format!("persistentvolumeclaim \"{}/{}\": {field}", metadata.namespace, metadata.name);
        Err(Refusal::new(Code::ClaimUnusable, place, what, remedy))
    };
    if spec.block {
        let what = "a JuiceFS volume is a file system, not a block device";
        return refused("spec.volumeMode", what, "make the claim with volumeMode: Filesystem");
    }
    if spec.selector.is_some() {
        let what = "a volume that is made for a claim has no labels to be selected by";
        return refused("spec.selector", what, "make the claim without a selector, or without a class");
    }
    let has_pattern = class.parameters.get(PATH_PATTERN).is_some_and(|pattern| !pattern.is_empty());
    let is_filled = has_pattern || spec.data_source.is_some() || spec.data_source_ref.is_some();
    if spec.access_modes.allow_many_readers() && !is_filled {
        let what = "a volume of its own would be empty, and nobody could write to it by ReadOnlyMany";
        return refused(
            "spec.accessModes",
            what,
            "use another mode, a class whose pathPattern leads to data, or a dataSource",
        );
    }
    if class.has_topologies {
        let place = format!("storageclass \"{}\": allowedTopologies", class.metadata.name);
        let what = "a JuiceFS volume is reached from everywhere alike";
        return Err(Refusal::new(
            Code::ClaimUnusable,
            place,
            what,
            "make the class without allowedTopologies",
        ));
    }
    match spec.bytes {
        Some(bytes) => Ok(bytes.get()),
        None => {
            refused("spec.resources.requests.storage", "is no amount of storage", "write, for example, 10Gi")
        }
    }
}

/// What is known of a volume before it is there.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Its claim.
    pub claim: &'a Claim,
    /// The claim's class.
    pub class: &'a StorageClass,
    /// What the class makes of the claim.
    pub backing: &'a Backing,
    /// How many bytes are asked for.
    pub bytes: u64,
    /// Its directory.
    pub directory: &'a str,
    /// Whether there is a quota.
    pub has_quota: bool,
    /// Our driver.
    pub driver: &'a str,
}

/// The volume.
pub fn volume(parts: &Parts<'_>) -> PersistentVolume {
    let Parts { claim, class, backing, bytes, driver, .. } = *parts;
    let name = backing.name.to_string();
    let is_deleted = is_deleted_with_claim(class);
    let policy = if is_deleted { "Delete" } else { "Retain" };
    let metadata = &claim.metadata;
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), driver.to_owned())])),
            finalizers: is_deleted.then(|| vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(claim.spec.access_modes.names().map(str::to_owned).collect()),
            capacity: Some(storage(bytes)),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: Some(metadata.namespace.to_string()),
                name: Some(metadata.name.to_string()),
                uid: Some(metadata.uid.to_string()),
                ..ObjectReference::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: driver.to_owned(),
                volume_handle: name,
                fs_type: Some("juicefs".to_owned()),
                volume_attributes: Some(attributes(parts)),
                node_publish_secret_ref: Some(SecretReference {
                    name: Some(backing.secret.name.to_string()),
                    namespace: Some(backing.secret.namespace.to_string()),
                }),
                controller_expand_secret_ref: expand_secret(backing),
                ..CSIPersistentVolumeSource::default()
            }),
            mount_options: Some(backing.mount_options.iter().map(ToString::to_string).collect::<Vec<_>>())
                .filter(|options| !options.is_empty()),
            persistent_volume_reclaim_policy: Some(policy.to_owned()),
            storage_class_name: Some(class.metadata.name.to_string()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    }
}

/// `Delete`, unless the class says otherwise.
fn is_deleted_with_claim(class: &StorageClass) -> bool {
    &*class.reclaim_policy != "Retain"
}

/// An amount of storage, as objects have it.
pub fn storage(bytes: u64) -> BTreeMap<String, Quantity> {
    let written = crate::notation::Quantity::from_bytes(bytes).to_string();
    BTreeMap::from([("storage".to_owned(), Quantity(written))])
}

/// As contract 5.2 has them: parameters of the class over what the provisioner says.
fn attributes(parts: &Parts<'_>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([
        (CAPACITY.to_owned(), parts.bytes.to_string()),
        (DIRECTORY.to_owned(), parts.directory.to_owned()),
    ]);
    if parts.has_quota {
        attributes.insert(QUOTA_SET.to_owned(), "true".to_owned());
    }
    let own = parts.backing.attributes.iter();
    attributes.extend(own.map(|(key, value)| (key.to_string(), value.to_string())));
    // A parameter may not say where the data is: removal believes this.
    attributes.insert(DIRECTORY.to_owned(), parts.directory.to_owned());
    attributes
}

fn expand_secret(backing: &Backing) -> Option<SecretReference> {
    let value =
        |key: &str| backing.attributes.get(key).filter(|value| !value.is_empty()).map(ToString::to_string);
    let [name, namespace] = EXPAND_SECRET.map(value);
    Some(SecretReference { name: Some(name?), namespace: Some(namespace?) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volume::{backing::Search, catalog::Writer};

    fn class(more: &Value) -> StorageClass {
        let mut class = json!({"metadata": {"name": "juicefs"}, "provisioner": "csi.juicefs.com",
            "mountOptions": ["cache-size=1, writeback"], "parameters": {
                "pathPattern": "${.PVC.namespace}/${.PVC.name}", "juicefs/mount-image": "image",
                "csi.storage.k8s.io/node-publish-secret-name": "user",
                "csi.storage.k8s.io/node-publish-secret-namespace": "storage",
                "csi.storage.k8s.io/controller-expand-secret-name": "user",
                "csi.storage.k8s.io/controller-expand-secret-namespace": "storage"}});
        class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(class).unwrap()
    }

    fn claim(more: &Value) -> Claim {
        let mut spec = json!({"accessModes": ["ReadWriteMany"], "storageClassName": "juicefs",
            "resources": {"requests": {"storage": "1536Mi"}}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(
            json!({"metadata": {"namespace": "team", "name": "data", "uid": "u-1"}, "spec": spec}),
        )
        .unwrap()
    }

    fn made(class: &StorageClass, claim: &Claim, has_quota: bool) -> Value {
        let mut writer = Writer::default();
        writer.apply(class.clone());
        let mut search = Search::new(writer.catalog(), "csi.juicefs.com");
        let (_, backing) = search.behind(claim).unwrap().unwrap();
        let bytes = check(claim, class).unwrap();
        let directory = "base/team/data";
        let parts =
            Parts { claim, class, backing: &backing, bytes, directory, has_quota, driver: "csi.juicefs.com" };
        serde_json::to_value(volume(&parts)).unwrap()
    }

    #[test]
    fn a_volume_is_as_the_contract_has_it() {
        let made = made(&class(&json!({})), &claim(&json!({})), true);
        assert_eq!(
            made,
            json!({"apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "pvc-u-1", "finalizers": [FINALIZER],
                    "annotations": {"pv.kubernetes.io/provisioned-by": "csi.juicefs.com"}},
                "spec": {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1536Mi"},
                    "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "team", "name": "data",
                        "uid": "u-1"},
                    "csi": {"driver": "csi.juicefs.com", "volumeHandle": "pvc-u-1", "fsType": "juicefs",
                        "volumeAttributes": {
                            "subPath": "team/data", "pathPattern": "team/data", "capacity": "1610612736",
                            "juicefs/controller-quota-set": "true", "juicefs/mount-image": "image",
                            "sidecar.juicefs.com/directory": "base/team/data",
                            "csi.storage.k8s.io/node-publish-secret-name": "user",
                            "csi.storage.k8s.io/node-publish-secret-namespace": "storage",
                            "csi.storage.k8s.io/controller-expand-secret-name": "user",
                            "csi.storage.k8s.io/controller-expand-secret-namespace": "storage"},
                        "nodePublishSecretRef": {"name": "user", "namespace": "storage"},
                        "controllerExpandSecretRef": {"name": "user", "namespace": "storage"}},
                    "mountOptions": ["cache-size=1", "writeback"], "persistentVolumeReclaimPolicy": "Delete",
                    "storageClassName": "juicefs", "volumeMode": "Filesystem"}})
        );
    }

    #[test]
    fn a_volume_that_is_kept_has_no_finalizer_and_no_parameter_says_where_it_is() {
        let parameters = json!({"sidecar.juicefs.com/directory": "other",
            "csi.storage.k8s.io/node-publish-secret-name": "user",
            "csi.storage.k8s.io/node-publish-secret-namespace": "storage"});
        let class =
            class(&json!({"reclaimPolicy": "Retain", "parameters": parameters, "mountOptions": null}));
        let made = made(&class, &claim(&json!({})), false);
        assert_eq!(made["metadata"]["finalizers"], Value::Null);
        let (spec, attributes) = (&made["spec"], &made["spec"]["csi"]["volumeAttributes"]);
        assert_eq!(spec["persistentVolumeReclaimPolicy"], "Retain");
        assert_eq!(attributes["sidecar.juicefs.com/directory"], "base/team/data");
        assert_eq!(attributes["subPath"], "pvc-u-1");
        assert_eq!(attributes["juicefs/controller-quota-set"], Value::Null);
        assert_eq!(
            (&spec["mountOptions"], &spec["csi"]["controllerExpandSecretRef"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_its_field() {
        for (more, field) in [
            (json!({"volumeMode": "Block"}), "spec.volumeMode"),
            (json!({"selector": {"matchLabels": {"a": "b"}}}), "spec.selector"),
            (json!({"resources": {}}), "spec.resources.requests.storage"),
        ] {
            let refusal = check(&claim(&more), &class(&json!({}))).unwrap_err();
            assert!(refusal.place.ends_with(field), "{refusal}");
        }
        let only_read = claim(&json!({"accessModes": ["ReadOnlyMany"]}));
        assert!(check(&only_read, &class(&json!({}))).is_ok(), "its pattern leads to data");
        let cloned = claim(
            &json!({"accessModes": ["ReadOnlyMany"], "dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}),
        );
        assert!(check(&cloned, &class(&json!({"parameters": {}}))).is_ok(), "it is not empty");
        let refusal = check(&only_read, &class(&json!({"parameters": {}}))).unwrap_err();
        assert!(refusal.place.ends_with("spec.accessModes"), "{refusal}");
        let topologies = class(&json!({"allowedTopologies": [{"matchLabelExpressions": []}]}));
        let refusal = check(&claim(&json!({})), &topologies).unwrap_err();
        assert!(refusal.place.ends_with("allowedTopologies"), "{refusal}");
    }
}
