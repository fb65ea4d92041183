//! A cluster to which the kinds come late, and contents that nobody of good will writes. There is no controller of
//! snapshots here: what it would write, these tests do.

use std::fs;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{GROUP, Place, content_name, create, directory, eventually, file_system, from, name, path};
use crate::{control_plane::ControlPlane, installation::controller, manifests};

const FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";

/// A content that is bound to a snapshot of its name, as the controller of snapshots leaves it.
fn content(place: &Place, name: &str, source: &Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent",
        "metadata": {"name": name, "finalizers": [FINALIZER], "annotations": {
            "snapshot.storage.kubernetes.io/deletion-secret-name": "user",
            "snapshot.storage.kubernetes.io/deletion-secret-namespace": place.name}},
        "spec": {"driver": "csi.juicefs.com", "deletionPolicy": "Delete", "source": source,
            "volumeSnapshotRef": {"namespace": place.name, "name": name, "uid": format!("uid-of-{name}")}}})
}

/// The content, once what it says of itself is so.
async fn once(place: &Place, name: &str, is_so: impl Fn(&Value) -> bool) -> kube::api::DynamicObject {
    let contents = place.contents();
    eventually(&format!("the status of {name}"), async || {
        contents.get_opt(name).await.unwrap().filter(|found| is_so(&found.data["status"]))
    })
    .await
}

async fn remove(place: &Place, name: &str) {
    let contents = place.contents();
    let marked = json!({"metadata": {"annotations": {BEING_DELETED: "yes"}}});
    contents.patch(name, &PatchParams::default(), &Patch::Merge(&marked)).await.unwrap();
    contents.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn the_kinds_may_come_late_and_their_objects_be_anything() {
    let Some(plane) = ControlPlane::start() else { return };
    let Some(kinds) = ControlPlane::snapshots() else { return };
    manifests::install(&plane);
    let worker = format!("--worker={}", file_system::shared().socket().display());
    let _controller = controller(&plane, &[&worker]).await;
    let place = Place::of(&plane, "snapshot-late", json!({}), json!({})).await;
    place.claim("data", json!({})).await;
    let data = place.bound("data").await;
    place.file_system.write(&format!("{}/file", directory(&data)));
    place.claim("early", from("never")).await;
    let note = place.told("ProvisioningFailed", "early").await;
    assert!(note.contains("volumesnapshot \"snapshot-late/never\""), "{note}");
    let asked = fs::read_to_string(plane.state().join("log/audit.json")).unwrap();
    assert!(!asked.contains("\"volumesnapshotcontents\""), "nothing of it runs");

    let applied =
        plane.kubectl().args(["apply", "--server-side", "-f"]).arg(kinds.join("crds")).output().unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let volume = json!({"volumeHandle": name(&data)});
    eventually("the kinds to be served", async || {
        create(&place.client, content(&place, "then", &volume), false).await.ok()
    })
    .await;
    let then = once(&place, "then", |status| status["readyToUse"] == true).await;
    assert_eq!(place.below(&path(&then)), ["file"]);
    let handle = then.data["status"]["snapshotHandle"].as_str().unwrap().to_owned();
    let (file_system, uid) = handle.split_once('/').unwrap();

    // What leads nowhere, and what is not ours.
    let before = place.file_system.contents();
    let mut refused =
        vec![("volume", json!({"volumeHandle": "nobodys"}), "no persistentvolume has the handle")];
    let other = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let handles = [
        ("dots", format!("{file_system}/.."), "is no handle"),
        ("up", format!("{file_system}/../{}", directory(&data)), "is no handle"),
        ("deep", format!("{handle}/file"), "is no handle"),
        ("root", format!("{file_system}/"), "is no handle"),
        ("line", format!("{handle}\n"), "is no handle"),
        ("go-driver", format!("snapshot-{uid}|{}", name(&data)), "is no handle"),
        ("absent", format!("{file_system}/{other}"), "has no directory"),
        ("elsewhere", format!("{other}/{uid}"), "leads to the file system"),
    ];
    refused
        .extend(handles.iter().map(|(name, handle, text)| (*name, json!({"snapshotHandle": handle}), *text)));
    let mut foreign = content(&place, "foreign", &volume);
    foreign["spec"]["driver"] = json!("other.example.com");
    create(&place.client, foreign, false).await.unwrap();
    for (name, source, text) in &refused {
        create(&place.client, content(&place, name, source), false).await.unwrap();
        let found = once(&place, name, |status| status["error"]["message"].is_string()).await;
        let (error, ready) = (&found.data["status"]["error"]["message"], &found.data["status"]["readyToUse"]);
        assert!(error.as_str().unwrap().contains(text) && *ready == false, "{name}: {error}");
        assert!(place.told_of_content("SnapshotCreationFailed", name).await.contains(text));
    }
    assert_eq!(place.contents().get("foreign").await.unwrap().data["status"], Value::Null);

    // They go, and take nothing along: of their handles, of one that somebody edits, of a driver that is not ours.
    let edited = create(&place.client, content(&place, "edited", &volume), false).await.unwrap();
    let edited = edited["metadata"]["uid"].as_str().unwrap().to_owned();
    once(&place, "edited", |status| status["readyToUse"] == true).await;
    let stolen = json!({"status": {"snapshotHandle": handle}});
    place.contents().patch_status("edited", &PatchParams::default(), &Patch::Merge(&stolen)).await.unwrap();
    for name in refused.iter().map(|(name, ..)| *name).chain(["edited", "foreign"]) {
        remove(&place, name).await;
        if name != "foreign" {
            place.content_gone(name).await;
        }
    }
    let foreign = place.contents().get("foreign").await.unwrap();
    assert_eq!(foreign.metadata.finalizers.unwrap(), [FINALIZER]);
    let note = place.told_of_content("VolumeDataKept", "edited").await;
    assert!(note.contains("is not that of a snapshot that was taken for it"), "{note}");
    let mut after = place.file_system.contents();
    after.retain(|path, _| !path.starts_with(&format!(".snapshots/{edited}/")));
    assert_eq!(after, before);

    // A snapshot that says it is another one's is given to nobody.
    let snapshot = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot",
        "metadata": {"namespace": place.name, "name": "thief"}, "spec": {"source": {"volumeSnapshotContentName": "then"}}});
    create(&place.client, snapshot, false).await.unwrap();
    let says = json!({"status": {"boundVolumeSnapshotContentName": "then", "readyToUse": true}});
    place.snapshots().patch_status("thief", &PatchParams::default(), &Patch::Merge(&says)).await.unwrap();
    place.claim("stolen", from("thief")).await;
    let note = place.told("ProvisioningFailed", "stolen").await;
    assert!(note.contains("is not bound to it"), "{note}");
    assert_eq!(place.file_system.contents().len(), before.len() + 2, "but for the edited one");
    without_its_secret_it_stays_until_it_is_given_up(&place, content_name(&then)).await;
}

async fn without_its_secret_it_stays_until_it_is_given_up(place: &Place, content: &str) {
    let before = place.file_system.contents();
    let lost = json!({"metadata": {"annotations": {"snapshot.storage.kubernetes.io/deletion-secret-name": "absent"}}});
    place.contents().patch(content, &PatchParams::default(), &Patch::Merge(&lost)).await.unwrap();
    remove(place, content).await;
    let note = place.told_of_content("SnapshotDeleteError", content).await;
    assert!(
        note.contains("does not exist") && note.contains("sidecar.juicefs.com/give-up-data=true"),
        "{note}"
    );
    let give_up = json!({"metadata": {"annotations": {"sidecar.juicefs.com/give-up-data": "true"}}});
    place.contents().patch(content, &PatchParams::default(), &Patch::Merge(&give_up)).await.unwrap();
    place.content_gone(content).await;
    assert_eq!(place.file_system.contents(), before);
}
