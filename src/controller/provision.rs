//! The provisioner: claims of a class of ours get their volumes, grow, and take their data with them.
//!
//! It does what Kubernetes' own provisioner and resizer would do with a CSI driver, without one: there is no socket and
//! no node, and what takes a JuiceFS client the worker does ([`super::worker`]). What there is to do follows from the
//! storage objects alone ([`candidates`]); every step may be interrupted anywhere and done again.

pub mod candidates;
mod claims;
mod clone;
pub mod credentials;
mod deletion;
mod expansion;
mod finalizer;
pub mod paths;
pub mod removal;
pub mod schedule;
pub mod silent;
mod snapshot;
pub mod source;
pub mod volume;
pub mod work;

pub use self::{deletion::GIVE_UP, finalizer::SETTLED};

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, runtime::events::EventType};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, interval_at, sleep_until},
};

use self::{
    candidates::Item, credentials::Credentials, finalizer::Held, paths::Paths, schedule::Schedule,
    silent::Silent,
};
use super::{
    Task,
    events::{Events, Reason},
    problem::Problem,
    snapshots::{self, Contents},
    worker::{NotDone, Worker},
};
use crate::{
    client::access::Access,
    config::Config,
    telemetry::ControllerMetrics,
    volume::{Catalog, objects::SecretReference},
    worker::Kind,
};

/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(50);
/// How often it is said that something long goes on.
const PROGRESS: Duration = Duration::from_mins(5);
/// Volumes that are removed at the same time: fewer than the worker takes, so that new ones never wait for old ones.
const MOST_REMOVALS: usize = 2;
/// Trees that are cloned at the same time, for the same reason.
const MOST_CLONES: usize = 2;

/// What the provisioner learns of by watching.
#[derive(Clone)]
pub struct Watched {
    /// The storage objects.
    pub storage: watch::Receiver<Catalog>,
    /// The contents of snapshots of our driver.
    pub snapshots: watch::Receiver<Contents>,
    /// The `ConfigMap`.
    pub config: watch::Receiver<Option<Arc<Config>>>,
}

/// What the provisioner works with.
pub struct Provisioner {
    client: Client,
    driver: String,
    worker: Option<Worker>,
    watched: Watched,
    credentials: Credentials,
    silent: Silent,
    paths: Paths,
    clones: Semaphore,
    held: Held,
    events: Events,
    metrics: ControllerMetrics,
}

/// Something is being done.
type Running = JoinSet<(Item, Result<(), Problem>, Duration)>;

impl Provisioner {
    /// A provisioner for the claims of a driver. Without a worker, the clients of pods make their directories, there
    /// are no quotas, and nothing is removed.
    pub fn new(
        client: Client,
        driver: String,
        worker: Option<Worker>,
        watched: Watched,
        events: Events,
        metrics: ControllerMetrics,
    ) -> Self {
        let credentials = Credentials::new(client.clone());
        let (silent, paths, held) = (Silent::default(), Paths::default(), Held::default());
        let clones = Semaphore::new(MOST_CLONES);
        Self { client, driver, worker, watched, credentials, silent, paths, clones, held, events, metrics }
    }

    /// Goes on for ever, with so many things at the same time.
    pub async fn run(self: Arc<Self>, most: usize) {
        let mut config = self.watched.config.clone();
        // What the ConfigMap says matters to where things are, so nothing is done before it is known.
        if config.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let Watched { mut storage, mut snapshots, .. } = self.watched.clone();
        storage.mark_changed();
        let (mut schedule, mut running) = (Schedule::default(), Running::new());
        let mut look_at: Option<Instant> = None;
        loop {
            self.start(&mut schedule, &mut running, most);
            let wake = schedule.wake(has_room(&schedule, &running, most));
            tokio::select! {
                Ok(()) = storage.changed(), if look_at.is_none() => look_at = Some(Instant::now() + SETTLE),
                Ok(()) = snapshots.changed(), if look_at.is_none() => look_at = Some(Instant::now() + SETTLE),
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    look_at = None;
                    let catalog = storage.borrow_and_update().clone();
                    self.paths.saw(&catalog, Instant::now());
                    let mut all = candidates::candidates(&catalog, &self.driver);
                    let contents = snapshots.borrow_and_update().clone();
                    all.extend(contents.values().filter_map(|one| Some((one.item()?, Arc::clone(&one.created)))));
                    schedule.update(all, Instant::now());
                }
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    // One that has panicked has been told, and stays as it is until the next start.
                    if let Ok((item, outcome, took)) = ended {
                        self.ended(&mut schedule, &item, outcome, took).await;
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// Starts what is due, as far as there is room.
    fn start(self: &Arc<Self>, schedule: &mut Schedule, running: &mut Running, most: usize) {
        let now = Instant::now();
        while let Some(item) = schedule.next(now, has_room(schedule, running, most)) {
            let this = Arc::clone(self);
            running.spawn(async move {
                let started = Instant::now();
                let outcome = match &item {
                    Item::Provision(claim) => this.provision(claim).await,
                    Item::Expand(claim) => this.expand(claim).await,
                    Item::Delete(volume) => this.delete(volume).await,
                    Item::Snapshot(content) => this.snapshot(content).await,
                    Item::RemoveSnapshot(content) => this.remove_snapshot(content).await,
                    Item::Hold(namespace, name) => this.hold_secret(namespace, name).await,
                };
                (item, outcome, started.elapsed())
            });
        }
    }

    async fn ended(
        &self,
        schedule: &mut Schedule,
        item: &Item,
        outcome: Result<(), Problem>,
        took: Duration,
    ) {
        let (task, name) = match item {
            Item::Provision(claim) => (Task::Provision, &claim.name),
            Item::Expand(claim) => (Task::Expand, &claim.name),
            Item::Delete(volume) => (Task::Delete, volume),
            Item::Snapshot(content) => (Task::Snapshot, content),
            Item::RemoveSnapshot(content) => (Task::RemoveSnapshot, content),
            Item::Hold(_, secret) => (Task::Hold, secret),
        };
        self.metrics.reconciled(task, outcome.as_ref().map_or_else(Problem::outcome, |()| "ok"), took);
        match outcome {
            Ok(()) => schedule.done(item, Instant::now()),
            Err(problem) => {
                schedule.failed(item, Instant::now(), problem.is_passing());
                tracing::warn!(task = task.name(), name = &**name, outcome = problem.outcome(), "{problem}");
                // That somebody was faster, or that something has to wait a moment, is nobody's concern.
                if !problem.is_passing() {
                    let reason = match item {
                        Item::Provision(_) => Reason::ProvisioningFailed,
                        Item::Expand(_) => Reason::VolumeResizeFailed,
                        Item::Delete(_) => Reason::VolumeFailedDelete,
                        Item::Snapshot(_) => Reason::SnapshotFailed,
                        Item::RemoveSnapshot(_) => Reason::SnapshotFailedDelete,
                        Item::Hold(..) => Reason::SecretNotHeld,
                    };
                    let about = about(item);
                    self.events.send(EventType::Warning, reason, &problem.to_string(), &about).await;
                }
            }
        }
        self.metrics.not_provisioned(schedule.failing(|item| matches!(item, Item::Provision(_))));
        self.metrics.not_deleted(schedule.failing(|item| matches!(item, Item::Delete(_))));
    }

    async fn tell(&self, item: &Item, kind: EventType, reason: Reason, note: &str) {
        self.events.send(kind, reason, note, &about(item)).await;
    }

    /// Says now and then that something goes on.
    async fn telling<T>(&self, item: &Item, reason: Reason, what: &str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let mut progress = interval_at(started + PROGRESS, PROGRESS);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = progress.tick() => {
                    let note = format!("{what}, for {} minutes now", started.elapsed().as_secs() / 60);
                    self.tell(item, EventType::Normal, reason, &note).await;
                }
            }
        }
    }

    /// The storage objects of this moment.
    fn catalog(&self) -> Catalog {
        self.watched.storage.borrow().clone()
    }

    /// The contents of snapshots of this moment.
    fn snapshots(&self) -> Contents {
        self.watched.snapshots.borrow().clone()
    }

    /// The `ConfigMap`, once it has been read.
    fn config(&self) -> Arc<Config> {
        self.watched.config.borrow().clone().unwrap_or_default()
    }

    /// Whether directories have quotas at all.
    fn sets_quotas(&self) -> bool {
        let config = self.config();
        config.enable_set_quota && config.enable_controller_set_quota
    }

    /// What a secret leads to; not while what it leads to is known to be silent.
    async fn access(&self, secret: &SecretReference, whom: &str) -> Result<Arc<Access>, Problem> {
        let access = self.credentials.get(secret, whom).await?;
        if self.worker.is_some() && !self.silent.may_ask(secret, Instant::now()) {
            let SecretReference { namespace, name } = secret;
            return Err(Problem::Silent(format!(
                "the metadata engine that secret \"{namespace}/{name}\" leads to does not answer; it is tried again"
            )));
        }
        Ok(access)
    }

    /// The worker, for what cannot be done without.
    fn worker(&self) -> Result<&Worker, Problem> {
        self.worker.as_ref().ok_or(Problem::NoWorker)
    }

    /// What the worker did not do, as a problem; what it was told of a secret that may have changed is forgotten.
    fn not_done(&self, secret: &SecretReference, not_done: NotDone) -> Problem {
        if let NotDone::Failed(failed) = &not_done {
            match failed.kind {
                Kind::WrongPassword | Kind::NotFormatted | Kind::StorageUnusable => {
                    self.credentials.forget(secret);
                }
                Kind::MetadataUnreachable | Kind::Late => self.silent.failed(secret, Instant::now()),
                _ => {}
            }
        }
        Problem::NotDone { remedy: work::remedy(&not_done), not_done }
    }
}

/// The object that something is done to.
fn about(item: &Item) -> ObjectReference {
    let (api_version, kind, namespace, name, uid) = match item {
        Item::Provision(claim) | Item::Expand(claim) => {
            let namespace = Some(claim.namespace.to_string());
            ("v1", "PersistentVolumeClaim", namespace, claim.name.to_string(), Some(claim.uid.to_string()))
        }
        Item::Delete(name) => ("v1", "PersistentVolume", None, name.to_string(), None),
        Item::Snapshot(name) | Item::RemoveSnapshot(name) => {
            (snapshots::API_VERSION, "VolumeSnapshotContent", None, name.to_string(), None)
        }
        Item::Hold(namespace, name) => ("v1", "Secret", Some(namespace.to_string()), name.to_string(), None),
    };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace,
        name: Some(name),
        uid,
        ..ObjectReference::default()
    }
}

/// What there is room for.
fn has_room(schedule: &Schedule, running: &Running, most: usize) -> impl Fn(&Item) -> bool + use<> {
    let (any, removals) = (running.len() < most, schedule.running(is_removal) < MOST_REMOVALS);
    move |item| any && (removals || !is_removal(item))
}

fn is_removal(item: &Item) -> bool {
    matches!(item, Item::Delete(_) | Item::RemoveSnapshot(_))
}
