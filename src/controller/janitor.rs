//! Sets pods free that a mount which nobody serves any more keeps: from going, when it is in one of their volumes, or from
//! having a container started again, when the kubelet has it under a `subPath`. And removes the directories that pods
//! leave on a node.
//!
//! What detaches the mount is a short-lived pod on the same node (`jfs-agent release`). It has no privilege: it removes
//! the directory that carries the mount, in a namespace that does not see it, and the kernel does the rest. It runs in a
//! namespace of its own, whose admission policy fixes its shape.

mod errand;
mod release;
pub mod stuck;
pub mod tidy;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{Client, Resource as _, core::ApiResource, runtime::events::EventType};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{errand::Errands, release::Work, stuck::Stuck, tidy::Leftovers};
use super::{
    Task,
    events::{Events, Reason},
    problem::Problem,
    watchdog::pod::SlimPod,
};
use crate::{config::Config, telemetry::ControllerMetrics};

/// How long a pod may be over before it counts as stuck; most go within one second.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a container that cannot be started. It waits, and its state may soon say something else.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether one is due.
const ROUND: Duration = Duration::from_secs(1);
/// After a release the kubelet tries again by itself, but with pauses of up to two minutes; after a failure this is how
/// long the next try waits, and the last for all that follow.
const PAUSES: [Duration; 3] = [Duration::from_mins(3), Duration::from_mins(10), Duration::from_hours(1)];
/// Releases at the same time.
const MOST: usize = 8;
/// Pods that are remembered.
const LENGTH: usize = 1_000;

/// Where and how pods are set free.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the pods that do it; without one, an event says what to do by hand.
    pub namespace: Option<String>,
    /// The kubelet's directory on the nodes.
    pub kubelet_directory: String,
    /// Where pods on ordinary nodes mount.
    pub mount_directory: String,
    /// How long what they leave there is collected before it is removed.
    pub tidy_after: Duration,
    /// The image of `jfs-agent`, where the `ConfigMap` names none.
    pub image: String,
}

/// What sets them free.
pub struct Janitor {
    errands: Errands,
    settings: Settings,
    events: Events,
    metrics: ControllerMetrics,
    /// By UID.
    waiting: Mutex<HashMap<String, Waiting>>,
    leftovers: Mutex<Leftovers>,
}

/// A pod that may be stuck.
struct Waiting {
    stuck: Stuck,
    about: ObjectReference,
    /// When it is time for the next try; `None` while one is under way.
    due: Option<Instant>,
    tries: usize,
}

impl Janitor {
    /// Nothing is stuck yet.
    pub fn new(
        client: Client,
        settings: Settings,
        configuration: watch::Receiver<Option<Arc<Config>>>,
        events: Events,
        metrics: ControllerMetrics,
    ) -> Self {
        Self {
            errands: Errands::new(client, &settings, configuration),
            settings,
            events,
            metrics,
            waiting: Mutex::default(),
            leftovers: Mutex::default(),
        }
    }

    /// Takes note of a pod as it is now.
    pub fn look(&self, pod: &SlimPod) {
        let Some(uid) = pod.metadata.uid.as_deref() else { return };
        let Some(stuck) = stuck::judge(&pod.metadata, &pod.spec, pod.status.as_ref()) else {
            return self.gone(uid);
        };
        let mut waiting = self.lock();
        // One with a container that could not be started may be over since, which takes something else.
        let is_known = waiting.get(uid).is_some_and(|known| known.stuck.is_over == stuck.is_over);
        if is_known || waiting.len() >= LENGTH {
            return;
        }
        let about = pod.object_ref(&ApiResource::erase::<Pod>(&()));
        let due = Some(Instant::now() + if stuck.is_over { PATIENCE } else { SHORT_PATIENCE });
        waiting.insert(uid.to_owned(), Waiting { stuck, about, due, tries: 0 });
    }

    /// A pod has gone.
    pub fn has_gone(&self, pod: &SlimPod) {
        self.gone(pod.metadata.uid.as_deref().unwrap_or_default());
        if self.settings.namespace.is_none() {
            return;
        }
        if let Some((node, names)) = tidy::left(&pod.metadata, &pod.spec, &self.settings.mount_directory) {
            self.leftovers().add(node, names, Instant::now());
        }
    }

    /// A pod is not over after all, or has gone.
    fn gone(&self, uid: &str) {
        let known = self.lock().remove(uid).is_some();
        if known {
            self.count();
        }
    }

    /// Of this namespace, these are all the pods there are.
    pub fn only(&self, namespace: &str, uids: &BTreeSet<String>) {
        self.lock()
            .retain(|uid, pod| pod.about.namespace.as_deref() != Some(namespace) || uids.contains(uid));
        self.count();
    }

    /// Sets free whatever is due, for ever.
    pub async fn run(self: Arc<Self>) {
        self.errands.sweep().await;
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            rounds.tick().await;
            while under_way.try_join_next().is_some() {}
            for (uid, stuck, about) in self.due(MOST.saturating_sub(under_way.len())) {
                let janitor = Arc::clone(&self);
                under_way.spawn(async move { janitor.set_free(&uid, &stuck, &about).await });
            }
            let most = MOST.saturating_sub(under_way.len());
            let left = self.leftovers().due(most, self.settings.tidy_after, Instant::now());
            for (node, names) in left {
                let janitor = Arc::clone(&self);
                under_way.spawn(async move { janitor.tidy(node, &names).await });
            }
            self.count();
        }
    }

    /// Takes those whose time has come.
    fn due(&self, most: usize) -> Vec<(String, Stuck, ObjectReference)> {
        let now = Instant::now();
        let mut waiting = self.lock();
        let due = waiting.iter_mut().filter(|(_, pod)| pod.due.is_some_and(|due| due <= now));
        due.take(most)
            .map(|(uid, pod)| {
                pod.due = None;
                (uid.clone(), pod.stuck.clone(), pod.about.clone())
            })
            .collect()
    }

    async fn set_free(&self, uid: &str, stuck: &Stuck, about: &ObjectReference) {
        let started = Instant::now();
        let done = self.release(uid, stuck).await;
        self.metrics.reconciled(
            Task::Release,
            done.as_ref().map_or_else(Problem::outcome, |()| "ok"),
            started.elapsed(),
        );
        let tries = self.tried(uid, stuck);
        let (namespace, name) = (about.namespace.as_deref(), about.name.as_deref());
        let node = stuck.node.as_str();
        match done {
            // What is told again and again is not read.
            Ok(()) if tries.is_some_and(|tries| tries > 1) => {
                tracing::warn!(
                    namespace,
                    pod = name,
                    node,
                    tries,
                    "a pod is still as it was although nothing of ours keeps it"
                );
            }
            Ok(()) => {
                tracing::info!(namespace, pod = name, node, is_over = stuck.is_over, "a pod was set free");
                let note = if stuck.is_over {
                    "the pod was over and a mount that nobody serves any more kept it; the mount was detached"
                } else {
                    "a container could not be started again because its subPath led to a mount that nobody serves any \
                     more; the mount was detached"
                };
                self.events.send(EventType::Normal, Reason::MountDetached, note, about).await;
            }
            Err(_) if tries.is_none() => {}
            Err(problem) => {
                tracing::warn!(namespace, pod = name, node, "a pod cannot be set free: {problem}");
                let what =
                    if stuck.is_over { "the pod is over" } else { "a container cannot be started again" };
                let note = format!(
                    "{what}, and a mount that nobody serves any more may be why; it could not be detached: {problem}; as \
                     root on node {node}: {}",
                    stuck.by_hand(&self.settings.kubelet_directory, uid)
                );
                self.events.send(EventType::Warning, Reason::MountNotDetached, &note, about).await;
            }
        }
    }

    async fn release(&self, uid: &str, stuck: &Stuck) -> Result<(), Problem> {
        for place in &stuck.places {
            let work = Work::release(&self.settings.kubelet_directory, uid, &stuck.node, place);
            self.errands.run(work).await?;
        }
        Ok(())
    }

    /// Counts a try, and says when the next may come; how many there were, unless the pod has gone meanwhile, or is stuck
    /// for another reason now.
    fn tried(&self, uid: &str, stuck: &Stuck) -> Option<usize> {
        let mut waiting = self.lock();
        let pod = waiting.get_mut(uid).filter(|pod| pod.stuck == *stuck)?;
        pod.due = Some(Instant::now() + PAUSES[pod.tries.min(PAUSES.len() - 1)]);
        pod.tries += 1;
        Some(pod.tries)
    }

    async fn tidy(&self, node: String, names: &[String]) {
        let started = Instant::now();
        let done = self.errands.run(Work::tidy(&self.settings.mount_directory, node.clone(), names)).await;
        let outcome = done.as_ref().map_or_else(Problem::outcome, |()| "ok");
        self.metrics.reconciled(Task::Tidy, outcome, started.elapsed());
        let directories = names.len();
        match done {
            Ok(()) => tracing::debug!(node, directories, "removed what pods had left on a node"),
            // They are empty, and cost an entry each.
            Err(problem) => {
                tracing::info!(node, directories, "pods have left directories on a node: {problem}");
            }
        }
    }

    /// How many are late.
    fn count(&self) {
        let late = self.lock().values().filter(|pod| pod.tries > 0 || pod.due.is_none()).count();
        self.metrics.stuck(late);
    }

    fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
