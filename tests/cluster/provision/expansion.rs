//! Volumes that grow.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Place, create, eventually, name, volume};

async fn ask(place: &Place, claim: &str, size: &str) -> kube::Result<PersistentVolumeClaim> {
    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    place.claims().patch(claim, &PatchParams::default(), &Patch::Merge(&patch)).await
}

#[tokio::test]
async fn a_volume_grows_first_its_quota_then_its_capacity_then_the_claims() {
    let Some(place) = Place::new("expand-plain", json!({}), json!({})).await else { return };
    place.claim("data", json!({"resources": {"requests": {"storage": "1Gi"}}})).await;
    let volume = name(&place.bound("data").await);
    ask(&place, "data", "2500Mi").await.unwrap();
    let claims = place.claims();
    let claim = eventually("the claim to have grown", async || {
        let claim = claims.get("data").await.unwrap();
        let capacity = claim.status.as_ref()?.capacity.as_ref()?["storage"].0.clone();
        (capacity == "2500Mi").then_some(claim)
    })
    .await;
    let conditions = claim.status.unwrap().conditions.unwrap_or_default();
    assert!(conditions.is_empty(), "{conditions:?}");
    let capacity = place.volumes().get(&volume).await.unwrap().spec.unwrap().capacity.unwrap();
    assert_eq!(capacity["storage"].0, "2500Mi");
    assert_eq!(place.file_system.quota(&format!("/{volume}")).as_deref(), Some("3.0 GiB"));
    let note = place.told("VolumeResizeSuccessful", "data").await;
    assert!(note.contains("3 GiB"), "{note}");
    // Smaller than it is, no volume becomes: the API server says so.
    assert!(ask(&place, "data", "1Gi").await.is_err());
}

#[tokio::test]
async fn a_volume_that_cannot_grow_says_why() {
    const NAME: &str = "expand-fails";
    let Some(place) = Place::new(NAME, json!({}), json!({})).await else { return };
    place.file_system.format();
    create(&place.client, volume(&place, NAME, "path", "absent"), false).await.unwrap();
    place.claim(NAME, json!({"volumeName": NAME, "resources": {"requests": {"storage": "1Gi"}}})).await;
    place.bound(NAME).await;
    ask(&place, NAME, "5Gi").await.unwrap();
    let note = place.told("VolumeResizeFailed", NAME).await;
    assert!(note.contains("secret \"expand-fails/absent\" does not exist"), "{note}");
    let claims = place.claims();
    let conditions = claims.get(NAME).await.unwrap().status.unwrap().conditions.unwrap_or_default();
    assert!(conditions.iter().any(|condition| condition.type_ == "Resizing"), "{conditions:?}");
    create(&place.client, place.file_system.secret(&place.name, "absent"), false).await.unwrap();
    eventually("the claim to have grown", async || {
        let claim = claims.get(NAME).await.unwrap();
        (claim.status?.capacity?["storage"].0 == "5Gi").then_some(())
    })
    .await;
    assert_eq!(place.file_system.quota("/path").as_deref(), Some("5.0 GiB"));
}
