//! File systems of both editions, each with a worker of its own.

use serde_json::json;

use super::{Place, create, file_system, name};

#[tokio::test]
async fn file_systems_of_both_editions_have_quotas() {
    let Some(place) = Place::new("editions", json!({}), json!({})).await else { return };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": place.name, "name": "enterprise"},
        "stringData": {"name": "editions-vol", "token": "hunter22"}});
    create(&place.client, secret, false).await.unwrap();
    let parameters = json!({"csi.storage.k8s.io/node-publish-secret-name": "enterprise"});
    place.class("editions-enterprise", parameters, json!({})).await;
    place.claim("theirs", json!({"storageClassName": "editions-enterprise"})).await;
    place.claim("ours", json!({})).await;
    let (theirs, ours) = (place.bound("theirs").await, place.bound("ours").await);
    assert_eq!(place.file_system.quota(&format!("/{}", name(&ours))).as_deref(), Some("2.0 GiB"));
    let workers = file_system::shared();
    let commands = workers.enterprise_commands();
    let of_it: Vec<_> = commands.lines().filter(|line| line.contains(" editions-vol ")).collect();
    let [auth, quota] = of_it[..] else { panic!("{commands}") };
    assert!(auth.starts_with("auth editions-vol --token=hunter22 "), "{auth}");
    assert_eq!(quota, format!("quota set editions-vol --path=/{} --create --capacity=2", name(&theirs)));
    assert!(!commands.contains(&name(&ours)), "{commands}");
    assert!(!workers.worker_log().contains("editions-vol"));
    // What it cannot do is said, and stays as it is.
    place.delete("theirs").await;
    let note = place.told_of_volume("VolumeFailedDelete", &name(&theirs)).await;
    assert!(note.contains("without a mount"), "{note}");
}
