//! Which claims wait for a volume or for a larger one, and which volumes wait to go. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{collections::BTreeSet, sync::Arc};

use crate::volume::{
    Catalog, Claim, PersistentVolume,
    attributes::SECRET_FINALIZER,
    backing::PROVISIONER,
    class::SELECTED_NODE,
    objects::{ClaimReference, VolumePhase},
};

/// Something to be done, and the object it is done to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A claim that has no volume.
    Provision(ClaimKey),
    /// A claim that asks for more than its volume has.
    Expand(ClaimKey),
    /// A volume, by name, whose claim is gone.
    Delete(Arc<str>),
    /// A content of a snapshot, by name, that is not ready to use.
    Snapshot(Arc<str>),
    /// One that is to go, and its data with it.
    RemoveSnapshot(Arc<str>),
    /// A user secret, by namespace and name, without which data could not be removed.
    Hold(Arc<str>, Arc<str>),
}

/// A claim, and not another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
}

impl ClaimKey {
    /// The key of a claim.
    pub fn of(claim: &Claim) -> Self {
        let metadata = &claim.metadata;
        Self {
            namespace: Arc::clone(&metadata.namespace),
            name: Arc::clone(&metadata.name),
            uid: Arc::clone(&metadata.uid),
        }
    }

    /// The claim itself, if it is still there.
    pub fn find<'a>(&self, catalog: &'a Catalog) -> Option<&'a Arc<Claim>> {
        let claim = catalog.claim(&self.namespace, &self.name)?;
        (claim.metadata.uid == self.uid && !claim.metadata.deleting).then_some(claim)
    }
}

/// Everything there is to do, each with the age of its object (RFC 3339; empty where nobody waits).
pub fn candidates(catalog: &Catalog, driver: &str) -> Vec<(Item, Arc<str>)> {
    let claims = catalog.claims().filter_map(|claim| {
        let item = if waits_for_a_volume(claim, catalog, driver) {
            Item::Provision
        } else if waits_for_a_larger_one(claim, catalog, driver) {
            Item::Expand
        } else {
            return None;
        };
        Some((item(ClaimKey::of(claim)), Arc::clone(&claim.metadata.created)))
    });
    let volumes = catalog.volumes_of(driver).filter(|volume| waits_to_go(volume));
    let volumes = volumes.map(|volume| (Item::Delete(Arc::clone(&volume.metadata.name)), Arc::default()));
    let secrets = catalog.volumes_of(driver).filter(|volume| holds_its_secret(volume));
    let secrets: BTreeSet<_> = secrets
        .filter_map(|volume| volume.secret())
        .map(|secret| Item::Hold(Arc::clone(&secret.namespace), Arc::clone(&secret.name)))
        .collect();
    claims.chain(volumes).chain(secrets.into_iter().map(|item| (item, Arc::default()))).collect()
}

/// Whether a claim of a class of ours is to get a volume now. Kubernetes says so, by an annotation, after it has looked
/// for a volume that is there already.
pub fn waits_for_a_volume(claim: &Claim, catalog: &Catalog, driver: &str) -> bool {
    let Claim { metadata, spec, .. } = claim;
    if !spec.volume_name.is_empty() || metadata.deleting {
        return false;
    }
    let Some(class) = spec.storage_class_name.as_ref().and_then(|name| catalog.class(name)) else {
        return false;
    };
    *class.provisioner == *driver
        && metadata.annotations.get(PROVISIONER).is_some_and(|provisioner| **provisioner == *driver)
        && (!class.waits_for_consumer() || metadata.annotations.contains_key(SELECTED_NODE))
}

/// Whether a claim asks for more than it has, and its volume is ours.
fn waits_for_a_larger_one(claim: &Claim, catalog: &Catalog, driver: &str) -> bool {
    let (Some(wanted), Some(has)) = (claim.spec.bytes, claim.status.bytes) else { return false };
    wanted > has && !claim.metadata.deleting && volume_of(claim, catalog, driver).is_some()
}

/// The volume that a claim is bound to, if it is ours and bound to the claim in turn.
pub fn volume_of<'a>(claim: &Claim, catalog: &'a Catalog, driver: &str) -> Option<&'a Arc<PersistentVolume>> {
    let volume = catalog.volume(&claim.spec.volume_name)?;
    let is_ours = volume.spec.csi.as_ref().is_some_and(|csi| *csi.driver == *driver);
    let is_claims = |reference: &ClaimReference| reference.uid == claim.metadata.uid;
    (is_ours && volume.spec.claim_ref.as_ref().is_some_and(is_claims)).then_some(volume)
}

/// Whether a volume has lost its claim and is to go after it.
pub fn waits_to_go(volume: &PersistentVolume) -> bool {
    volume.spec.is_deleted_with_claim
        && matches!(volume.status.phase, VolumePhase::Released | VolumePhase::Failed)
}

/// Whether a volume's secret is to be kept for the day when its data goes.
pub fn holds_its_secret(volume: &PersistentVolume) -> bool {
    let csi = volume.spec.csi.as_ref();
    let asked = csi.and_then(|csi| csi.volume_attributes.get(SECRET_FINALIZER));
    asked.is_some_and(|value| &**value == "true")
        && volume.spec.is_deleted_with_claim
        && !waits_to_go(volume)
        && volume.secret().is_some_and(|secret| !secret.name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volume::catalog::Writer;

    const DRIVER: &str = "csi.juicefs.com";

    fn found(claim: Value, volume: Value) -> Vec<String> {
        let mut writer = Writer::default();
        for (name, mode, provisioner) in [
            ("now", "Immediate", DRIVER),
            ("later", "WaitForFirstConsumer", DRIVER),
            ("other", "Immediate", "x"),
        ] {
            writer.apply::<crate::volume::StorageClass>(
                serde_json::from_value(json!({"metadata": {"name": name}, "provisioner": provisioner,
                    "volumeBindingMode": mode}))
                .unwrap(),
            );
        }
        writer.apply::<Claim>(serde_json::from_value(claim).unwrap());
        writer.apply::<PersistentVolume>(serde_json::from_value(volume).unwrap());
        let items = candidates(writer.catalog(), DRIVER);
        items.into_iter().map(|(item, created)| format!("{item:?} {created}")).collect()
    }

    fn claim(class: &str, annotations: &Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": "c", "uid": "u-1", "creationTimestamp": "2026-01-02T03:04:05Z",
                            "annotations": annotations},
               "spec": {"storageClassName": class, "resources": {"requests": {"storage": "2Gi"}}}})
    }

    fn volume(phase: &str) -> Value {
        json!({"metadata": {"name": "pv"}, "status": {"phase": phase}, "spec": {
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "n", "name": "c", "uid": "u-1"},
            "csi": {"driver": DRIVER, "volumeHandle": "pv"}}})
    }

    #[test]
    fn a_claim_waits_once_kubernetes_asks_for_its_volume() {
        let asked = json!({(PROVISIONER): DRIVER});
        let found = |claim| found(claim, volume("Bound"));
        assert_eq!(found(claim("now", &json!({}))).len(), 0);
        assert_eq!(found(claim("now", &json!({(PROVISIONER): "x"}))).len(), 0);
        assert_eq!(found(claim("other", &asked)).len(), 0);
        assert_eq!(found(claim("unknown", &asked)).len(), 0);
        assert_eq!(found(claim("later", &asked)).len(), 0);
        assert_eq!(found(claim("later", &json!({(PROVISIONER): DRIVER, (SELECTED_NODE): "node"}))).len(), 1);
        let waiting = found(claim("now", &asked));
        assert!(
            waiting[0].starts_with("Provision(") && waiting[0].ends_with("2026-01-02T03:04:05Z"),
            "{waiting:?}"
        );
        let mut going = claim("now", &asked);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
        assert_eq!(found(going).len(), 0);
    }

    #[test]
    fn a_bound_claim_waits_when_it_asks_for_more() {
        let mut bound = claim("now", &json!({}));
        bound["spec"]["volumeName"] = json!("pv");
        for (capacity, count) in [("1Gi", 1), ("2Gi", 0), ("3Gi", 0)] {
            bound["status"]["capacity"]["storage"] = json!(capacity);
            assert_eq!(found(bound.clone(), volume("Bound")).len(), count, "{capacity}");
        }
        bound["status"]["capacity"]["storage"] = json!("1Gi");
        let mut of_another = volume("Bound");
        of_another["spec"]["claimRef"]["uid"] = json!("u-2");
        assert_eq!(found(bound, of_another).len(), 0);
    }

    #[test]
    fn a_volume_waits_when_its_claim_is_gone() {
        let nobody = || claim("other", &json!({}));
        for (phase, count) in [("Released", 1), ("Failed", 1), ("Bound", 0), ("Available", 0), ("Pending", 0)]
        {
            assert_eq!(found(nobody(), volume(phase)).len(), count, "{phase}");
        }
        let mut kept = volume("Released");
        kept["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
        assert_eq!(found(nobody(), kept).len(), 0);
    }

    #[test]
    fn a_secret_is_held_while_a_volume_that_asks_for_it_may_have_to_go() {
        let mut volume = volume("Bound");
        let nobody = || claim("other", &json!({}));
        volume["spec"]["csi"]["nodePublishSecretRef"] = json!({"namespace": "s", "name": "user"});
        assert_eq!(found(nobody(), volume.clone()).len(), 0);
        volume["spec"]["csi"]["volumeAttributes"] = json!({"secretFinalizer": "true"});
        assert_eq!(found(nobody(), volume.clone()), [r#"Hold("s", "user") "#]);
        let mut released = volume.clone();
        released["status"]["phase"] = json!("Released");
        assert_eq!(found(nobody(), released), [r#"Delete("pv") "#]);
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
        assert_eq!(found(nobody(), volume).len(), 0);
    }
}
