//! Volumes that go, with their data where that is certainly right; not a byte of anything else.

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{Place, create, eventually, file_system, name, volume};

#[tokio::test]
async fn data_goes_with_its_volume_and_nothing_else_does() {
    let pattern = json!({"pathPattern": "${.PVC.annotations.path}"});
    let Some(place) = Place::new("delete-plain", pattern, json!({})).await else { return };
    let all = ["t/pv-1", "t/pv-10", "t/pv", "é", "a b"];
    let mut volumes = Vec::new();
    for (number, path) in all.iter().enumerate() {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {
                "namespace": place.name, "name": format!("c{number}"), "annotations": {"path": path}},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": place.name,
                     "resources": {"requests": {"storage": "1Gi"}}}});
        create(&place.client, claim, false).await.unwrap();
        volumes.push(name(&place.bound(&format!("c{number}")).await));
        place.file_system.write(&format!("{path}/file"));
        place.file_system.write(&format!("{path}/deep/er/file"));
    }
    place.file_system.write("other/file");
    let mut left = place.file_system.tree();
    for (number, path) in all.iter().enumerate() {
        place.delete(&format!("c{number}")).await;
        place.gone(&volumes[number]).await;
        left.retain(|one| !one.starts_with(&format!("{path}/")));
        assert_eq!(place.file_system.tree(), left, "without {path}");
        assert_eq!(place.file_system.quota(&format!("/{path}")), None);
    }
    assert_eq!(left, ["other/", "other/file", "t/"].map(str::to_owned).into());
}

#[tokio::test]
async fn data_that_another_volume_has_is_kept() {
    let Some(place) = Place::new("delete-shared", json!({"pathPattern": "team/shared"}), json!({})).await
    else {
        return;
    };
    let mut volumes = Vec::new();
    for claim in ["one", "two"] {
        place.claim(claim, json!({})).await;
        volumes.push(name(&place.bound(claim).await));
    }
    place.file_system.write("team/shared/file");
    let before = place.file_system.tree();
    // Of the same class.
    place.delete("one").await;
    let note = place.told_of_volume("VolumeDataKept", &volumes[0]).await;
    assert!(note.contains(&volumes[1]), "{note}");
    place.gone(&volumes[0]).await;
    assert_eq!(place.file_system.tree(), before);
    // Of nobody's class, around it, and by another secret and another address of the same file system.
    let other_way = place.file_system.by_another_way();
    create(&place.client, other_way.secret(&place.name, "other-way"), false).await.unwrap();
    create(&place.client, volume(&place, "delete-around", "team", "other-way"), false).await.unwrap();
    place.delete("two").await;
    let note = place.told_of_volume("VolumeDataKept", &volumes[1]).await;
    assert!(note.contains("delete-around"), "{note}");
    place.gone(&volumes[1]).await;
    assert_eq!(place.file_system.tree(), before);
    // Another file system's directory of that name is nobody's hindrance.
    place.volumes().delete("delete-around", &DeleteParams::default()).await.unwrap();
    place.gone("delete-around").await;
    let another = file_system::shared().one();
    another.format();
    create(&place.client, another.secret(&place.name, "another"), false).await.unwrap();
    create(&place.client, volume(&place, "delete-elsewhere", "team", "another"), false).await.unwrap();
    place.claim("three", json!({})).await;
    let third = name(&place.bound("three").await);
    place.delete("three").await;
    place.gone(&third).await;
    assert_eq!(place.file_system.tree(), ["team/".to_owned()].into());
}

#[tokio::test]
async fn only_what_was_made_for_a_claim_is_removed() {
    let Some(place) = Place::new("delete-made", json!({}), json!({})).await else { return };
    place.file_system.format();
    let made = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "csi.juicefs.com"}}});
    let mut go = Vec::new();
    for (name, sub_path, by_driver, removed) in [
        ("delete-leaves", "../hand", true, false),
        ("delete-by-hand", "hand", false, false),
        // As the Go driver leaves them.
        ("delete-by-go-driver", "go/pvc", true, true),
    ] {
        let mut volume = volume(&place, name, sub_path, "user");
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
        create(&place.client, volume, false).await.unwrap();
        if by_driver {
            place.volumes().patch(name, &PatchParams::default(), &Patch::Merge(&made)).await.unwrap();
        }
        place.claim(name, json!({"volumeName": name})).await;
        place.bound(name).await;
        go.push((name, removed));
    }
    for file in ["go/pvc/file", "hand/file", "go/other"] {
        place.file_system.write(file);
    }
    for (name, removed) in go {
        place.delete(name).await;
        if !removed {
            place.told_of_volume("VolumeDataKept", name).await;
        }
        place.gone(name).await;
    }
    let left = ["go/", "go/other", "hand/", "hand/file"].map(str::to_owned);
    assert_eq!(place.file_system.tree(), left.into());
}

#[tokio::test]
async fn an_edited_volume_keeps_its_data() {
    let Some(place) = Place::new("delete-edited", json!({}), json!({"mountOptions": ["subdir=a"]})).await
    else {
        return;
    };
    place.claim("data", json!({})).await;
    let volume = name(&place.bound("data").await);
    for base in ["a", "b"] {
        place.file_system.write(&format!("{base}/{volume}/file"));
    }
    let before = place.file_system.tree();
    let edit = json!({"spec": {"mountOptions": ["subdir=b"]}});
    place.volumes().patch(&volume, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    place.delete("data").await;
    let note = place.told_of_volume("VolumeDataKept", &volume).await;
    assert!(note.contains("edited"), "{note}");
    place.gone(&volume).await;
    assert_eq!(place.file_system.tree(), before);
}

#[tokio::test]
async fn a_volume_that_is_deleted_before_its_claim_takes_its_data_along() {
    let Some(place) = Place::new("delete-first", json!({}), json!({})).await else { return };
    place.claim("data", json!({})).await;
    let volume = name(&place.bound("data").await);
    place.file_system.write(&format!("{volume}/file"));
    place.volumes().delete(&volume, &DeleteParams::default()).await.unwrap();
    assert!(place.volumes().get(&volume).await.unwrap().metadata.deletion_timestamp.is_some());
    assert_eq!(place.file_system.tree().len(), 2, "its claim is there");
    place.delete("data").await;
    place.gone(&volume).await;
    assert_eq!(place.file_system.tree(), [].into());
}

#[tokio::test]
async fn a_volume_without_its_secret_stays_until_it_is_given_up() {
    const NAME: &str = "delete-stays";
    let Some(place) = Place::new(NAME, json!({}), json!({})).await else { return };
    place.file_system.format();
    place.file_system.write("path/file");
    let before = place.file_system.tree();
    let mut volume = volume(&place, NAME, "path", "absent");
    volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
    volume["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "csi.juicefs.com"});
    create(&place.client, volume, false).await.unwrap();
    place.claim(NAME, json!({"volumeName": NAME})).await;
    place.bound(NAME).await;
    place.delete(NAME).await;
    let note = place.told_of_volume("VolumeFailedDelete", NAME).await;
    assert!(
        note.contains("does not exist") && note.contains("sidecar.juicefs.com/give-up-data=true"),
        "{note}"
    );
    let phase = |volume: PersistentVolume| volume.status.and_then(|status| status.phase);
    assert_eq!(phase(place.volumes().get(NAME).await.unwrap()).as_deref(), Some("Released"));
    let give_up = json!({"metadata": {"annotations": {"sidecar.juicefs.com/give-up-data": "true"}}});
    place.volumes().patch(NAME, &PatchParams::default(), &Patch::Merge(&give_up)).await.unwrap();
    place.gone(NAME).await;
    let note = place.told_of_volume("VolumeDataKept", NAME).await;
    assert!(note.contains("give-up-data"), "{note}");
    assert_eq!(place.file_system.tree(), before);
}

#[tokio::test]
async fn an_ephemeral_volume_is_the_directory_that_its_client_mounts() {
    let Some(place) = Place::new("delete-ephemeral", json!({}), json!({})).await else { return };
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": place.name,
        "resources": {"requests": {"storage": "1Gi"}}}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": place.name, "name": "web-0"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}],
                 "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}});
    let pod = create(&place.client, pod, false).await.unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.name);
    let claims = place.claims();
    eventually("the claim of the pod", async || claims.get_opt("web-0-scratch").await.unwrap()).await;
    let volume = name(&place.bound("web-0-scratch").await);
    let directory = format!("ephemeral-{uid}-scratch");
    assert_eq!(place.file_system.quota(&format!("/{directory}")).as_deref(), Some("1.0 GiB"));
    place.file_system.write(&format!("{directory}/file"));

    // A claim that only says so gets nothing of it.
    let forged = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {
            "namespace": place.name, "name": "other-scratch", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "other", "uid": uid, "controller": true}]},
        "spec": template["spec"]});
    create(&place.client, forged, false).await.unwrap();
    eventually("the claim to go, whose pod is not there", async || {
        claims.get_opt("other-scratch").await.unwrap().is_none().then_some(())
    })
    .await;
    let volumes = place.volumes().list(&ListParams::default()).await.unwrap().items;
    let of = |one: &PersistentVolume| one.spec.as_ref()?.claim_ref.as_ref()?.name.clone();
    assert!(volumes.iter().all(|one| of(one).as_deref() != Some("other-scratch")));
    assert!(place.file_system.tree().contains(&format!("{directory}/file")));

    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("web-0", &at_once).await.unwrap();
    place.gone(&volume).await;
    assert!(place.file_system.tree().is_empty(), "{:?}", place.file_system.tree());
}
