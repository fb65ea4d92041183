//! The controller: what the webhook needs and may not do itself, because it may not write.
//!
//! It keeps certificates and registration as they are to be ([`keeper`]), tells of pods that have no client
//! ([`watchdog`]) and of a configuration that cannot be used ([`configuration`]), and keeps the secrets that clients
//! read ([`secrets`]). It makes, expands and removes volumes and their snapshots ([`provision`], [`snapshots`]), with a
//! worker beside it ([`worker`]). Of several processes one works, by a Lease ([`lease`]). What is to be is decided by
//! pure functions ([`crate::tls::rotation`], [`registration`], [`watchdog::judge`]); the rest reads, asks them, and
//! writes.

pub mod answered;
pub mod certificates;
pub mod configuration;
pub mod events;
pub mod janitor;
pub mod jobs;
pub mod keeper;
pub mod lease;
pub mod problem;
pub mod provision;
pub mod publish;
pub mod registration;
pub mod rights;
pub mod secrets;
pub mod snapshots;
pub mod start;
pub mod watchdog;
pub mod worker;

use std::{path::PathBuf, sync::Arc};

use kube::{Client, core::Selector};
use tokio::sync::watch;

use self::{
    certificates::Secrets,
    events::Events,
    janitor::Janitor,
    keeper::{Keeper, Source},
    lease::{Candidate, Timing},
    provision::{Provisioner, Watched},
    publish::Publisher,
    registration::Settings,
    secrets::ClaimSecrets,
    snapshots::Contents,
    watchdog::Watchdog,
    worker::Worker,
};
use crate::{cluster::follow_storage, telemetry::ControllerMetrics, volume::Catalog};

/// The label that says who looks after an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value on objects of ours, and the field manager of what we apply.
pub const MANAGER: &str = "juicefs-sidecar";
/// The Lease of the controller.
pub const LEASE: &str = "juicefs-sidecar-controller";

/// What works in rounds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Certificates and registration.
    Registration,
    /// Reading the `ConfigMap`.
    Configuration,
    /// The secrets that clients read.
    Secrets,
    /// Making a volume.
    Provision,
    /// Expanding one.
    Expand,
    /// Removing one.
    Delete,
    /// Taking a snapshot.
    Snapshot,
    /// Removing one.
    RemoveSnapshot,
    /// Keeping a user secret that volumes need.
    Hold,
    /// Ending the clients of a pod whose application has ended.
    Jobs,
    /// Detaching the mounts of a pod that cannot go.
    Release,
    /// Removing the directories that pods have left on a node.
    Tidy,
}

impl Task {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::Registration,
        Self::Configuration,
        Self::Secrets,
        Self::Provision,
        Self::Expand,
        Self::Delete,
        Self::Snapshot,
        Self::RemoveSnapshot,
        Self::Hold,
        Self::Jobs,
        Self::Release,
        Self::Tidy,
    ];

    /// The task in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::Configuration => "configuration",
            Self::Secrets => "secrets",
            Self::Provision => "provision",
            Self::Expand => "expand",
            Self::Delete => "delete",
            Self::Snapshot => "snapshot",
            Self::RemoveSnapshot => "remove-snapshot",
            Self::Hold => "hold",
            Self::Jobs => "jobs",
            Self::Release => "release",
            Self::Tidy => "tidy",
        }
    }
}

/// How volumes are made, expanded and removed.
#[derive(Clone, Debug)]
pub struct Provisioning {
    /// The worker's socket; without one there are no quotas, and nothing is removed.
    pub worker: Option<PathBuf>,
    /// That of the worker of the enterprise edition, if it is another one.
    pub enterprise_worker: Option<PathBuf>,
    /// Volumes that are worked on at the same time.
    pub most: usize,
    /// Where somebody else provisions for the driver: the namespace of the Lease that is named after it.
    pub lease: Option<(String, Timing)>,
}

/// Everything the controller works with.
pub struct Controller {
    /// The API server.
    pub client: Client,
    /// How the webhook is registered; its namespace is ours.
    pub settings: Settings,
    /// Where certificates come from.
    pub source: Source,
    /// The `ClusterRole` that owns the registrations; empty for none.
    pub owner: String,
    /// The `ConfigMap`.
    pub configuration: String,
    /// Whether the secrets that clients read are kept.
    pub claim_secrets: bool,
    /// How volumes are made, if they are.
    pub provisioning: Option<Provisioning>,
    /// How pods that cannot go are set free.
    pub janitor: janitor::Settings,
    /// The name of this pod.
    pub pod: String,
    /// What is counted.
    pub metrics: ControllerMetrics,
}

impl Controller {
    /// Works for ever, without asking whether another does.
    pub async fn work(&self) {
        let namespace = self.settings.namespace.as_str();
        let events = Events::new(self.client.clone(), &self.pod, events::RARE, self.metrics.clone());
        let keeper = Keeper::new(
            Secrets::new(self.client.clone(), namespace),
            self.publisher(),
            self.source.clone(),
            events.clone(),
            self.metrics.clone(),
        );
        let (told, config) = watch::channel(None);
        let janitor = Arc::new(Janitor::new(
            self.client.clone(),
            self.janitor.clone(),
            config.clone(),
            events.clone(),
            self.metrics.clone(),
        ));
        let watchdog = Watchdog::new(
            self.client.clone(),
            self.settings.driver.clone(),
            Arc::clone(&janitor),
            events.clone(),
            self.metrics.clone(),
        );
        let selectors = [&self.settings.namespaces, &self.settings.serverless_namespaces];
        let selectors: Vec<_> =
            selectors.into_iter().filter_map(|selector| Selector::try_from(selector.clone()).ok()).collect();
        let excluded = vec!["kube-system".to_owned(), namespace.to_owned()];
        let secrets = self.claim_secrets.then(|| {
            ClaimSecrets::new(
                self.client.clone(),
                self.settings.driver.clone(),
                selectors.clone(),
                excluded.clone(),
                events.clone(),
                self.metrics.clone(),
            )
        });
        let (storage, objects) = watch::channel(Catalog::default());
        let (snapshots, contents) = watch::channel(Contents::default());
        let watched = Watched { storage: objects.clone(), snapshots: contents, config };
        let provisioning = self.provisioning.as_ref().map(|how| self.provision(how, watched));
        tokio::join!(
            keeper.run(self.client.clone(), namespace),
            Arc::new(watchdog).run(selectors, excluded),
            janitor.run(),
            configuration::watch(
                self.client.clone(),
                namespace,
                &self.configuration,
                told,
                &events,
                &self.metrics
            ),
            async {
                if self.claim_secrets || self.provisioning.is_some() {
                    follow_storage(self.client.clone(), storage).await;
                }
            },
            async {
                if let Some(secrets) = secrets {
                    secrets.run(objects).await;
                }
            },
            async {
                if let Some(provisioning) = provisioning {
                    let snapshots = snapshots::follow(self.client.clone(), &self.settings.driver, snapshots);
                    tokio::join!(provisioning, snapshots);
                }
            },
        );
    }

    /// Makes, expands and removes volumes and their snapshots for ever, whenever the Lease of who does so is ours.
    async fn provision(&self, how: &Provisioning, watched: Watched) {
        let (client, driver) = (&self.client, &self.settings.driver);
        let events = Events::new(client.clone(), &self.pod, events::REGULAR, self.metrics.clone());
        let begin = || {
            let worker =
                how.worker.as_ref().map(|socket| Worker::new(socket, how.enterprise_worker.as_ref()));
            let (watched, events, metrics) = (watched.clone(), events.clone(), self.metrics.clone());
            Provisioner::new(client.clone(), driver.clone(), worker, watched, events, metrics)
        };
        if how.worker.is_none() {
            tracing::warn!(
                "there is no worker (--worker): volumes have no quotas, and none is removed with its data"
            );
        }
        let Some((namespace, timing)) = &how.lease else { return Arc::new(begin()).run(how.most).await };
        let mut candidate = Candidate::new(client.clone(), namespace, driver, &self.pod, *timing);
        loop {
            candidate.acquire().await;
            tracing::info!(lease = driver, namespace, "provisioning");
            let lost = tokio::select! {
                lost = candidate.keep() => lost,
                () = Arc::new(begin()).run(how.most) => return,
            };
            tracing::warn!(lease = driver, namespace, "not provisioning any more: {lost}");
        }
    }

    /// Works whenever the lease is ours, for ever. Losing it ends the work at once, wherever it is: each of its writes
    /// stands alone.
    pub async fn lead(&self, candidate: &mut Candidate) {
        loop {
            candidate.acquire().await;
            self.metrics.leads(true);
            tracing::info!(identity = candidate.identity(), "leading");
            let lost = tokio::select! {
                lost = candidate.keep() => lost,
                () = self.work() => continue,
            };
            self.metrics.leads(false);
            tracing::warn!(identity = candidate.identity(), "not leading any more: {lost}");
        }
    }

    /// What applies the registration.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.client.clone(), self.settings.clone(), self.owner.clone(), LEASE.to_owned())
    }
}
