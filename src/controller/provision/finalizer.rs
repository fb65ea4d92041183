//! Keeps user secrets that volumes need, where their class asks for it (`secretFinalizer`): without one a volume's data
//! could not be removed.
//!
//! A secret is held because there is a volume that needs it, never on behalf of one that is to be: a claim may go
//! before its volume is made, and then nobody would know whom to let go. Before one is let go it is noted on the volume
//! that its data is settled, for once the secret is gone nobody could find that out again.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1 as api;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::Mutex;

use super::{Provisioner, candidates::holds_its_secret};
use crate::{
    controller::{problem::Problem, snapshots::content::Content},
    volume::{Catalog, PersistentVolume, attributes::SECRET_FINALIZER, objects::SecretReference},
};

/// As the Go driver calls it (contract 5.2).
const FINALIZER: &str = "juicefs.com/finalizer";
/// Annotation of a volume or of the content of a snapshot, with its UID: its data was removed, or is to stay, and only
/// its secret and itself are left.
pub const SETTLED: &str = "sidecar.juicefs.com/data-settled";

/// What is known of secrets. Whoever holds one or lets it go has this locked, so that of two volumes that go at the
/// same time the later one sees that the earlier one needs nothing any more.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Secrets that are held, by namespace and name.
    held: HashSet<(Arc<str>, Arc<str>)>,
    /// Volumes that are settled and may still be there, by name.
    settled: HashSet<String>,
    /// Contents of snapshots, likewise.
    settled_snapshots: HashSet<String>,
}

impl Provisioner {
    /// Keeps a secret from going, if a volume needs it.
    pub(super) async fn hold_secret(&self, namespace: &Arc<str>, name: &Arc<str>) -> Result<(), Problem> {
        let mut known = self.held.0.lock().await;
        let key = (Arc::clone(namespace), Arc::clone(name));
        let secret = SecretReference { namespace: key.0.clone(), name: key.1.clone() };
        let catalog = self.catalog();
        let needs = |volume: &Arc<_>| holds_its_secret(volume) && volume.secret() == Some(&secret);
        if known.held.contains(&key) || !catalog.volumes_of(&self.driver).any(needs) {
            return Ok(());
        }
        let Some(mut found) = self.found(&secret).await? else { return Ok(()) };
        let finalizers = found.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            // Who has been told to go takes no finalizer any more.
            if found.metadata.deletion_timestamp.is_some() {
                return Ok(());
            }
            finalizers.push(FINALIZER.to_owned());
            self.replace(&secret, &found).await?;
        }
        known.held.insert(key);
        Ok(())
    }

    /// Lets the secret of a volume go when no other volume needs it to have its data removed.
    pub(super) async fn release_secret(
        &self,
        secret: &SecretReference,
        volume: &api::PersistentVolume,
    ) -> Result<(), Problem> {
        if secret.name.is_empty() {
            return Ok(());
        }
        let mut known = self.held.0.lock().await;
        let (name, uid) = (&volume.metadata.name, &volume.metadata.uid);
        let (name, uid) = (name.as_deref().unwrap_or_default(), uid.as_deref().unwrap_or_default());
        let catalog = self.catalog();
        let asks = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()?.volume_attributes.as_ref());
        let mut noted = is_settled(volume);
        if !noted && asks.is_some_and(|asks| asks.get(SECRET_FINALIZER).is_some_and(|value| value == "true"))
        {
            self.note_settled(name, uid).await?;
            noted = true;
        }
        known.settled.insert(name.to_owned());
        let note = async || if noted { Ok(()) } else { self.note_settled(name, uid).await };
        self.release(&mut known, secret, &catalog, note).await
    }

    /// Lets the secret of a snapshot go when nothing else needs it; before that it is noted that its data is settled.
    pub(super) async fn release_secret_of_snapshot(
        &self,
        secret: &SecretReference,
        content: &Content,
        note: impl AsyncFnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut known = self.held.0.lock().await;
        known.settled_snapshots.insert(content.name.to_string());
        self.release(&mut known, secret, &self.catalog(), note).await
    }

    /// Takes our finalizer from a secret that nothing needs any more, after this note.
    async fn release(
        &self,
        known: &mut Known,
        secret: &SecretReference,
        catalog: &Catalog,
        note: impl AsyncFnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let snapshots = self.snapshots();
        known.settled.retain(|settled| catalog.volume(settled).is_some());
        known.settled_snapshots.retain(|settled| snapshots.contains_key(&**settled));
        let needs = |other: &Arc<PersistentVolume>| {
            !known.settled.contains(&*other.metadata.name)
                && other.spec.is_deleted_with_claim
                && other.secret() == Some(secret)
        };
        let snapshot_needs =
            |other: &Arc<Content>| !known.settled_snapshots.contains(&*other.name) && other.needs(secret);
        if catalog.volumes_of(&self.driver).any(needs) || snapshots.values().any(snapshot_needs) {
            return Ok(());
        }
        if let Some(mut found) = self.found(secret).await? {
            let finalizers = found.metadata.finalizers.get_or_insert_default();
            let before = finalizers.len();
            finalizers.retain(|one| one != FINALIZER);
            if finalizers.len() != before {
                note().await?;
                self.replace(secret, &found).await?;
            }
        }
        known.held.remove(&(Arc::clone(&secret.namespace), Arc::clone(&secret.name)));
        Ok(())
    }

    async fn note_settled(&self, name: &str, uid: &str) -> Result<(), Problem> {
        let patch = json!({"metadata": {"uid": uid, "annotations": {SETTLED: uid}}});
        let volumes = Api::<api::PersistentVolume>::all(self.client.clone());
        let patched = volumes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(Problem::api(format!("persistentvolume {name:?}")))
    }

    async fn found(&self, secret: &SecretReference) -> Result<Option<api::Secret>, Problem> {
        let secrets = Api::<api::Secret>::namespaced(self.client.clone(), &secret.namespace);
        secrets.get_opt(&secret.name).await.map_err(Problem::api(shown(secret)))
    }

    /// Replaces just the version that was read; of two that change it at the same time one tries again.
    async fn replace(&self, secret: &SecretReference, with: &api::Secret) -> Result<(), Problem> {
        let secrets = Api::<api::Secret>::namespaced(self.client.clone(), &secret.namespace);
        let replaced = secrets.replace(&secret.name, &PostParams::default(), with).await;
        replaced.map(drop).map_err(Problem::api(shown(secret)))
    }
}

fn shown(secret: &SecretReference) -> String {
    format!("secret \"{}/{}\"", secret.namespace, secret.name)
}

/// Whether a volume's data was settled before.
pub(super) fn is_settled(volume: &api::PersistentVolume) -> bool {
    let annotations = volume.metadata.annotations.as_ref();
    let noted = annotations.and_then(|annotations| annotations.get(SETTLED));
    noted.is_some() && noted == volume.metadata.uid.as_ref()
}
