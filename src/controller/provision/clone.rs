//! Fills the directory of a volume to be with what another one has, or a snapshot.
//!
//! The client shows a clone when it is complete, so a directory that is there is one that is done, or somebody else's.
//! Which of the two is known from a condition of the claim, written before the first attempt and after a look that found
//! nothing there. So a controller may be killed at any point: what it began is recognised, what others have is not taken.

use std::sync::Arc;

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Api;

use super::{
    Provisioner,
    candidates::{ClaimKey, Item},
    expansion::conditions,
    paths::Purpose,
    source::{self, FileSystem, Origin, Source},
    work,
};
use crate::{
    client::access::Access,
    controller::{events::Reason, problem::Problem},
    volume::{Claim, objects::SecretReference},
    worker::SubPath,
};

/// Condition of a claim: its directory was not there before, and begins with what something else has.
const CLONE: &str = "sidecar.juicefs.com/Clone";

/// A directory to be, and what leads to its file system.
pub(super) struct Target<'a> {
    /// The directory.
    pub(super) path: &'a SubPath,
    /// The volume to be.
    pub(super) volume: &'a Arc<str>,
    pub(super) secret: &'a SecretReference,
    pub(super) access: &'a Access,
    /// How many bytes it may hold.
    pub(super) bytes: u64,
}

impl Provisioner {
    /// Makes a directory what the source of its claim is; what it was made from.
    pub(super) async fn fill(
        &self,
        key: &ClaimKey,
        claim: &Claim,
        source: &Source,
        target: &Target<'_>,
    ) -> Result<String, Problem> {
        let worker = self.worker()?;
        let whom = source.whom(claim);
        let message = format!("{:?} begins with the data of {whom}", target.path.as_str());
        let marked = self.marked(key, &message).await?;
        // An earlier attempt may have come so far, and its source may be gone by now.
        if marked && self.is_there(target).await? {
            return Ok(whom);
        }
        let origin = match source {
            Source::Claim(name) => {
                source::origin(name, claim, &self.catalog(), &self.config(), &self.driver)?
            }
            Source::Snapshot(name) => self.origin_of_snapshot(claim, name).await?,
        };
        source::check(&origin, claim, target.bytes, target.path)?;
        let busy = |_| Problem::Turn("other volumes are being cloned first");
        let _turn = self.clones.try_acquire().map_err(busy)?;
        self.same_file_system(claim, &origin, target).await?;
        // Nobody removes it meanwhile, even if its claim goes.
        let reader: Arc<str> = format!("{}, which begins with it", target.volume).into();
        let in_the_way = |_| Problem::Waits(format!("the data of {} is being removed", origin.whom));
        let _guard = self.paths.take(&reader, origin.path.as_str(), Purpose::Make).map_err(in_the_way)?;
        if !marked {
            if self.is_there(target).await? {
                let what =
                    format!("its directory would be {:?}, which is there already", target.path.as_str());
                let remedy =
                    "use a class whose pathPattern gives each claim a directory of its own, or take it away";
                return Err(source::refused(claim, what, remedy).into());
            }
            self.mark(key, message).await?;
        }
        let clone = work::clone(worker, target.access, origin.path.clone(), target.path.clone(), work::MODE);
        let what = format!("what {} has is being cloned", origin.whom);
        let item = Item::Provision(key.clone());
        match self.telling(&item, Reason::VolumeDataClone, &what, clone).await {
            Ok(()) => Ok(origin.whom),
            Err(not_done) => Err(self.not_done(target.secret, not_done)),
        }
    }

    async fn is_there(&self, target: &Target<'_>) -> Result<bool, Problem> {
        let found = work::find(self.worker()?, target.access, target.path.clone()).await;
        found.map_err(|not_done| self.not_done(target.secret, not_done))
    }

    /// Refuses a source in another file system; there are many ways to one, so they are asked.
    async fn same_file_system(
        &self,
        claim: &Claim,
        origin: &Origin,
        target: &Target<'_>,
    ) -> Result<(), Problem> {
        let is_same = match &origin.file_system {
            FileSystem::By(secret, _) if secret == target.secret => true,
            FileSystem::By(secret, volume) => {
                let theirs = self.access(secret, &format!("persistentvolume {volume:?}")).await?;
                let theirs = self.identity(&theirs, secret).await?;
                theirs.is_some() && theirs == self.identity(target.access, target.secret).await?
            }
            FileSystem::Known(uuid) => {
                let own = self.identity(target.access, target.secret).await?;
                own.is_some_and(|own| own.uuid == *uuid)
            }
        };
        if is_same {
            return Ok(());
        }
        let what = format!("the data of {} is in another file system", origin.whom);
        let remedy = "use a class of the same file system, or copy the data";
        Err(source::refused(claim, what, remedy).into())
    }

    /// Whether it is noted at the claim that its directory is ours to fill.
    async fn marked(&self, key: &ClaimKey, message: &str) -> Result<bool, Problem> {
        let (_, found) = self.live(key).await?;
        let before = conditions(&found, |kind| kind == CLONE);
        Ok(before.iter().any(|condition| condition.message.as_deref() == Some(message)))
    }

    /// Notes it.
    async fn mark(&self, key: &ClaimKey, message: String) -> Result<(), Problem> {
        let (claims, found) = self.live(key).await?;
        let mut all = conditions(&found, |kind| kind != CLONE);
        all.push(api::PersistentVolumeClaimCondition {
            type_: CLONE.to_owned(),
            status: "True".to_owned(),
            reason: Some("DataSource".to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(Timestamp::now())),
            ..api::PersistentVolumeClaimCondition::default()
        });
        self.patch_status(&claims, &found, &described(key), serde_json::json!({"conditions": all})).await
    }

    /// A claim as it is now.
    async fn live(
        &self,
        key: &ClaimKey,
    ) -> Result<(Api<api::PersistentVolumeClaim>, api::PersistentVolumeClaim), Problem> {
        let claims = Api::<api::PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let found = claims.get_opt(&key.name).await.map_err(Problem::api(described(key)))?;
        let found = found.filter(|found| found.metadata.uid.as_deref() == Some(&*key.uid));
        let found = found.ok_or_else(|| Problem::Waits(format!("{} has changed", described(key))))?;
        Ok((claims, found))
    }
}

fn described(key: &ClaimKey) -> String {
    format!("persistentvolumeclaim \"{}/{}\"", key.namespace, key.name)
}
