//! Keeps the secret that the clients of a claim read, `<claim>-jfs-secret`, for every JuiceFS claim of the namespaces
//! with injection: there before any pod, and as its source is within seconds.
//!
//! What is to be comes from the storage objects ([`desired`]) and from the user secrets they name ([`sources`]). The
//! claim owns its secret, so that the garbage collector removes it. Nothing is listed or watched but sources, one by
//! one: who may watch the secrets of a namespace may read them all.

pub mod desired;
pub mod queue;
pub mod sources;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Api, Client, api::PostParams, core::Selector, runtime::events::EventType};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until},
};

use self::{
    desired::{Target, Wanted, desired, is_ours, secret},
    queue::{Queue, Why},
    sources::{Sources, State, Unusable},
};
use super::{
    MANAGER, Task,
    events::{Events, Reason},
    problem::Problem,
};
use crate::{
    cluster::follow_storage,
    telemetry::ControllerMetrics,
    volume::{Catalog, objects::SecretReference, secret::injected_secret_name},
};

/// Changes of claims and volumes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(200);
/// When what did not succeed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// When every secret is looked at again, whoever changed or deleted it.
const LOOK_AGAIN: Duration = Duration::from_mins(30);
/// Sources whose news wait to be taken.
const WAITING: usize = 64;

/// What keeps the secrets of claims.
pub struct ClaimSecrets {
    client: Client,
    driver: String,
    selectors: Vec<Selector>,
    excluded: Vec<String>,
    events: Events,
    metrics: ControllerMetrics,
    wanted: BTreeMap<Target, Wanted>,
    queue: Queue<Target>,
    /// Claims whose secret is not as it has to be, and why.
    problems: BTreeMap<Target, String>,
}

impl ClaimSecrets {
    /// For the namespaces that one of the selectors selects, but for the excluded ones.
    pub fn new(
        client: Client,
        driver: String,
        selectors: Vec<Selector>,
        excluded: Vec<String>,
        events: Events,
        metrics: ControllerMetrics,
    ) -> Self {
        Self {
            client,
            driver,
            selectors,
            excluded,
            events,
            metrics,
            wanted: BTreeMap::new(),
            queue: Queue::default(),
            problems: BTreeMap::new(),
        }
    }

    /// Goes on for ever.
    pub async fn run(mut self) {
        let (told, mut storage) = watch::channel(Catalog::default());
        let (news, mut arriving) = mpsc::channel(WAITING);
        let mut sources = Sources::new(self.client.clone(), news);
        let objects = follow_storage(self.client.clone(), told);
        let work = async {
            let (mut retry, mut again) = (interval(RETRY), interval(LOOK_AGAIN));
            let mut look_at: Option<Instant> = None;
            loop {
                tokio::select! {
                    biased;
                    Ok(()) = storage.changed(), if look_at.is_none() => look_at = Some(Instant::now() + SETTLE),
                    () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                        look_at = None;
                        let catalog = storage.borrow_and_update().clone();
                        self.look(&catalog, &mut sources);
                    }
                    Some((name, state)) = arriving.recv() => {
                        if sources.take(&name, state) {
                            self.source_changed(&name);
                        }
                    }
                    _ = again.tick() => {
                        // Events are kept for an hour: what is still wrong is told again.
                        self.problems.values_mut().for_each(String::clear);
                        self.wanted.keys().for_each(|target| self.queue.push(target.clone(), Why::Again));
                    }
                    _ = retry.tick() => {
                        self.problems.keys().for_each(|target| self.queue.push(target.clone(), Why::Again));
                    }
                    () = std::future::ready(()), if !self.queue.is_empty() => self.next(&sources).await,
                }
            }
        };
        tokio::join!(objects, work);
    }

    /// Looks at the storage objects again: which claims are new, changed or gone.
    fn look(&mut self, catalog: &Catalog, sources: &mut Sources) {
        let wanted = desired(catalog, &self.selectors, &self.excluded, &self.driver);
        sources.follow(wanted.values().map(|wanted| &wanted.source));
        for (target, wanted) in &wanted {
            if self.wanted.get(target) != Some(wanted) {
                self.queue.push(target.clone(), Why::Changed);
            }
        }
        self.problems.retain(|target, _| wanted.contains_key(target));
        self.wanted = wanted;
        self.count();
    }

    fn source_changed(&mut self, source: &SecretReference) {
        let of_source = self.wanted.iter().filter(|(_, wanted)| wanted.source == *source);
        of_source.for_each(|(target, _)| self.queue.push(target.clone(), Why::Changed));
    }

    /// Looks at the secret of one claim.
    async fn next(&mut self, sources: &Sources) {
        let Some(target) = self.queue.pop() else { return };
        let Some(wanted) = self.wanted.get(&target) else { return };
        // One that is not known yet is told soon, and asks again.
        let Some(state) = sources.state(&wanted.source) else { return };
        let started = Instant::now();
        let done = self.put(&target, wanted, state).await;
        let outcome = done.as_ref().map_or_else(Problem::outcome, |()| "ok");
        self.metrics.reconciled(Task::Secrets, outcome, started.elapsed());
        match done {
            Ok(()) => drop(self.problems.remove(&target)),
            Err(problem) => {
                let text = problem.to_string();
                if self.problems.get(&target) != Some(&text) {
                    tracing::warn!(outcome, "secrets: {text}");
                    if matches!(problem, Problem::ForeignCredentials { .. }) {
                        let about = reference(&target, wanted);
                        self.events.send(EventType::Warning, Reason::CredentialsNotOurs, &text, &about).await;
                    }
                    self.problems.insert(target, text);
                }
            }
        }
        self.count();
    }

    /// Makes the secret of a claim as it has to be.
    async fn put(&self, target: &Target, wanted: &Wanted, state: &State) -> Result<(), Problem> {
        let (namespace, name) = (&*target.namespace, injected_secret_name(&target.claim));
        let user_secret = format!("secret \"{}/{}\"", wanted.source.namespace, wanted.source.name);
        let data = match &**state {
            Ok(data) => data,
            Err(Unusable::Missing) => {
                return Err(Problem::NoSource { user_secret, claim: target.to_string() });
            }
            Err(Unusable::Invalid(error)) => {
                return Err(Problem::SourceInvalid { user_secret, error: error.clone() });
            }
        };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let what = format!("secret \"{namespace}/{name}\"");
        let before = secrets.get_opt(&name).await.map_err(Problem::api(&what))?;
        if before.as_ref().is_some_and(|before| !is_ours(before)) {
            return Err(Problem::ForeignCredentials { namespace: namespace.to_owned(), name });
        }
        let Some(secret) = secret(target, wanted, data, before.as_ref()) else { return Ok(()) };
        // Never over what somebody else has made or changed since: then it is a conflict, and looked at again.
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let created = before.is_none();
        let written = match before {
            Some(_) => secrets.replace(&name, &parameters, &secret).await,
            None => secrets.create(&parameters, &secret).await,
        };
        written.map_err(Problem::api(&what))?;
        tracing::info!(namespace, secret = name, created, "the credentials of a claim were written");
        Ok(())
    }

    fn count(&self) {
        self.metrics.claims_without_credentials(self.problems.len());
    }
}

fn reference(target: &Target, wanted: &Wanted) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: Some(target.namespace.to_string()),
        name: Some(target.claim.to_string()),
        uid: Some(wanted.uid.to_string()),
        ..ObjectReference::default()
    }
}
