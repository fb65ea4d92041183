//! Takes snapshots of volumes, by the client's own clone, and finds those that are there already.
//!
//! A snapshot's directory is called as the content that it is taken for, by UID, and the client shows it when it is
//! complete. So however often it is begun there is one, and one that is there is done. What it will be called is noted at
//! the content before it is begun, with what leads to its file system: whoever removes it knows where to look.

mod removal;

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::Object,
    runtime::events::EventType,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Provisioner,
    candidates::Item,
    paths::Purpose,
    source::{self, FileSystem, Origin},
    work,
};
use crate::{
    client::access::Access,
    controller::{
        events::Reason,
        problem::Problem,
        snapshots::{
            content::{BEGUN, BEGUN_AT, Content, DELETION_SECRET, Found, Source},
            contents,
            handle::Handle,
            resource,
        },
    },
    outcome::{Code, Refusal},
    volume::{Catalog, Claim, PersistentVolume, objects::SecretReference},
    worker::SubPath,
};

/// Only root may look at what many volumes had.
const ONLY_ROOT: u32 = 0o700;

/// A `VolumeSnapshot`, as far as it is read.
type VolumeSnapshot = Object<Value, Bound>;

/// `status` of a `VolumeSnapshot`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Bound {
    bound_volume_snapshot_content_name: Option<String>,
}

impl Provisioner {
    /// Makes a content ready, if it still waits for that.
    pub(super) async fn snapshot(&self, name: &Arc<str>) -> Result<(), Problem> {
        let Some(content) = self.content(name).await? else { return Ok(()) };
        if content.driver != self.driver || !content.waits() {
            return Ok(());
        }
        let outcome = match &content.source {
            Source::Volume(handle) => self.take(&content, handle).await,
            Source::Snapshot(handle) => self.adopt(&content, handle).await,
        };
        if let Err(problem) = &outcome
            && !problem.is_passing()
            && content.error.as_deref() != Some(&*problem.to_string())
        {
            let error = json!({"time": Timestamp::now().to_string(), "message": problem.to_string()});
            self.patch_content_status(&content, json!({"error": error, "readyToUse": false})).await?;
        }
        outcome
    }

    /// A content as it is now.
    async fn content(&self, name: &str) -> Result<Option<Content>, Problem> {
        let found: Option<Found> =
            contents(self.client.clone()).get_opt(name).await.map_err(Problem::api(described(name)))?;
        Ok(found.as_ref().map(Content::from))
    }

    /// Takes a snapshot of a volume.
    async fn take(&self, content: &Content, volume_handle: &str) -> Result<(), Problem> {
        let catalog = self.catalog();
        let volume = volume_of(content, volume_handle, &catalog, &self.driver)?;
        let name = &volume.metadata.name;
        let whom = format!("persistentvolume {name:?}");
        let from = source::directory(volume, &whom, &self.config(), &self.driver)
            .map_err(|(what, remedy)| refused(content, what, remedy))?;
        let secret = volume.secret().cloned().unwrap_or_default();
        let access = self.access(&secret, &whom).await?;
        let (handle, path) = self.handle_for(content, &access, &secret, &whom).await?;
        let bytes = self.capacity(name).await?;
        let _turn =
            self.clones.try_acquire().map_err(|_| Problem::Turn("other volumes are being cloned first"))?;
        // Neither of the two is removed meanwhile.
        let in_the_way = |other| Problem::Waits(format!("the data of {other} is being removed"));
        let reader: Arc<str> = format!("{whom}, of which a snapshot is being taken").into();
        let _source = self.paths.take(&reader, from.as_str(), Purpose::Make).map_err(in_the_way)?;
        let _target = self
            .paths
            .take(&described(&content.name).into(), path.as_str(), Purpose::Make)
            .map_err(in_the_way)?;
        let begun = content.begun.as_ref().filter(|(noted, _)| *noted == handle.to_string());
        let at = match begun {
            Some((_, at)) if self.is_snapshot_there(&access, &secret, &path).await? => *at,
            _ => {
                let at = self.note_begin(content, &handle, &secret).await?;
                let clone = work::clone(self.worker()?, &access, from, path, ONLY_ROOT);
                let item = Item::Snapshot(Arc::clone(&content.name));
                let what = format!("a snapshot of {whom} is being taken");
                let cloned = self.telling(&item, Reason::VolumeDataClone, &what, clone).await;
                cloned.map_err(|not_done| self.not_done(&secret, not_done))?;
                at
            }
        };
        self.silent.answered(&secret);
        let status = json!({"snapshotHandle": handle.to_string(), "creationTime": at, "readyToUse": true,
            "restoreSize": bytes, "error": null});
        self.patch_content_status(content, status).await?;
        let note = format!("the snapshot has what {whom} had, and is called {handle}");
        tracing::info!(content = &*content.name, volume = &**name, "a snapshot was taken");
        let item = Item::Snapshot(Arc::clone(&content.name));
        self.tell(&item, EventType::Normal, Reason::SnapshotTaken, &note).await;
        Ok(())
    }

    /// What the snapshot of a content is called in this file system, and its directory.
    async fn handle_for(
        &self,
        content: &Content,
        access: &Access,
        secret: &SecretReference,
        whom: &str,
    ) -> Result<(Handle, SubPath), Problem> {
        let identity = self.identity(access, secret).await?;
        let identity =
            identity.ok_or_else(|| Problem::Waits(format!("the file system of {whom} does not exist")))?;
        let handle = Handle::new(&identity.uuid, &content.uid);
        handle.and_then(|handle| handle.path().map(|path| (handle, path))).ok_or_else(|| {
            let what =
                format!("the file system of {whom} says no UUID by which its snapshots would be known");
            refused(content, what, "use a file system of the community edition, or copy the data").into()
        })
    }

    /// Notes that a snapshot may be there from now on, and what leads to it; when that was, in nanoseconds.
    async fn note_begin(
        &self,
        content: &Content,
        handle: &Handle,
        secret: &SecretReference,
    ) -> Result<i64, Problem> {
        let at = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
        let mut annotations = json!({BEGUN: handle.to_string(), BEGUN_AT: at.to_string()});
        // A class may name a secret for this, and then the cluster's controller has noted it already.
        if content.secret.is_none() {
            let [name, namespace] = DELETION_SECRET;
            annotations[name] = json!(secret.name);
            annotations[namespace] = json!(secret.namespace);
        }
        self.patch_content(content, json!({"annotations": annotations})).await?;
        Ok(at)
    }

    /// Finds a snapshot that is there, as somebody says.
    async fn adopt(&self, content: &Content, written: &str) -> Result<(), Problem> {
        let place = |what: String, remedy| Problem::from(refused(content, what, remedy));
        let handle = Handle::read(written).and_then(|handle| handle.path().map(|path| (handle, path)));
        let Some((handle, path)) = handle else {
            let what = format!("{written:?} is no handle of a snapshot of ours");
            return Err(place(
                what,
                "copy it from status.snapshotHandle of the volumesnapshotcontent that had it",
            ));
        };
        let Some(secret) = &content.secret else {
            let what = "nothing says which secret leads to its file system".to_owned();
            return Err(place(
                what,
                "name the secret by the annotations snapshot.storage.kubernetes.io/deletion-secret-name and -namespace",
            ));
        };
        let access = self.snapshot_access(content, secret, &handle).await?;
        let Some(access) = access else {
            let what = format!(
                "secret \"{}/{}\" leads to a file system that does not exist",
                secret.namespace, secret.name
            );
            return Err(Problem::Waits(what));
        };
        if !self.is_snapshot_there(&access, secret, &path).await? {
            let what = format!(
                "there is no snapshot {handle}: its file system has no directory {:?}",
                path.as_str()
            );
            return Err(place(what, "name one that is there"));
        }
        let status = json!({"snapshotHandle": handle.to_string(), "readyToUse": true, "error": null});
        self.patch_content_status(content, status).await
    }

    /// What leads to the file system of a snapshot; `None` if that is gone.
    async fn snapshot_access(
        &self,
        content: &Content,
        secret: &SecretReference,
        handle: &Handle,
    ) -> Result<Option<Arc<Access>>, Problem> {
        let access = self.access(secret, &described(&content.name)).await?;
        let Some(identity) = self.identity(&access, secret).await? else { return Ok(None) };
        if identity.uuid == handle.file_system() {
            return Ok(Some(access));
        }
        Err(Problem::Waits(format!(
            "secret \"{}/{}\" leads to the file system {:?}, and the snapshot is in {:?}; correct the annotations {} and {}",
            secret.namespace,
            secret.name,
            identity.uuid,
            handle.file_system(),
            DELETION_SECRET[0],
            DELETION_SECRET[1]
        )))
    }

    async fn is_snapshot_there(
        &self,
        access: &Access,
        secret: &SecretReference,
        path: &SubPath,
    ) -> Result<bool, Problem> {
        let found = work::find(self.worker()?, access, path.clone()).await;
        found.map_err(|not_done| self.not_done(secret, not_done))
    }

    /// Where the data of a snapshot is that a claim is to begin with, once it is there.
    pub(super) async fn origin_of_snapshot(&self, claim: &Claim, name: &str) -> Result<Origin, Problem> {
        let namespace = &claim.metadata.namespace;
        let whom = format!("volumesnapshot \"{namespace}/{name}\"");
        let waits = |what: &str| Problem::Waits(format!("{whom}, which it is to begin with, {what}"));
        let unusable = |what: String, remedy| Problem::from(source::refused(claim, what, remedy));
        let kind = resource("VolumeSnapshot", "volumesnapshots");
        let snapshots: Api<VolumeSnapshot> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let found = snapshots.get_opt(name).await.map_err(Problem::api(&whom))?;
        let found = found.ok_or_else(|| waits("does not exist"))?;
        let uid = found.metadata.uid.as_deref().unwrap_or_default();
        let bound = found.status.and_then(|status| status.bound_volume_snapshot_content_name);
        let bound = bound.filter(|bound| !bound.is_empty()).ok_or_else(|| waits("is not bound yet"))?;
        let content =
            self.content(&bound).await?.ok_or_else(|| waits("has lost its volumesnapshotcontent"))?;
        if content.driver != self.driver {
            let what = format!("{whom} is one of {:?}", content.driver);
            return Err(unusable(what, "name a snapshot of a volume in the same file system"));
        }
        // Only of the content is it certain that the driver wrote it.
        let snapshot = &content.snapshot;
        if (&*snapshot.namespace, &*snapshot.name, &*snapshot.uid) != (&**namespace, name, uid)
            || uid.is_empty()
        {
            return Err(waits(&format!("names {}, which is not bound to it", described(&bound))));
        }
        if content.is_deleted {
            return Err(waits("is being deleted"));
        }
        let Some(written) = content.handle.as_ref().filter(|_| content.is_ready) else {
            let error = content.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(waits(&format!("is not ready to use yet{error}")));
        };
        let handle = Handle::read(written).filter(|handle| match &content.source {
            Source::Volume(_) => handle.is_of(&content.uid),
            Source::Snapshot(source) => source == written,
        });
        let Some((handle, path)) = handle.and_then(|handle| handle.path().map(|path| (handle, path))) else {
            let what = format!("{whom} has the handle {written:?}, which is not that of its snapshot");
            return Err(unusable(what, "name another snapshot"));
        };
        let file_system = FileSystem::Known(handle.file_system().to_owned());
        Ok(Origin { whom, file_system, path, bytes: content.restore_size })
    }

    async fn patch_content(&self, content: &Content, mut metadata: Value) -> Result<(), Problem> {
        metadata["uid"] = json!(&*content.uid);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let patched =
            contents(self.client.clone()).patch(&content.name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(Problem::api(described(&content.name)))
    }

    async fn patch_content_status(&self, content: &Content, status: Value) -> Result<(), Problem> {
        let patch = Patch::Merge(json!({"metadata": {"uid": &*content.uid}, "status": status}));
        let contents = contents(self.client.clone());
        let patched = contents.patch_status(&content.name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(Problem::api(described(&content.name)))
    }
}

/// The volume that a content is to be a snapshot of: handles are said to be unique, and nothing makes them so.
fn volume_of<'a>(
    content: &Content,
    handle: &str,
    catalog: &'a Catalog,
    driver: &str,
) -> Result<&'a Arc<PersistentVolume>, Problem> {
    let has = |volume: &&Arc<PersistentVolume>| {
        volume.spec.csi.as_ref().is_some_and(|csi| *csi.volume_handle == *handle)
    };
    let mut found = catalog.volumes_of(driver).filter(has);
    match (found.next(), found.next()) {
        (Some(volume), None) => Ok(volume),
        (None, _) => Err(Problem::Waits(format!("no persistentvolume has the handle {handle:?}"))),
        (Some(one), Some(other)) => {
            let names = (&one.metadata.name, &other.metadata.name);
            let what =
                format!("persistentvolumes {:?} and {:?} have the same handle {handle:?}", names.0, names.1);
            Err(refused(content, what, "give each volume a volumeHandle of its own").into())
        }
    }
}

fn refused(content: &Content, what: impl Into<String>, remedy: &str) -> Refusal {
    let place = format!("{}: spec.source", described(&content.name));
    Refusal::new(Code::ClaimUnusable, place, what, remedy)
}

fn described(name: &str) -> String {
    format!("volumesnapshotcontent {name:?}")
}
