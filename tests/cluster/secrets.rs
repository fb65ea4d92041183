//! The secrets that clients read: written by the controller as it is shipped, for pods that the webhook injected.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::core::v1::{PersistentVolumeClaim, Pod, Secret},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    control_plane::eventually,
    events::told,
    installation::{injected, shared},
    objects::create,
};

const TEAM: &str = "secrets-team";
const UNLABELLED: &str = "secrets-unlabelled";
/// Where the user secrets are, out of the team's reach.
const STORAGE: &str = "secrets-storage";

/// A user secret with every kind of confidential value; one as `--from-file` leaves it.
fn source() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": STORAGE, "name": "user"}, "stringData": {
        "name": "jfs", "metaurl": "redis://:first@redis/1\n", "storage": "sftp",
        "bucket": "sftp://user:password@host/directory", "secret-key": "secret",
        "format-options": "trash-days=0,session-token=session,passphrase=phrase", "envs": "TZ: UTC\nTOKEN_FILE: /x",
        "encrypt_rsa_key": "-----BEGIN RSA PRIVATE KEY-----\n"}})
}

/// A claim and the volume that it is bound to.
fn bound(namespace: &str, claim: &str) -> [Value; 2] {
    let volume = format!("{namespace}-{claim}");
    let (modes, capacity) = (json!(["ReadWriteMany"]), json!({"storage": "1Gi"}));
    [
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {
            "accessModes": modes, "capacity": capacity, "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": claim},
            "csi": {"driver": "csi.juicefs.com", "volumeHandle": volume,
                    "nodePublishSecretRef": {"namespace": STORAGE, "name": "user"}}}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace, "name": claim},
            "spec": {"accessModes": modes, "resources": {"requests": capacity}, "storageClassName": "",
                     "volumeName": volume}}),
    ]
}

fn pod(claim: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": TEAM, "name": claim}, "spec": {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

/// The keys of a secret that a pod refers to, in variables and in files.
fn referred_to(pod: &Value, secret: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut key_of = |reference: &Value| {
        if reference["name"] == secret {
            keys.insert(reference["key"].as_str().unwrap().to_owned());
        }
    };
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let variables = container["env"].as_array().into_iter().flatten();
            variables.for_each(|variable| key_of(&variable["valueFrom"]["secretKeyRef"]));
        }
    }
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let source = &volume["secret"];
        for item in source["items"].as_array().into_iter().flatten() {
            key_of(&json!({"name": source["secretName"], "key": item["key"]}));
        }
    }
    keys
}

async fn data(secrets: &Api<Secret>, name: &str) -> Option<BTreeMap<String, ByteString>> {
    secrets.get_opt(name).await.unwrap()?.data
}

async fn create_all(client: &Client, objects: impl IntoIterator<Item = Value>) {
    for object in objects {
        create(client, object, false).await.unwrap();
    }
}

#[tokio::test]
async fn every_claim_has_the_secret_that_its_clients_read() {
    let Some(installation) = shared().await else { return };
    let plane = installation.plane;
    let client = plane.client().await;
    plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
    plane.namespace(UNLABELLED, &[]).await;
    plane.namespace(STORAGE, &[]).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), TEAM);

    // Before the source is there, nothing is.
    create_all(&client, bound(UNLABELLED, "data").into_iter().chain(bound(TEAM, "data"))).await;
    create(&client, source(), false).await.unwrap();
    let made =
        eventually("the secret of a bound claim", async || data(&secrets, "data-jfs-secret").await).await;
    let keys: BTreeSet<_> = made.keys().cloned().collect();
    let answer = eventually("a pod", async || create(&client, pod("data"), false).await.ok()).await;
    assert!(injected(&answer));
    assert_eq!(referred_to(&answer, "data-jfs-secret"), keys);
    let all = [
        "TOKEN_FILE",
        "TZ",
        "bucket",
        "encrypt_rsa_key",
        "metaurl",
        "option-passphrase",
        "secretkey",
        "session-token",
    ];
    assert_eq!(keys, all.map(str::to_owned).into());
    assert_eq!(made["metaurl"].0, b"redis://:first@redis/1", "without the line end");

    a_new_password_arrives(&client, &secrets).await;
    a_foreign_secret_is_left_alone(&client, &secrets).await;
    one_that_is_there_already_becomes_the_claims(&client, &secrets).await;
    a_claim_that_waits_for_its_pod_has_one(&client, &secrets).await;
    one_of_a_class_comes_and_goes_with_its_volumes(&client, &secrets).await;
    it_goes_with_its_claim(&client, &secrets).await;

    let elsewhere: Api<Secret> = Api::namespaced(client, UNLABELLED);
    assert!(data(&elsewhere, "data-jfs-secret").await.is_none(), "nobody asked for one there");
}

async fn a_new_password_arrives(client: &Client, secrets: &Api<Secret>) {
    let sources: Api<Secret> = Api::namespaced(client.clone(), STORAGE);
    let change = json!({"stringData": {"metaurl": "redis://:second@redis/1"}, "data": {"secret-key": null}});
    sources.patch("user", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    eventually("the new password", async || {
        let data = data(secrets, "data-jfs-secret").await?;
        (data["metaurl"].0 == b"redis://:second@redis/1" && !data.contains_key("secretkey")).then_some(())
    })
    .await;
}

async fn a_foreign_secret_is_left_alone(client: &Client, secrets: &Api<Secret>) {
    let name = "foreign-jfs-secret";
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": TEAM, "name": name},
        "stringData": {"precious": "value"}});
    create(client, theirs, false).await.unwrap();
    let before = secrets.get(name).await.unwrap();
    create_all(client, bound(TEAM, "foreign")).await;
    let note = told(client, TEAM, "CredentialsNotOurs", "foreign").await;
    assert!(note.contains("rename or delete it") && !note.contains("redis://"), "{note}");
    assert_eq!(secrets.get(name).await.unwrap(), before);
    // Out of the way, it is replaced without anybody's asking.
    secrets.delete(name, &DeleteParams::default()).await.unwrap();
    let made = eventually("ours in its place", async || data(secrets, name).await).await;
    assert!(made.contains_key("metaurl") && !made.contains_key("precious"));
}

/// Of a claim before this one, or of the driver's webhook.
async fn one_that_is_there_already_becomes_the_claims(client: &Client, secrets: &Api<Secret>) {
    let left = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": TEAM, "name": "left-jfs-secret",
        "labels": {"juicefs/secret": "true"}}, "stringData": {"metaurl": "old", "other": "x"}});
    create_all(client, [left].into_iter().chain(bound(TEAM, "left"))).await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), TEAM);
    let uid = claims.get("left").await.unwrap().metadata.uid;
    eventually("it to be the claim's", async || {
        let secret = secrets.get("left-jfs-secret").await.unwrap();
        let owner = secret.metadata.owner_references?.pop()?.uid;
        let data = secret.data?;
        (Some(owner) == uid && !data.contains_key("other") && data["metaurl"].0 != b"old").then_some(())
    })
    .await;
}

async fn a_claim_that_waits_for_its_pod_has_one(client: &Client, secrets: &Api<Secret>) {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "secrets-waits"},
        "provisioner": "csi.juicefs.com", "volumeBindingMode": "WaitForFirstConsumer", "parameters": {
            "csi.storage.k8s.io/node-publish-secret-name": "user",
            "csi.storage.k8s.io/node-publish-secret-namespace": STORAGE}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": TEAM, "name": "waits"}, "spec": {"accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "secrets-waits"}});
    create_all(client, [class, claim]).await;
    eventually("the secret of an unbound claim", async || data(secrets, "waits-jfs-secret").await).await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), TEAM);
    let status = claims.get("waits").await.unwrap().status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

async fn one_of_a_class_comes_and_goes_with_its_volumes(client: &Client, secrets: &Api<Secret>) {
    let name = "secrets-waits-jfs-class-secret";
    assert!(data(secrets, name).await.is_none());
    let mut ephemeral = pod("ephemeral");
    ephemeral["spec"]["volumes"] = json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "secrets-waits"}}}}]);
    let answer = create(client, ephemeral, false).await.unwrap();
    assert!(injected(&answer));
    let made = eventually("the secret of a class", async || data(secrets, name).await).await;
    assert_eq!(referred_to(&answer, name), made.keys().cloned().collect());
    assert!(!made.is_empty());
    // Injection leaves Kubernetes the name that it would give without.
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), TEAM);
    let of_pod = |claim: &PersistentVolumeClaim| {
        claim.metadata.owner_references.iter().flatten().any(|owner| owner.name == "ephemeral")
    };
    let made = claims.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> =
        made.iter().filter(|claim| of_pod(claim)).map(|one| one.metadata.name.as_deref()).collect();
    assert_eq!(names, [Some("ephemeral-v")]);

    let pods: Api<Pod> = Api::namespaced(client.clone(), TEAM);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("ephemeral", &at_once).await.unwrap();
    eventually("the secret of the class to go", async || data(secrets, name).await.is_none().then_some(()))
        .await;
    assert!(data(secrets, "ephemeral-v-jfs-secret").await.is_none(), "no client reads one");
}

async fn it_goes_with_its_claim(client: &Client, secrets: &Api<Secret>) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), TEAM);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("data", &at_once).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), TEAM);
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    eventually("the secret to go", async || {
        secrets.get_opt("data-jfs-secret").await.unwrap().is_none().then_some(())
    })
    .await;
}
