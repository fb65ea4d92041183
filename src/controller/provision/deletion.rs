//! Takes a volume away whose claim is gone: its data first where that is certainly right ([`removal`]), then what kept
//! its secret, then the PersistentVolume. Nothing is lost track of: the finalizer goes last.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::events::EventType,
};
use serde_json::json;

use super::{
    Provisioner,
    candidates::{Item, waits_to_go},
    finalizer::is_settled,
    paths::Purpose,
    removal::{self, Neighbour, Verdict},
    volume::FINALIZER,
    work,
};
use crate::{
    client::access::Access,
    controller::{events::Reason, problem::Problem, worker::NotDone},
    volume::{Catalog, PersistentVolume, objects::SecretReference},
    worker::{Identity, Kind},
};

/// Annotation of a volume or of the content of a snapshot, with the value `true`: its data is given up, wherever it is.
pub const GIVE_UP: &str = "sidecar.juicefs.com/give-up-data";

impl Provisioner {
    /// Takes a volume away, if it still is to go.
    pub(super) async fn delete(&self, name: &Arc<str>) -> Result<(), Problem> {
        let volumes = Api::<api::PersistentVolume>::all(self.client.clone());
        let what = format!("persistentvolume {name:?}");
        let Some(found) = volumes.get_opt(name).await.map_err(Problem::api(&what))? else { return Ok(()) };
        let volume = slim(&found)
            .map_err(|error| Problem::Waits(format!("{what} cannot be read and is left alone: {error}")))?;
        let is_ours = volume.spec.csi.as_ref().is_some_and(|csi| *csi.driver == *self.driver);
        if !is_ours || !waits_to_go(&volume) {
            return Ok(());
        }
        let catalog = self.catalog();
        if let Some(claim) = claim_of(&volume, &catalog) {
            return Err(Problem::Waits(format!("{what} is still claimed by persistentvolumeclaim {claim}")));
        }
        let secret = volume.secret().cloned().unwrap_or_default();
        let kept = if is_settled(&found) {
            return self.settled(&secret, &volumes, &found, &what).await;
        } else if volume.metadata.annotations.get(GIVE_UP).is_some_and(|value| &**value == "true") {
            Some(format!("the annotation {GIVE_UP} says so"))
        } else {
            self.remove_data(name, &volume, &secret, &catalog).await?
        };
        if let Some(reason) = kept {
            let note = format!("the volume goes, and its data stays in the file system: {reason}");
            tracing::warn!(volume = &**name, "{note}");
            self.tell(&Item::Delete(Arc::clone(name)), EventType::Warning, Reason::VolumeDataKept, &note)
                .await;
        } else {
            tracing::info!(volume = &**name, "its data was removed");
        }
        self.settled(&secret, &volumes, &found, &what).await
    }

    /// What is left when it is settled what becomes of the data.
    async fn settled(
        &self,
        secret: &SecretReference,
        volumes: &Api<api::PersistentVolume>,
        found: &api::PersistentVolume,
        what: &str,
    ) -> Result<(), Problem> {
        self.release_secret(secret, found).await?;
        self.finish(volumes, found, what).await
    }

    /// Removes the data; the reason where it is to stay.
    async fn remove_data(
        &self,
        name: &Arc<str>,
        volume: &PersistentVolume,
        secret: &SecretReference,
        catalog: &Catalog,
    ) -> Result<Option<String>, Problem> {
        let (path, neighbours) = match removal::judge(volume, catalog, &self.config(), &self.driver) {
            Verdict::Keep(reason) => return Ok(Some(reason)),
            Verdict::Remove { path, neighbours } => (path, neighbours),
        };
        let worker = self.worker()?;
        let whom = format!("persistentvolume {name:?}");
        let access = self.access(secret, &whom).await.map_err(with_way_out)?;
        if !neighbours.is_empty()
            && let Some(reason) = self.shared(&access, secret, &neighbours).await?
        {
            return Ok(Some(reason));
        }
        let in_use = |other| {
            Problem::Waits(format!("the directory of volume {other}, at or around it, is being made"))
        };
        let _guard = self.paths.take(name, path.as_str(), Purpose::Remove).map_err(in_use)?;
        // What was made since the look at the catalogue is in it by now, or among the directories that are being made.
        if removal::judge(volume, &self.catalog(), &self.config(), &self.driver)
            != (Verdict::Remove { path: path.clone(), neighbours })
        {
            return Err(Problem::Waits(format!("{whom}: something changed around its directory")));
        }
        let what = format!("{:?} is being removed", path.as_str());
        let removal = work::remove(worker, &access, path);
        let item = Item::Delete(Arc::clone(name));
        match self.telling(&item, Reason::VolumeDataRemoval, &what, removal).await {
            Ok(()) => {
                self.silent.answered(secret);
                Ok(None)
            }
            Err(NotDone::Failed(failed)) if failed.kind == Kind::NotFormatted => {
                Ok(Some("there is no file system any more".to_owned()))
            }
            Err(not_done) => Err(with_way_out(self.not_done(secret, not_done))),
        }
    }

    /// Whether a neighbour is in the same file system, and which; file systems are told apart by what they themselves
    /// say, for there are many ways to one.
    async fn shared(
        &self,
        access: &Access,
        secret: &SecretReference,
        neighbours: &[Neighbour],
    ) -> Result<Option<String>, Problem> {
        let own = self.identity(access, secret).await.map_err(with_way_out)?;
        let mut asked: Vec<&SecretReference> = Vec::new();
        for Neighbour { volume, secret: theirs } in neighbours {
            if asked.contains(&theirs) {
                continue;
            }
            let whom = format!("persistentvolume {volume:?}");
            let identity = match self.access(theirs, &whom).await {
                Ok(access) => self.identity(&access, theirs).await,
                Err(problem) => Err(problem),
            };
            match identity {
                Ok(theirs) if theirs == own => {
                    return Ok(Some(format!(
                        "{whom} has the same directory of the same file system, or one in it or around it"
                    )));
                }
                Ok(_) => asked.push(theirs),
                // Nobody can say, and nobody will be able to soon.
                Err(problem @ (Problem::NoSource { .. } | Problem::Refused(_))) => {
                    return Ok(Some(format!(
                        "{whom} may have the same directory, and cannot be asked: {problem}"
                    )));
                }
                Err(problem) => {
                    let said =
                        format!("{whom} may have the same directory, and its file system cannot be asked");
                    return Err(with_way_out(Problem::Waits(format!("{said}: {problem}"))));
                }
            }
        }
        Ok(None)
    }

    /// Which file system a secret leads to; `None` if it is gone.
    pub(super) async fn identity(
        &self,
        access: &Access,
        secret: &SecretReference,
    ) -> Result<Option<Identity>, Problem> {
        let identity = work::identify(self.worker()?, access).await;
        let identity = identity.map_err(|not_done| self.not_done(secret, not_done))?;
        self.silent.answered(secret);
        Ok(identity)
    }

    /// Takes the object away: it may be held by nothing but our finalizer.
    async fn finish(
        &self,
        volumes: &Api<api::PersistentVolume>,
        found: &api::PersistentVolume,
        what: &str,
    ) -> Result<(), Problem> {
        let name = found.metadata.name.as_deref().unwrap_or_default();
        if found.metadata.deletion_timestamp.is_none() {
            let preconditions = Preconditions { uid: found.metadata.uid.clone(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match volumes.delete(name, &parameters).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                Err(error) => return Err(Problem::api(what)(error)),
                Ok(_) => {}
            }
        }
        let Some(now) = volumes.get_opt(name).await.map_err(Problem::api(what))? else { return Ok(()) };
        let finalizers = now.metadata.finalizers.unwrap_or_default();
        if now.metadata.uid != found.metadata.uid || !finalizers.iter().any(|one| one == FINALIZER) {
            return Ok(());
        }
        let others: Vec<_> = finalizers.iter().filter(|one| *one != FINALIZER).collect();
        let patch =
            json!({"metadata": {"resourceVersion": now.metadata.resource_version, "finalizers": others}});
        match volumes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Problem::api(what)(error)),
            Ok(_) => Ok(()),
        }
    }
}

/// The object as the engine reads it, with all its attributes.
pub(super) fn slim(volume: &api::PersistentVolume) -> serde_json::Result<PersistentVolume> {
    serde_json::from_value(serde_json::to_value(volume)?)
}

/// The claim of a volume, if it is still there.
fn claim_of(volume: &PersistentVolume, catalog: &Catalog) -> Option<String> {
    let reference = volume.spec.claim_ref.as_ref()?;
    let claim = catalog.claim(&reference.namespace, &reference.name)?;
    (claim.metadata.uid == reference.uid).then(|| format!("\"{}/{}\"", reference.namespace, reference.name))
}

/// What may last for ever has to have an end that people can choose.
pub(super) fn with_way_out(problem: Problem) -> Problem {
    Problem::KeepsData { problem: Box::new(problem), annotation: GIVE_UP }
}
