//! Objects of any kind, from files into the API server.

use std::{fs, path::Path};

use juicefs_sidecar::offline::documents;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};

/// Kinds that are in no namespace.
const CLUSTER_WIDE: [&str; 6] =
    ["Node", "Namespace", "PersistentVolume", "StorageClass", "VolumeSnapshotClass", "VolumeSnapshotContent"];

/// The documents of a file; none of one that is not YAML.
pub(crate) fn parse(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let documents = documents::parse(&path.to_string_lossy(), &text).unwrap_or_default();
    documents.into_iter().map(|document| document.value).collect()
}

/// Creates it in the namespace it names; what the API server made of it, or what it says against it.
pub(crate) async fn create(client: &Client, document: Value, dry_run: bool) -> Result<Value, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&document["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = GroupVersionKind::gvk(group, version, &text(&document["kind"]));
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = if CLUSTER_WIDE.contains(&kind.kind.as_str()) {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &text(&document["metadata"]["namespace"]), &resource)
    };
    let object = serde_json::from_value(document).map_err(|error| error.to_string())?;
    match api.create(&PostParams { dry_run, ..PostParams::default() }, &object).await {
        Ok(created) => Ok(serde_json::to_value(created).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => Err(error.to_string()),
    }
}

/// A secret, a volume that names it, and the volume's claim, all called alike.
pub(crate) fn storage(namespace: &str, name: &str) -> [Value; 3] {
    [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {"name": "myjfs", "metaurl": "redis://10.0.0.1/1"}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": namespace, "name": name},
            "csi": {"driver": "csi.juicefs.com", "volumeHandle": name,
                "nodePublishSecretRef": {"namespace": namespace, "name": name}}}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}}}}),
    ]
}
