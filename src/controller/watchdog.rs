//! Finds pods of labelled namespaces that have a JuiceFS claim and no client, and says so: they were made while the
//! webhook was away, or before the label.

pub mod claims;
pub mod judge;
pub mod pod;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStream, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Pod};
use kube::{
    Api, Client, Resource,
    core::{ApiResource, PartialObjectMeta, Selector},
    runtime::{
        WatchStreamExt as _,
        events::EventType,
        watcher::{self, Event, watcher},
    },
};
use tokio::task::{AbortHandle, JoinSet};

use self::{
    claims::Claims,
    judge::{Finding, judge},
    pod::SlimPod,
};
use super::{
    events::{Events, Reason},
    janitor::Janitor,
    jobs::Jobs,
};
use crate::telemetry::ControllerMetrics;

/// Namespaces that are watched, each at the cost of a connection's stream.
const NAMESPACES: usize = 1_000;
/// Pods without a client that are remembered; one event each is enough for so many.
const PODS: usize = 10_000;
/// Events are kept for an hour; a pod that still has no client is told of again.
const REMIND: Duration = Duration::from_mins(30);

/// What finds pods without a client.
pub struct Watchdog {
    client: Client,
    claims: Claims,
    jobs: Jobs,
    janitor: Arc<Janitor>,
    events: Events,
    metrics: ControllerMetrics,
    /// By UID.
    found: Mutex<HashMap<String, Found>>,
}

struct Found {
    about: ObjectReference,
    finding: Finding,
}

impl Watchdog {
    /// Nothing is watched yet.
    pub fn new(
        client: Client,
        driver: String,
        janitor: Arc<Janitor>,
        events: Events,
        metrics: ControllerMetrics,
    ) -> Self {
        let claims = Claims::new(client.clone(), driver);
        let jobs = Jobs::new(client.clone(), events.clone(), metrics.clone());
        Self { client, claims, jobs, janitor, events, metrics, found: Mutex::default() }
    }

    /// Watches the pods of all namespaces that one of the selectors selects, but for the excluded ones, for ever.
    pub async fn run(self: Arc<Self>, selectors: Vec<Selector>, excluded: Vec<String>) {
        let mut pods = JoinSet::new();
        let mut watched = BTreeMap::<String, AbortHandle>::new();
        let mut selected = vec![BTreeSet::new(); selectors.len()];
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let streams = selectors.iter().enumerate().map(|(index, selector)| {
            let config = watcher::Config::default().labels_from(selector);
            lasting(watcher(namespaces.clone(), config)).map(move |event| (index, event)).boxed()
        });
        let mut changes = stream::select_all(streams);
        let mut reminder = tokio::time::interval(REMIND);
        loop {
            let (index, event) = tokio::select! {
                Some(change) = changes.next() => change,
                _ = reminder.tick() => {
                    self.remind().await;
                    continue;
                }
            };
            let name = |namespace: &PartialObjectMeta<Namespace>| namespace.metadata.name.clone();
            let arriving = matches!(event, Event::Init | Event::InitApply(_));
            match event {
                Event::Init => selected[index].clear(),
                Event::InitApply(namespace) | Event::Apply(namespace) => {
                    selected[index].extend(name(&namespace));
                }
                Event::Delete(namespace) => {
                    selected[index].retain(|one| Some(one) != name(&namespace).as_ref());
                }
                Event::InitDone => {}
            }
            // While a list arrives, what is not there yet is not gone.
            if arriving {
                continue;
            }
            let wanted: BTreeSet<_> =
                selected.iter().flatten().filter(|name| !excluded.contains(name)).take(NAMESPACES).collect();
            watched.retain(|name, task| {
                let keep = wanted.contains(name);
                if !keep {
                    task.abort();
                    self.retain(|found| found.about.namespace.as_deref() != Some(name.as_str()));
                }
                keep
            });
            for name in wanted {
                if !watched.contains_key(name) {
                    let task = pods.spawn(Arc::clone(&self).namespace(name.clone()));
                    watched.insert(name.clone(), task);
                }
            }
            while pods.try_join_next().is_some() {}
            self.metrics.watched_namespaces(watched.len());
        }
    }

    /// Watches the pods of a namespace, for ever.
    async fn namespace(self: Arc<Self>, namespace: String) {
        let kind = ApiResource::erase::<Pod>(&());
        let pods = Api::<SlimPod>::namespaced_with(self.client.clone(), &namespace, &kind);
        let mut changes = std::pin::pin!(lasting(watcher(pods, watcher::Config::default())));
        let mut listed = BTreeSet::new();
        while let Some(event) = changes.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(pod) => {
                    listed.extend(pod.metadata.uid.clone());
                    self.look(&pod).await;
                }
                Event::InitDone => {
                    let elsewhere = |found: &Found| found.about.namespace.as_ref() != Some(&namespace);
                    let there =
                        |found: &Found| found.about.uid.as_ref().is_some_and(|uid| listed.contains(uid));
                    self.retain(|found| elsewhere(found) || there(found));
                    self.janitor.only(&namespace, &listed);
                    listed.clear();
                }
                Event::Apply(pod) => self.look(&pod).await,
                Event::Delete(pod) => {
                    self.janitor.has_gone(&pod);
                    self.retain(|found| found.about.uid != pod.metadata.uid);
                }
            }
        }
    }

    async fn look(&self, pod: &SlimPod) {
        self.janitor.look(pod);
        self.jobs.look(pod).await;
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let finding = self.find(pod).await;
        let Some(finding) = finding else {
            if self.lock().remove(&uid).is_some() {
                self.count();
            }
            return;
        };
        let about = reference(pod);
        let is_new = {
            let mut found = self.lock();
            if found.contains_key(&uid) || found.len() >= PODS {
                false
            } else {
                found.insert(uid, Found { about: about.clone(), finding: finding.clone() });
                true
            }
        };
        if is_new {
            self.count();
            self.metrics.uninjected_seen();
            tracing::warn!(
                namespace = about.namespace.as_deref(),
                pod = about.name.as_deref(),
                claim = finding.claim,
                "a pod has a JuiceFS claim and no client"
            );
            self.tell(&about, &finding).await;
        }
    }

    /// What is to be said about a pod, if anything.
    async fn find(&self, pod: &SlimPod) -> Option<Finding> {
        let namespace = pod.metadata.namespace.as_deref()?;
        for finding in judge(&pod.metadata, &pod.spec, pod.status.as_ref()) {
            if self.claims.is_ours(namespace, &finding.claim).await {
                return Some(finding);
            }
        }
        None
    }

    async fn tell(&self, about: &ObjectReference, finding: &Finding) {
        let kind = if finding.running { EventType::Normal } else { EventType::Warning };
        self.events.send(kind, Reason::ClientMissing, &finding.sentence(), about).await;
    }

    async fn remind(&self) {
        let found: Vec<_> =
            self.lock().values().map(|found| (found.about.clone(), found.finding.clone())).collect();
        for (about, finding) in found {
            self.tell(&about, &finding).await;
        }
    }

    fn retain(&self, mut keep: impl FnMut(&Found) -> bool) {
        self.lock().retain(|_, found| keep(found));
        self.count();
    }

    fn count(&self) {
        let count = self.lock().len();
        self.metrics.uninjected(count);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reference(pod: &SlimPod) -> ObjectReference {
    let kind = ApiResource::erase::<Pod>(&());
    pod.object_ref(&kind)
}

/// A watch that goes on after failures, with pauses that grow.
fn lasting<K, S>(changes: S) -> impl futures_util::Stream<Item = Event<K>> + Send
where
    S: TryStream<Ok = Event<K>, Error = watcher::Error> + Send,
    K: Send,
{
    changes
        .into_stream()
        .default_backoff()
        .inspect_err(|error| tracing::debug!("watchdog: watch: {error}"))
        .filter_map(async |event| event.ok())
}
