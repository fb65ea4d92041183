//! Claims that begin with what others have.

use serde_json::{Value, json};

use super::{Place, create, file_system, name, volume};

/// What makes a claim begin with another one.
fn from(claim: &str) -> Value {
    json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": claim}})
}

pub(super) fn directory(volume: &super::PersistentVolume) -> String {
    let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()).unwrap();
    csi.volume_attributes.as_ref().unwrap()["sidecar.juicefs.com/directory"].clone()
}

#[tokio::test]
async fn a_clone_has_its_own_data_and_quota_and_outlives_its_source() {
    let Some(place) = Place::new("clone-plain", json!({}), json!({})).await else { return };
    place.claim("old", json!({})).await;
    let old = place.bound("old").await;
    let file = format!("{}/deep/er/file", directory(&old));
    place.file_system.write(&file);
    let mut more = from("old");
    more["resources"] = json!({"requests": {"storage": "3Gi"}});
    place.claim("new", more).await;
    let new = place.bound("new").await;
    assert_ne!(directory(&new), directory(&old));
    let contents = place.file_system.contents();
    assert_eq!(contents[&format!("{}/deep/er/file", directory(&new))], file);
    assert_eq!(contents.len(), 8, "{contents:?}");
    assert_eq!(place.file_system.quota(&format!("/{}", directory(&new))).as_deref(), Some("3.0 GiB"));
    assert_eq!(place.file_system.quota(&format!("/{}", directory(&old))).as_deref(), Some("2.0 GiB"));
    let note = place.told("ProvisioningSucceeded", "new").await;
    assert!(note.contains("with the data of persistentvolumeclaim \"clone-plain/old\""), "{note}");
    let conditions = place.claims().get("new").await.unwrap().status.unwrap().conditions.unwrap();
    assert_eq!(conditions[0].type_, "sidecar.juicefs.com/Clone", "{conditions:?}");
    // Its source goes, with its data.
    place.delete("old").await;
    place.gone(&name(&old)).await;
    let contents = place.file_system.contents();
    assert_eq!(contents[&format!("{}/deep/er/file", directory(&new))], file);
    assert_eq!(contents.len(), 4, "{contents:?}");
    place.delete("new").await;
    place.gone(&name(&new)).await;
    assert_eq!(place.file_system.tree(), [].into());
}

#[tokio::test]
async fn volumes_of_any_class_and_by_any_way_to_the_same_file_system_are_cloned() {
    let pattern = json!({"pathPattern": "team/${.PVC.name}"});
    let Some(place) = Place::new("clone-static", pattern, json!({})).await else { return };
    place.file_system.format();
    place.file_system.write("by/hand/file");
    let other_way = place.file_system.by_another_way();
    create(&place.client, other_way.secret(&place.name, "other-way"), false).await.unwrap();
    create(&place.client, volume(&place, "clone-by-hand", "by/hand", "other-way"), false).await.unwrap();
    // It waits for its source.
    let small = json!({"requests": {"storage": "1Gi"}});
    let mut more = from("clone-by-hand");
    more["resources"] = small.clone();
    place.claim("new", more).await;
    let note = place.told("ProvisioningFailed", "new").await;
    assert!(
        note.contains("\"clone-static/clone-by-hand\", which it is to begin with, does not exist"),
        "{note}"
    );
    place.claim("clone-by-hand", json!({"volumeName": "clone-by-hand", "resources": small})).await;
    let new = place.bound("new").await;
    assert_eq!(directory(&new), "team/new");
    assert_eq!(place.file_system.contents()["team/new/file"], "by/hand/file");
    // A clone of a clone.
    let mut more = from("new");
    more["resources"] = json!({"requests": {"storage": "1Gi"}});
    place.claim("newer", more).await;
    place.bound("newer").await;
    assert_eq!(place.file_system.contents()["team/newer/file"], "by/hand/file");
}

#[tokio::test]
async fn what_cannot_be_cloned_is_said_and_nothing_is_touched() {
    let pattern = json!({"pathPattern": "team/${.PVC.annotations.path}"});
    let Some(place) = Place::new("clone-refused", pattern, json!({})).await else { return };
    let claim = async |name: &str, path: &str, source: &str| {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": place.name, "name": name, "annotations": {"path": path}},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}},
                     "storageClassName": place.name, "dataSource": {"kind": "PersistentVolumeClaim", "name": source}}});
        create(&place.client, claim, false).await.unwrap();
        place.told("ProvisioningFailed", name).await
    };
    place.class("clone-refused-plain", json!({}), json!({})).await;
    let plain =
        json!({"storageClassName": "clone-refused-plain", "resources": {"requests": {"storage": "1Gi"}}});
    place.claim("old", plain).await;
    let old = place.bound("old").await;
    place.claim("larger", json!({"storageClassName": "clone-refused-plain"})).await;
    place.bound("larger").await;
    place.file_system.write(&format!("{}/file", directory(&old)));
    // Somebody else's directory, which no volume has.
    place.file_system.write("team/taken/file");
    // Volumes by hand: the whole file system, one around the new directories, one of another file system.
    let another = file_system::shared().one();
    another.format();
    create(&place.client, another.secret(&place.name, "another"), false).await.unwrap();
    for (name, sub_path, secret) in
        [("clone-root", "", "user"), ("clone-around", "team", "user"), ("clone-elsewhere", "x", "another")]
    {
        create(&place.client, volume(&place, name, sub_path, secret), false).await.unwrap();
        let small = json!({"volumeName": name, "resources": {"requests": {"storage": "1Gi"}}});
        place.claim(name, small).await;
        place.bound(name).await;
    }
    let before = place.file_system.contents();
    for (name, path, source, text) in [
        ("too-small", "a", "larger", "ask for at least as much"),
        ("taken", "taken", "old", "\"team/taken\", which is there already"),
        ("of-root", "b", "clone-root", "a directory of its own"),
        ("of-around", "c", "clone-around", "or in it or around it"),
        ("of-elsewhere", "d", "clone-elsewhere", "in another file system"),
        ("of-nothing", "e", "nothing", "does not exist"),
    ] {
        let note = claim(name, path, source).await;
        assert!(note.contains(text), "{name}: {note}");
    }
    assert_eq!(place.file_system.contents(), before);
    for claim in place.claims().list(&kube::api::ListParams::default()).await.unwrap() {
        let is_refused = claim.spec.unwrap().data_source.is_some();
        let phase = claim.status.unwrap().phase;
        assert_eq!(phase.as_deref() == Some("Pending"), is_refused, "{:?}", claim.metadata.name);
    }
}
