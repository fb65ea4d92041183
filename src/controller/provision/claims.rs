//! Gives a claim its volume: first the directory, then the PersistentVolume, whose name follows from the claim's UID. So
//! however often it is begun, and by however many, there is one directory and one volume.

use k8s_openapi::api::core::v1 as api;
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::events::EventType,
};
use tokio::time::Instant;

use super::{
    Provisioner,
    candidates::{ClaimKey, Item, waits_for_a_volume, waits_to_go},
    clone::Target,
    paths::{Guard, Purpose},
    source,
    volume::{Parts, check, volume},
    work::{self, MadeBy},
};
use crate::{
    controller::{MANAGER, events::Reason, problem::Problem, snapshots::handle::is_among_snapshots},
    outcome::{Code, Refusal},
    volume::{
        Catalog, Claim, StorageClass,
        backing::{Backing, Search},
        catalog::Writer,
        class::SELECTED_NODE,
        directory,
        objects::{Node, PodReference},
        resolved::ClaimIdentity,
    },
    worker::{SubPath, gibibytes},
};

/// The directory of a volume to be.
struct Made {
    /// Keeps it.
    guard: Guard,
    /// From the root of the file system.
    directory: String,
    /// Whether it has the quota that was asked for.
    has_quota: bool,
    /// What its data was cloned from.
    begins_with: Option<String>,
}

impl Provisioner {
    /// Makes the volume of a claim, if it still waits for one.
    pub(super) async fn provision(&self, key: &ClaimKey) -> Result<(), Problem> {
        let mut catalog = self.catalog();
        let Some(claim) = key.find(&catalog).cloned() else { return Ok(()) };
        if !waits_for_a_volume(&claim, &catalog, &self.driver) {
            return Ok(());
        }
        let Some(class) =
            claim.spec.storage_class_name.as_ref().and_then(|name| catalog.class(name)).cloned()
        else {
            return Ok(());
        };
        let bytes = check(&claim, &class)?;
        self.belongs_to_its_pod(&claim).await?;
        self.add_node(&mut catalog, &claim, &class).await?;
        let Some((identity, backing)) = self.planned(&catalog, &claim)? else { return Ok(()) };
        let Made { guard, directory, has_quota, begins_with } =
            self.make_directory(key, &claim, identity, &backing, bytes, &class).await?;
        let parts = Parts {
            claim: &claim,
            class: &class,
            backing: &backing,
            bytes,
            directory: &directory,
            has_quota,
            driver: &self.driver,
        };
        self.create(&volume(&parts), &claim).await?;
        guard.made(Instant::now());
        let quota = if has_quota && gibibytes(bytes) << 30 != bytes {
            format!(", and a quota of {} GiB: quotas are whole GiB", gibibytes(bytes))
        } else {
            String::new()
        };
        let data = begins_with.map(|whom| format!(", with the data of {whom}")).unwrap_or_default();
        let note = format!("volume {} has the directory {directory:?}{data}{quota}", backing.name);
        self.tell(&Item::Provision(key.clone()), EventType::Normal, Reason::ProvisioningSucceeded, &note)
            .await;
        Ok(())
    }

    /// Whoever may make claims may write that a pod owns one, and the pod's UID leads to the pod's directory: that has to
    /// be a pod of the claim's own namespace.
    async fn belongs_to_its_pod(&self, claim: &Claim) -> Result<(), Problem> {
        let Some(PodReference { name, uid }) = claim.metadata.pod.as_deref() else { return Ok(()) };
        let namespace = &*claim.metadata.namespace;
        let what = format!("pod \"{namespace}/{name}\"");
        // By the right to list pods, which there is anyway.
        let of_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let pods = Api::<api::Pod>::namespaced(self.client.clone(), namespace);
        let found = pods.list_metadata(&of_name).await.map_err(Problem::api(&what))?;
        if found.items.iter().any(|pod| pod.metadata.uid.as_deref() == Some(&**uid)) {
            return Ok(());
        }
        Err(Problem::Waits(format!(
            "{what} with the UID {uid}, which the claim says it was made for, does not exist"
        )))
    }

    /// What the class makes of the claim; `None` where a volume is there already.
    fn planned(&self, catalog: &Catalog, claim: &Claim) -> Result<Option<(ClaimIdentity, Backing)>, Problem> {
        let mut search = Search::new(catalog, &self.driver);
        let found = search.behind(claim)?;
        Ok(found.filter(|(_, backing)| !backing.bound))
    }

    /// The node that a claim is made for is looked up where its class asks for it: nodes are not followed.
    async fn add_node(
        &self,
        catalog: &mut Catalog,
        claim: &Claim,
        class: &StorageClass,
    ) -> Result<(), Problem> {
        let templates = class.parameters.iter().map(|(_, value)| value).chain(class.mount_options.iter());
        let asks = templates.into_iter().any(|template| template.contains("${.node."));
        let node =
            claim.metadata.annotations.get(SELECTED_NODE).filter(|_| asks && class.waits_for_consumer());
        let Some(name) = node else { return Ok(()) };
        let what = format!("node {name:?}");
        let found =
            Api::<api::Node>::all(self.client.clone()).get_opt(name).await.map_err(Problem::api(&what))?;
        let Some(found) = found else {
            return Err(Problem::Waits(format!("{what} does not exist, and the claim is made for it")));
        };
        let slim = serde_json::to_value(found).and_then(serde_json::from_value::<Node>);
        let mut writer = Writer::over(catalog);
        writer.apply(slim.map_err(|error| Problem::Waits(format!("{what} cannot be read: {error}")))?);
        *catalog = writer.snapshot();
        Ok(())
    }

    /// Makes the directory; it is kept for the volume until the guard goes.
    async fn make_directory(
        &self,
        key: &ClaimKey,
        claim: &Claim,
        identity: ClaimIdentity,
        backing: &Backing,
        bytes: u64,
        class: &StorageClass,
    ) -> Result<Made, Problem> {
        let whom = format!("storageclass \"{}\"", class.metadata.name);
        let access = self.access(&backing.secret, &whom).await?;
        let directory = directory::of_claim(identity, backing.clone(), &access.secret, &self.config())?;
        let unusable = |reason: &str| {
            let place =
                format!("persistentvolumeclaim \"{}/{}\"", claim.metadata.namespace, claim.metadata.name);
            let what = format!("its directory would be {directory:?}, {reason}");
            Refusal::new(Code::ClaimUnusable, place, what, "correct pathPattern or subdir in its class")
        };
        let path = SubPath::try_from(directory.clone()).map_err(|reason| unusable(&reason.to_string()))?;
        if is_among_snapshots(&directory) {
            return Err(unusable("where snapshots are").into());
        }
        let in_the_way = |other| {
            Problem::Waits(format!(
                "the data of volume {other}, at or around {directory:?}, is being removed first"
            ))
        };
        let guard = self.paths.take(&backing.name, &directory, Purpose::Make).map_err(in_the_way)?;
        // What an earlier leader was removing goes on being removed.
        let catalog = self.catalog();
        let going = catalog.volumes_of(&self.driver).find(|other| {
            waits_to_go(other)
                && directory::of_volume(other, &self.driver)
                    .is_some_and(|theirs| theirs.is_ok_and(|theirs| directory::overlap(&theirs, &directory)))
                && other.secret() == Some(&backing.secret)
        });
        if let Some(other) = going {
            return Err(in_the_way(std::sync::Arc::clone(&other.metadata.name)));
        }
        let mut made = Made { guard, directory, has_quota: false, begins_with: None };
        if let Some(source) = source::source(claim)? {
            let (volume, secret) = (&backing.name, &backing.secret);
            let target = Target { path: &path, volume, secret, access: &access, bytes };
            made.begins_with = Some(self.fill(key, claim, &source, &target).await?);
        }
        let Some(worker) = &self.worker else { return Ok(made) };
        let quota = self.sets_quotas().then_some(bytes);
        match work::make(worker, &access, path, quota).await {
            Ok(MadeBy::Worker) => {
                self.silent.answered(&backing.secret);
                made.has_quota = quota.is_some();
            }
            Ok(MadeBy::Clients) => {
                let note = "the worker's client cannot make its directory and set its quota; clients of pods make the \
                            directory, and there is no quota";
                self.tell(&Item::Provision(key.clone()), EventType::Warning, Reason::QuotaNotSet, note).await;
            }
            Err(not_done) => return Err(self.not_done(&backing.secret, not_done)),
        }
        Ok(made)
    }

    /// Creates the volume; one that is there already and the claim's is as good.
    async fn create(&self, volume: &api::PersistentVolume, claim: &Claim) -> Result<(), Problem> {
        let volumes = Api::<api::PersistentVolume>::all(self.client.clone());
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let what = format!("persistentvolume {name:?}");
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match volumes.create(&parameters, volume).await {
            Ok(_) => {
                tracing::info!(
                    volume = name,
                    namespace = &*claim.metadata.namespace,
                    claim = &*claim.metadata.name,
                    "provisioned"
                );
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let found = volumes.get(name).await.map_err(Problem::api(&what))?;
                let reference = found.spec.and_then(|spec| spec.claim_ref);
                if reference.and_then(|reference| reference.uid).as_deref() == Some(&*claim.metadata.uid) {
                    return Ok(());
                }
                Err(Problem::Waits(format!("{what} exists and is not this claim's; remove it or its claim")))
            }
            Err(error) => Err(Problem::api(&what)(error)),
        }
    }
}
