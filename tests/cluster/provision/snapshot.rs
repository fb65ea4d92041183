//! Snapshots, with the real controller of snapshots that clusters have.

mod hostile;

use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{Place, clone::directory, cluster, create, eventually, file_system, name, volume};
use crate::{events::told, rights};

const GROUP: &str = "snapshot.storage.k8s.io";

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind))
}

/// What makes a claim begin with a snapshot.
fn from(snapshot: &str) -> Value {
    json!({"dataSource": {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": snapshot}})
}

impl Place {
    fn snapshots(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &resource("VolumeSnapshot"))
    }

    fn contents(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource("VolumeSnapshotContent"))
    }

    /// A class of snapshots with this policy, called after the place and it.
    async fn snapshot_class(&self, policy: &str, parameters: Value) -> String {
        let name = format!("{}-{}", self.name, policy.to_lowercase());
        let class = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotClass",
            "metadata": {"name": name}, "driver": "csi.juicefs.com", "deletionPolicy": policy, "parameters": parameters});
        create(&self.client, class, false).await.unwrap();
        name
    }

    async fn snapshot(&self, name: &str, class: &str, claim: &str) {
        let snapshot = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot",
            "metadata": {"namespace": self.name, "name": name},
            "spec": {"volumeSnapshotClassName": class, "source": {"persistentVolumeClaimName": claim}}});
        create(&self.client, snapshot, false).await.unwrap();
    }

    /// The content of a snapshot, once the snapshot is ready.
    async fn ready(&self, name: &str) -> DynamicObject {
        let snapshots = self.snapshots();
        let what = format!("snapshot {name} to be ready");
        let content = eventually(&what, async || {
            let status = snapshots.get(name).await.unwrap().data["status"].clone();
            let content = status["boundVolumeSnapshotContentName"].as_str()?.to_owned();
            (status["readyToUse"] == true).then_some(content)
        })
        .await;
        self.contents().get(&content).await.unwrap()
    }

    async fn content_gone(&self, content: &str) {
        let contents = self.contents();
        eventually("the content to go", async || {
            contents.get_opt(content).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// What people are told about a content.
    async fn told_of_content(&self, reason: &str, content: &str) -> String {
        told(&self.client, "default", reason, content).await
    }

    /// Everything in the file system that is below a directory, without its path.
    fn below(&self, directory: &str) -> Vec<String> {
        let (prefix, tree) = (format!("{directory}/"), self.file_system.contents());
        let below = tree.keys().filter_map(|path| path.strip_prefix(&prefix));
        below.filter(|path| !path.is_empty()).map(str::to_owned).collect()
    }
}

fn path(content: &DynamicObject) -> String {
    format!(".snapshots/{}", content.metadata.uid.as_ref().unwrap())
}

fn content_name(content: &DynamicObject) -> &str {
    content.metadata.name.as_deref().unwrap()
}

#[tokio::test]
async fn a_snapshot_keeps_what_there_was_and_goes_alone() {
    let Some(place) = Place::new("snapshot-plain", json!({}), json!({})).await else { return };
    let class = place.snapshot_class("Delete", json!({})).await;
    place.claim("data", json!({})).await;
    let data = place.bound("data").await;
    let original = directory(&data);
    place.file_system.write(&format!("{original}/deep/before"));
    place.snapshot("then", &class, "data").await;
    let then = place.ready("then").await;
    place.file_system.write(&format!("{original}/after"));
    place.snapshot("later", &class, "data").await;
    let later = place.ready("later").await;
    let status = &then.data["status"];
    let uid = then.metadata.uid.as_deref().unwrap();
    let handle = status["snapshotHandle"].as_str().unwrap();
    assert_eq!(handle.split_once('/').unwrap().1, uid);
    assert_eq!(status["restoreSize"], 2_u64 << 30);
    assert!(
        status["creationTime"].as_u64().unwrap() < later.data["status"]["creationTime"].as_u64().unwrap()
    );
    assert_eq!(place.below(&path(&then)), ["deep/", "deep/before"]);
    assert_eq!(place.below(&path(&later)), ["after", "deep/", "deep/before"]);
    let note = place.told_of_content("SnapshotTaken", content_name(&then)).await;
    assert!(note.contains(handle), "{note}");

    // The original goes, with its data and nothing else.
    place.delete("data").await;
    place.gone(&name(&data)).await;
    assert!(place.below(&original).is_empty());
    let mut more = from("then");
    more["resources"] = json!({"requests": {"storage": "3Gi"}});
    place.claim("new", more).await;
    let new = place.bound("new").await;
    assert_eq!(place.below(&directory(&new)), ["deep/", "deep/before"]);
    let contents = place.file_system.contents();
    assert_eq!(contents[&format!("{}/deep/before", directory(&new))], format!("{original}/deep/before"));
    assert_eq!(place.file_system.quota(&format!("/{}", directory(&new))).as_deref(), Some("3.0 GiB"));
    let note = place.told("ProvisioningSucceeded", "new").await;
    assert!(note.contains("with the data of volumesnapshot \"snapshot-plain/then\""), "{note}");

    // And so does a snapshot.
    let mut left = place.file_system.contents();
    place.snapshots().delete("then", &DeleteParams::default()).await.unwrap();
    place.content_gone(content_name(&then)).await;
    left.retain(|one, _| !one.starts_with(&format!("{}/", path(&then))));
    assert_eq!(place.file_system.contents(), left);
    assert_eq!(place.below(&path(&later)), ["after", "deep/", "deep/before"]);
    rights::all_of(&cluster().await.unwrap().plane, GROUP);
}

#[tokio::test]
async fn what_cannot_begin_with_a_snapshot_is_said() {
    let pattern = json!({"pathPattern": "${.PVC.annotations.path}"});
    let Some(place) = Place::new("snapshot-refused", pattern, json!({})).await else { return };
    let class = place.snapshot_class("Delete", json!({})).await;
    place.class("snapshot-refused-plain", json!({}), json!({})).await;
    let elsewhere = file_system::shared().one();
    create(&place.client, elsewhere.secret(&place.name, "elsewhere"), false).await.unwrap();
    let other = json!({"csi.storage.k8s.io/node-publish-secret-name": "elsewhere"});
    place.class("snapshot-refused-elsewhere", other, json!({})).await;
    place.claim("data", json!({"storageClassName": "snapshot-refused-plain"})).await;
    let data = place.bound("data").await;
    place.file_system.write(&format!("{}/file", directory(&data)));
    place.snapshot("then", &class, "data").await;
    let then = place.ready("then").await;
    let before = place.file_system.contents();
    for (claim, class, size, snapshot, text) in [
        ("small", "snapshot-refused-plain", "1Gi", "then", "ask for at least as much"),
        ("elsewhere", "snapshot-refused-elsewhere", "2Gi", "then", "is in another file system"),
        ("missing", "snapshot-refused-plain", "2Gi", "never", "which it is to begin with, does not exist"),
    ] {
        let mut more = from(snapshot);
        more["storageClassName"] = json!(class);
        more["resources"] = json!({"requests": {"storage": size}});
        place.claim(claim, more).await;
        let note = place.told("ProvisioningFailed", claim).await;
        assert!(note.contains(text), "{claim}: {note}");
    }
    // Nor does a volume get a snapshot's own directory, or take it along.
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {
            "namespace": place.name, "name": "inside", "annotations": {"path": path(&then)}},
        "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": place.name,
                 "resources": {"requests": {"storage": "1Gi"}}}});
    create(&place.client, claim, false).await.unwrap();
    let note = place.told("ProvisioningFailed", "inside").await;
    assert!(note.contains("where snapshots are"), "{note}");
    let mut around = volume(&place, "snapshot-refused-around", ".snapshots", "user");
    around["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
    around["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "csi.juicefs.com"});
    create(&place.client, around, false).await.unwrap();
    place
        .claim(
            "snapshot-refused-around",
            json!({"volumeName": "snapshot-refused-around",
        "resources": {"requests": {"storage": "1Gi"}}}),
        )
        .await;
    place.bound("snapshot-refused-around").await;
    place.delete("snapshot-refused-around").await;
    let note = place.told_of_volume("VolumeDataKept", "snapshot-refused-around").await;
    assert!(note.contains("where snapshots are"), "{note}");
    place.gone("snapshot-refused-around").await;
    assert_eq!(place.file_system.contents(), before);
}

#[tokio::test]
async fn what_is_retained_stays_and_can_be_found_again() {
    let Some(place) = Place::new("snapshot-retain", json!({}), json!({})).await else { return };
    let class = place.snapshot_class("Retain", json!({})).await;
    place.claim("data", json!({})).await;
    let data = place.bound("data").await;
    place.file_system.write(&format!("{}/file", directory(&data)));
    place.snapshot("then", &class, "data").await;
    let then = place.ready("then").await;
    let before = place.file_system.contents();
    place.snapshots().delete("then", &DeleteParams::default()).await.unwrap();
    let snapshots = place.snapshots();
    eventually("the snapshot to go", async || {
        snapshots.get_opt("then").await.unwrap().is_none().then_some(())
    })
    .await;
    place.contents().delete(content_name(&then), &DeleteParams::default()).await.unwrap();
    place.content_gone(content_name(&then)).await;
    assert_eq!(place.file_system.contents(), before);

    // Another content finds it by its handle, and does not take it along.
    let content = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent",
        "metadata": {"name": "snapshot-retain-again", "annotations": {
            "snapshot.storage.kubernetes.io/deletion-secret-name": "user",
            "snapshot.storage.kubernetes.io/deletion-secret-namespace": place.name}},
        "spec": {"driver": "csi.juicefs.com", "deletionPolicy": "Delete",
            "source": {"snapshotHandle": then.data["status"]["snapshotHandle"]},
            "volumeSnapshotRef": {"namespace": place.name, "name": "again"}}});
    create(&place.client, content, false).await.unwrap();
    let snapshot = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot",
        "metadata": {"namespace": place.name, "name": "again"},
        "spec": {"source": {"volumeSnapshotContentName": "snapshot-retain-again"}}});
    create(&place.client, snapshot, false).await.unwrap();
    place.ready("again").await;
    place.claim("new", from("again")).await;
    let new = place.bound("new").await;
    assert_eq!(place.below(&directory(&new)), ["file"]);
    place.snapshots().delete("again", &DeleteParams::default()).await.unwrap();
    place.content_gone("snapshot-retain-again").await;
    let note = place.told_of_content("VolumeDataKept", "snapshot-retain-again").await;
    assert!(note.contains("was not taken for this"), "{note}");
    assert_eq!(place.below(&path(&then)), ["file"]);
}

#[tokio::test]
async fn a_secret_is_kept_for_as_long_as_a_snapshot_may_have_to_be_removed() {
    const FINALIZER: &str = "juicefs.com/finalizer";
    let parameters = json!({"secretFinalizer": "true"});
    let Some(place) = Place::new("snapshot-secret", parameters, json!({})).await else { return };
    let class = place.snapshot_class("Delete", json!({})).await;
    place.claim("data", json!({})).await;
    let data = name(&place.bound("data").await);
    place.snapshot("then", &class, "data").await;
    let then = place.ready("then").await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(place.client.clone(), &place.name);
    let holds = async || {
        let found = secrets.get_opt("user").await.unwrap()?;
        Some(found.metadata.finalizers.unwrap_or_default().iter().any(|one| one == FINALIZER))
    };
    eventually("the secret to be held", async || (holds().await == Some(true)).then_some(())).await;
    secrets.delete("user", &DeleteParams::default()).await.unwrap();
    place.delete("data").await;
    place.gone(&data).await;
    assert_eq!(holds().await, Some(true), "the snapshot needs it");
    assert_eq!(place.file_system.tree().len(), 2);
    place.snapshots().delete("then", &DeleteParams::default()).await.unwrap();
    place.content_gone(content_name(&then)).await;
    eventually("the secret to go", async || holds().await.is_none().then_some(())).await;
    assert_eq!(place.file_system.tree(), [".snapshots/".to_owned()].into());
}
