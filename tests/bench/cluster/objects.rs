//! A large cluster: what is in it, and how it gets there.

use std::{collections::BTreeMap, process::Stdio, sync::Arc};

use juicefs_sidecar::volume::{
    Catalog, UserSecret,
    catalog::Writer,
    objects::{Claim, PersistentVolume, Secret as SecretFacts, StorageClass},
};
use k8s_openapi::api::{
    core::v1::{PersistentVolume as ApiVolume, PersistentVolumeClaim, Secret},
    storage::v1::StorageClass as ApiClass,
};
use kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::control_plane::ControlPlane;

/// Claims, and volumes.
pub(crate) const MANY: usize = 10_000;
/// Secrets of others.
const SECRETS: usize = 2_000;
/// Claims are spread over so many namespaces.
const NAMESPACES: usize = 100;
/// File systems, each with a class and a secret.
const FILE_SYSTEMS: usize = 10;
/// Writers at once.
const WRITERS: usize = 16;
/// Where secrets of file systems are.
const SYSTEM: &str = "kube-system";
/// The labels of a namespace whose pods are injected.
const INJECTED: [(&str, &str); 1] = [("juicefs.com/enable-injection", "true")];
/// Namespaces that pods are created in: one with injection, one with the same from a webhook that does not look, and one
/// without.
pub(crate) const CREATED_IN: [&str; 3] = ["with-injection", "with-constant", "without-injection"];
/// The namespace of juicefs-sidecar.
pub(crate) const OWN: &str = "juicefs-sidecar";

/// Fills a control plane, and installs juicefs-sidecar in it.
pub(crate) async fn fill(plane: &ControlPlane) {
    install(plane);
    plane.namespace(CREATED_IN[0], &INJECTED).await;
    plane.namespace(CREATED_IN[1], &[("constant", "true")]).await;
    plane.namespace(CREATED_IN[2], &[]).await;
    let client = plane.client().await;
    for number in 0..FILE_SYSTEMS {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
        create(&secrets, secret(&format!("file-system-{number}"))).await;
        create(&Api::<ApiClass>::all(client.clone()), class(number)).await;
    }
    let namespaces = Api::all(client.clone());
    for number in 0..NAMESPACES {
        let labels = json!({"juicefs.com/enable-injection": "true"});
        let namespace = json!({"metadata": {"name": namespace(number), "labels": labels}});
        create::<k8s_openapi::api::core::v1::Namespace>(&namespaces, namespace).await;
    }
    for namespace in CREATED_IN {
        bound(&client, MANY, namespace).await;
    }
    let mut writers = JoinSet::new();
    for first in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            for number in (first..MANY).step_by(WRITERS) {
                bound(&client, number, &namespace(number)).await;
            }
            for number in (first..SECRETS).step_by(WRITERS) {
                let api: Api<Secret> = Api::namespaced(client.clone(), &namespace(number));
                create(&api, secret(&format!("somebody-else-{number}"))).await;
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.expect("a writer");
    }
}

/// Installs juicefs-sidecar, but for its programs.
pub(crate) fn install(plane: &ControlPlane) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/webhook-config");
    let installed = plane.kubectl().args(["apply", "-k", folder]).stdout(Stdio::null()).status();
    assert!(installed.expect("kubectl").success(), "webhook-config cannot be applied");
}

/// The same claims, volumes and classes, and the secrets that they name, as a catalogue.
pub(crate) fn catalog() -> Catalog {
    let read = |error: serde_json::Error| error.to_string();
    let mut writer = Writer::default();
    for number in 0..FILE_SYSTEMS {
        writer.apply(serde_json::from_value::<StorageClass>(class(number)).map_err(read).expect("a class"));
        let name = format!("file-system-{number}");
        let texts: BTreeMap<String, String> =
            serde_json::from_value(secret(&name)["stringData"].clone()).map_err(read).expect("texts");
        let data = texts.into_iter().map(|(key, text)| (key, text.into_bytes())).collect();
        let facts = UserSecret::parse(&data).map(Arc::new);
        writer.apply(SecretFacts { namespace: SYSTEM.into(), name: name.into(), facts });
    }
    for number in 0..MANY {
        let uid = format!("5f0c2d9e-8d8b-4f0a-9c57-{number:012}");
        let mut claim = claim(number, &namespace(number));
        claim["metadata"]["uid"] = uid.as_str().into();
        let volume = volume(number, &namespace(number), &uid);
        writer.apply(serde_json::from_value::<Claim>(claim).map_err(read).expect("a claim"));
        writer.apply(serde_json::from_value::<PersistentVolume>(volume).map_err(read).expect("a volume"));
    }
    writer.snapshot()
}

/// A claim and its volume, as a provisioner and the binder leave them.
async fn bound(client: &Client, number: usize, namespace: &str) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let made = create(&claims, claim(number, namespace)).await;
    let uid = made.metadata.uid.expect("a UID");
    create(&Api::<ApiVolume>::all(client.clone()), volume(number, namespace, &uid)).await;
}

pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("a new object")
}

/// The namespace of a claim.
pub(crate) fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

/// The name of a claim.
pub(crate) fn claim_name(number: usize) -> String {
    format!("data-web-{number}")
}

fn volume_name(number: usize, namespace: &str) -> String {
    format!("pvc-5f0c2d9e-{namespace}-{number}")
}

fn claim(number: usize, namespace: &str) -> Value {
    json!({
        "metadata": {
            "name": claim_name(number), "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": format!("web-{number}")},
            "annotations": {
                "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
                "volume.beta.kubernetes.io/storage-provisioner": "csi.juicefs.com",
                "volume.kubernetes.io/storage-provisioner": "csi.juicefs.com",
            },
        },
        "spec": {
            "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": format!("juicefs-{}", number % FILE_SYSTEMS),
            "volumeName": volume_name(number, namespace),
        },
    })
}

fn volume(number: usize, namespace: &str, uid: &str) -> Value {
    let name = volume_name(number, namespace);
    json!({
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": "csi.juicefs.com"}},
        "spec": {
            "accessModes": ["ReadWriteMany"], "capacity": {"storage": "10Gi"},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim_name(number),
                "namespace": namespace, "uid": uid,
            },
            "csi": {
                "driver": "csi.juicefs.com", "fsType": "juicefs", "volumeHandle": name,
                "nodePublishSecretRef": {"name": format!("file-system-{}", number % FILE_SYSTEMS), "namespace": SYSTEM},
                "volumeAttributes": {
                    "capacity": "10737418240", "subPath": format!("{namespace}/{}", claim_name(number)),
                    "juicefs/mount-cpu-limit": "2", "juicefs/mount-memory-limit": "4Gi",
                    "storage.kubernetes.io/csiProvisionerIdentity": "1700000000000-8081-csi.juicefs.com",
                },
            },
            "mountOptions": ["cache-size=2048", "max-uploads=50"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": format!("juicefs-{}", number % FILE_SYSTEMS),
        },
    })
}

fn class(number: usize) -> Value {
    json!({
        "metadata": {"name": format!("juicefs-{number}")}, "provisioner": "csi.juicefs.com",
        "parameters": {
            "csi.storage.k8s.io/provisioner-secret-name": format!("file-system-{number}"),
            "csi.storage.k8s.io/provisioner-secret-namespace": SYSTEM,
            "csi.storage.k8s.io/node-publish-secret-name": format!("file-system-{number}"),
            "csi.storage.k8s.io/node-publish-secret-namespace": SYSTEM,
        },
    })
}

fn secret(name: &str) -> Value {
    json!({"metadata": {"name": name}, "stringData": {
        "name": name, "metaurl": format!("redis://:password@redis.example:6379/{}", name.len()),
        "storage": "s3", "bucket": "https://bucket.example", "access-key": "key", "secret-key": "secret",
    }})
}

/// A pod with a claim, as a `ReplicaSet` makes it.
pub(crate) fn pod(name: &str, number: usize, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {
            "containers": [{
                "name": "app", "image": "registry.example/web:1.2.3", "ports": [{"containerPort": 8080}],
                "env": [{"name": "MODE", "value": "production"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name(number)}}],
        },
    })
}
