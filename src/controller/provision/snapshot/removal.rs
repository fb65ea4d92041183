//! Removes snapshots whose contents are to go, by the rules by which volumes are removed: the data first where that is
//! certainly right, then what kept its secret, then what holds the content.

use std::sync::Arc;

use kube::{
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;

use super::{Provisioner, described};
use crate::{
    controller::{
        events::Reason,
        problem::Problem,
        provision::{
            GIVE_UP, candidates::Item, deletion::with_way_out, finalizer::SETTLED, paths::Purpose, work,
        },
        snapshots::{
            content::{Content, DELETION_SECRET, Data, FINALIZER, Found},
            contents,
            handle::Handle,
        },
        worker::NotDone,
    },
    worker::Kind,
};

impl Provisioner {
    /// Takes a content away, if it still is to go, and the snapshot with it.
    pub(in crate::controller::provision) async fn remove_snapshot(
        &self,
        name: &Arc<str>,
    ) -> Result<(), Problem> {
        let Some(content) = self.content(name).await? else { return Ok(()) };
        if content.driver != self.driver || !content.waits_to_go() {
            return Ok(());
        }
        let kept = match content.data() {
            Data::None => None,
            Data::Keep(reason) => Some(reason),
            Data::Remove(_) if content.is_given_up => Some(format!("the annotation {GIVE_UP} says so")),
            Data::Remove(handle) => self.remove_snapshot_data(&content, &handle).await?,
        };
        if let Some(reason) = kept {
            let note = format!("the snapshot goes, and its data stays in the file system: {reason}");
            tracing::warn!(content = &**name, "{note}");
            let item = Item::RemoveSnapshot(Arc::clone(name));
            self.tell(&item, EventType::Warning, Reason::VolumeDataKept, &note).await;
        }
        if let Some(secret) =
            content.secret.as_ref().filter(|secret| content.is_settled || content.needs(secret))
        {
            let note = || self.patch_content(&content, json!({"annotations": {SETTLED: &*content.uid}}));
            self.release_secret_of_snapshot(secret, &content, note).await?;
        }
        self.let_go(&content).await
    }

    /// Removes the data; the reason where it is to stay.
    async fn remove_snapshot_data(
        &self,
        content: &Content,
        handle: &Handle,
    ) -> Result<Option<String>, Problem> {
        let Some(path) = handle.path() else { return Ok(Some("its directory is not known".to_owned())) };
        let Some(secret) = &content.secret else {
            let [name, namespace] = DELETION_SECRET;
            let what = format!(
                "{} says no more which secret leads to its file system; write the annotations {name} and {namespace}",
                described(&content.name)
            );
            return Err(with_way_out(Problem::Waits(what)));
        };
        let worker = self.worker()?;
        let access = self.snapshot_access(content, secret, handle).await.map_err(with_way_out)?;
        let Some(access) = access else { return Ok(Some("there is no file system any more".to_owned())) };
        let in_use = |other| Problem::Waits(format!("the directory of the snapshot is in use by {other}"));
        let _guard = self
            .paths
            .take(&described(&content.name).into(), path.as_str(), Purpose::Remove)
            .map_err(in_use)?;
        let item = Item::RemoveSnapshot(Arc::clone(&content.name));
        let what = format!("{:?} is being removed", path.as_str());
        let removal = work::remove(worker, &access, path);
        match self.telling(&item, Reason::VolumeDataRemoval, &what, removal).await {
            Ok(()) => {
                self.silent.answered(secret);
                tracing::info!(content = &*content.name, "its data was removed");
                Ok(None)
            }
            Err(NotDone::Failed(failed)) if failed.kind == Kind::NotFormatted => {
                Ok(Some("there is no file system any more".to_owned()))
            }
            Err(not_done) => Err(with_way_out(self.not_done(secret, not_done))),
        }
    }

    /// Takes our finalizer from a content that is to go.
    async fn let_go(&self, content: &Content) -> Result<(), Problem> {
        let (contents, what) = (contents(self.client.clone()), described(&content.name));
        let found: Option<Found> = contents.get_opt(&content.name).await.map_err(Problem::api(&what))?;
        let found = found.filter(|found| found.metadata.uid.as_deref() == Some(&*content.uid));
        let Some(found) = found else { return Ok(()) };
        let finalizers = found.metadata.finalizers.unwrap_or_default();
        let others: Vec<_> = finalizers.iter().filter(|one| *one != FINALIZER).collect();
        let version = found.metadata.resource_version;
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version, "finalizers": others}}));
        match contents.patch(&content.name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Problem::api(&what)(error)),
            Ok(_) => Ok(()),
        }
    }
}
