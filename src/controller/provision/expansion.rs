//! Lets a volume grow: first its quota, then its capacity, then the claim's, as the standard resizer leaves them.

use std::{collections::BTreeMap, num::NonZero, sync::Arc};

use k8s_openapi::{
    api::core::v1 as api,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;

use super::{
    Provisioner,
    candidates::{ClaimKey, Item, volume_of},
    volume::storage,
    work::{self, MadeBy},
};
use crate::{
    controller::{events::Reason, problem::Problem},
    outcome::{Code, Refusal},
    volume::{PersistentVolume, directory},
    worker::{SubPath, gibibytes},
};

/// Conditions of a claim that is being expanded.
const RESIZING: &str = "Resizing";
const FILE_SYSTEM_RESIZE_PENDING: &str = "FileSystemResizePending";

impl Provisioner {
    /// Expands the volume of a claim, if it still asks for more.
    pub(super) async fn expand(&self, key: &ClaimKey) -> Result<(), Problem> {
        let catalog = self.catalog();
        let Some(claim) = key.find(&catalog) else { return Ok(()) };
        let wanted = claim.spec.bytes.map(NonZero::get);
        let (Some(wanted), Some(volume)) = (wanted, volume_of(claim, &catalog, &self.driver)) else {
            return Ok(());
        };
        let claims = Api::<api::PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let what = format!("persistentvolumeclaim \"{}/{}\"", key.namespace, key.name);
        let Some(found) = claims.get_opt(&key.name).await.map_err(Problem::api(&what))? else {
            return Ok(());
        };
        if found.metadata.uid.as_deref() != Some(&*key.uid) || requested(&found) != Some(wanted) {
            return Err(Problem::Waits(format!("{what} has changed")));
        }
        let item = Item::Expand(key.clone());
        if self.capacity(&volume.metadata.name).await? < wanted {
            self.mark_resizing(&claims, &found, &what).await?;
            self.grow(&item, volume, wanted).await?;
        }
        let others = conditions(&found, |kind| kind != RESIZING && kind != FILE_SYSTEM_RESIZE_PENDING);
        let status =
            json!({"capacity": storage(wanted), "conditions": others, "allocatedResourceStatuses": null});
        self.patch_status(&claims, &found, &what, status).await?;
        let quota = if self.sets_quotas() {
            format!("; its quota is {} GiB", gibibytes(wanted))
        } else {
            String::new()
        };
        let note = format!("volume {} holds {wanted} bytes now{quota}", volume.metadata.name);
        self.tell(&item, EventType::Normal, Reason::VolumeResizeSuccessful, &note).await;
        Ok(())
    }

    /// How many bytes a volume may hold, by what the object says now.
    pub(super) async fn capacity(&self, name: &str) -> Result<u64, Problem> {
        let volumes = Api::<api::PersistentVolume>::all(self.client.clone());
        let found = volumes.get(name).await.map_err(Problem::api(format!("persistentvolume {name:?}")))?;
        Ok(found.spec.and_then(|spec| bytes(spec.capacity.as_ref()?)).unwrap_or_default())
    }

    /// Gives a volume its quota, and the object its capacity.
    async fn grow(&self, item: &Item, volume: &Arc<PersistentVolume>, wanted: u64) -> Result<(), Problem> {
        let name = &volume.metadata.name;
        let what = format!("persistentvolume {name:?}");
        if self.sets_quotas() {
            let directory =
                directory::of_volume(volume, &self.driver).unwrap_or_else(|| Ok(String::new()))?;
            let path = SubPath::try_from(directory.clone()).map_err(|reason| {
                let said = format!("its directory is {directory:?}, {reason}");
                Refusal::new(
                    Code::ClaimUnusable,
                    &what,
                    said,
                    "only volumes with a directory of their own can grow",
                )
            })?;
            let secret = volume.secret().cloned().unwrap_or_default();
            let access = self.access(&secret, &what).await?;
            match work::make(self.worker()?, &access, path, Some(wanted)).await {
                Ok(MadeBy::Worker) => self.silent.answered(&secret),
                Ok(MadeBy::Clients) => {
                    let note = "the worker's client cannot set quotas, so there is none";
                    self.tell(item, EventType::Warning, Reason::QuotaNotSet, note).await;
                }
                Err(not_done) => return Err(self.not_done(&secret, not_done)),
            }
        }
        let patch = json!({"spec": {"capacity": storage(wanted)}});
        let volumes = Api::<api::PersistentVolume>::all(self.client.clone());
        let patched = volumes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(Problem::api(&what))
    }

    async fn mark_resizing(
        &self,
        claims: &Api<api::PersistentVolumeClaim>,
        found: &api::PersistentVolumeClaim,
        what: &str,
    ) -> Result<(), Problem> {
        if !conditions(found, |kind| kind == RESIZING).is_empty() {
            return Ok(());
        }
        let mut all = conditions(found, |_| true);
        all.push(api::PersistentVolumeClaimCondition {
            type_: RESIZING.to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(Timestamp::now())),
            ..api::PersistentVolumeClaimCondition::default()
        });
        self.patch_status(claims, found, what, json!({"conditions": all})).await
    }

    pub(super) async fn patch_status(
        &self,
        claims: &Api<api::PersistentVolumeClaim>,
        found: &api::PersistentVolumeClaim,
        what: &str,
        status: serde_json::Value,
    ) -> Result<(), Problem> {
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"uid": found.metadata.uid}, "status": status});
        let patched = claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(Problem::api(what))
    }
}

/// Bytes that a claim asks for.
fn requested(claim: &api::PersistentVolumeClaim) -> Option<u64> {
    bytes(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?)
}

/// The bytes of `storage`.
fn bytes(amounts: &BTreeMap<String, Quantity>) -> Option<u64> {
    amounts.get("storage")?.0.parse().ok().map(crate::notation::Quantity::whole)
}

/// The conditions of a claim whose kind is wanted.
pub(super) fn conditions(
    claim: &api::PersistentVolumeClaim,
    wanted: impl Fn(&str) -> bool,
) -> Vec<api::PersistentVolumeClaimCondition> {
    let all = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    all.into_iter().flatten().filter(|condition| wanted(&condition.type_)).cloned().collect()
}
