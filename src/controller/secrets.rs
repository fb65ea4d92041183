//! Keeps the secrets that clients read in the namespaces with injection: `<claim>-jfs-secret` for every JuiceFS claim,
//! there before any pod, and `<class>-jfs-class-secret` for the generic ephemeral volumes of a class, there while there
//! are any. Each is as its source is within seconds.
//!
//! What is to be comes from the storage objects ([`desired`]) and from the user secrets they name ([`sources`]). The
//! claim owns its secret, so that the garbage collector removes it. Nothing is listed or watched but sources, one by
//! one: who may watch the secrets of a namespace may read them all.

pub mod desired;
pub mod queue;
pub mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    core::Selector,
    runtime::events::EventType,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until},
};

use self::{
    desired::{Of, Target, Wanted, desired, is_ours, secret},
    queue::{Queue, Why},
    sources::{Sources, State, Unusable},
};
use super::{
    MANAGER, Task,
    events::{Events, Reason},
    problem::Problem,
};
use crate::{
    telemetry::ControllerMetrics,
    volume::{Catalog, objects::SecretReference},
};

/// Changes of claims and volumes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(200);
/// When what did not succeed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// When every secret is looked at again, whoever changed or deleted it.
const LOOK_AGAIN: Duration = Duration::from_mins(30);
/// What the log says of a secret.
const WRITTEN: &str = "credentials for clients were written";
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
    /// Whether the storage objects have been looked at: those of the first look may have had secrets for long.
    has_looked: bool,
    /// Those that came since, and whose secrets nobody has looked for: most likely there is none.
    new: BTreeSet<Target>,
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
            has_looked: false,
            new: BTreeSet::new(),
            problems: BTreeMap::new(),
        }
    }

    /// Goes on for ever, by the storage objects as they are told.
    pub async fn run(mut self, mut storage: watch::Receiver<Catalog>) {
        let (news, mut arriving) = mpsc::channel(WAITING);
        let mut sources = Sources::new(self.client.clone(), news);
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
                    let there = self.wanted.iter().filter(|(_, wanted)| **wanted != Wanted::Nothing);
                    there.for_each(|(target, _)| self.queue.push(target.clone(), Why::Again));
                }
                _ = retry.tick() => {
                    self.problems.keys().for_each(|target| self.queue.push(target.clone(), Why::Again));
                }
                () = std::future::ready(()), if !self.queue.is_empty() => self.next(&sources).await,
            }
        }
    }

    /// Looks at the storage objects again: which claims are new, changed or gone.
    fn look(&mut self, catalog: &Catalog, sources: &mut Sources) {
        let wanted = desired(catalog, &self.selectors, &self.excluded, &self.driver, &self.wanted);
        sources.follow(wanted.values().filter_map(Wanted::source));
        for (target, wanted) in &wanted {
            match self.wanted.get(target) {
                Some(before) if before == wanted => {}
                // One that an earlier leader may have left behind: nobody waits for its removal.
                None if *wanted == Wanted::Nothing => self.queue.push(target.clone(), Why::Again),
                before => {
                    if before.is_none() && self.has_looked {
                        self.new.insert(target.clone());
                    }
                    self.queue.push(target.clone(), Why::Changed);
                }
            }
        }
        self.has_looked = true;
        self.new.retain(|target| wanted.contains_key(target));
        self.problems.retain(|target, _| wanted.contains_key(target));
        self.wanted = wanted;
        self.count();
    }

    fn source_changed(&mut self, source: &SecretReference) {
        let of_source = self.wanted.iter().filter(|(_, wanted)| wanted.source() == Some(source));
        of_source.for_each(|(target, _)| self.queue.push(target.clone(), Why::Changed));
    }

    /// Looks at one secret.
    async fn next(&mut self, sources: &Sources) {
        let Some(target) = self.queue.pop() else { return };
        let Some(wanted) = self.wanted.get(&target) else { return };
        let started = Instant::now();
        let done = match wanted {
            Wanted::Nothing => self.remove(&target).await,
            Wanted::Secret { owner, source } => match sources.state(source) {
                Some(state) => {
                    let is_new = self.new.remove(&target);
                    self.put(&target, owner.as_ref(), source, state, is_new).await
                }
                // One that is not known yet is told soon, and asks again.
                None => return,
            },
        };
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

    /// Makes a secret as it has to be; a new one without a look at what is there, if nothing is.
    async fn put(
        &self,
        target: &Target,
        owner: Option<&Arc<str>>,
        source: &SecretReference,
        state: &State,
        is_new: bool,
    ) -> Result<(), Problem> {
        let (namespace, name) = (&*target.namespace, target.secret_name());
        let user_secret = format!("secret \"{}/{}\"", source.namespace, source.name);
        let data = match &**state {
            Ok(data) => data,
            Err(Unusable::Missing) => {
                return Err(Problem::NoSource { user_secret, whom: format!("a client of {target}") });
            }
            Err(Unusable::Invalid(error)) => {
                return Err(Problem::SourceInvalid { user_secret, error: error.clone() });
            }
        };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let what = format!("secret \"{namespace}/{name}\"");
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        if is_new && let Some(secret) = secret(target, owner, data, None) {
            match secrets.create(&parameters, &secret).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => return Err(Problem::api(&what)(error)),
                Ok(_) => {
                    tracing::info!(namespace, secret = name, created = true, "{WRITTEN}");
                    return Ok(());
                }
            }
        }
        let before = secrets.get_opt(&name).await.map_err(Problem::api(&what))?;
        if before.as_ref().is_some_and(|before| !is_ours(before)) {
            return Err(Problem::ForeignCredentials { namespace: namespace.to_owned(), name });
        }
        let Some(secret) = secret(target, owner, data, before.as_ref()) else { return Ok(()) };
        // Never over what somebody else has made or changed since: then it is a conflict, and looked at again.
        let created = before.is_none();
        let written = match before {
            Some(_) => secrets.replace(&name, &parameters, &secret).await,
            None => secrets.create(&parameters, &secret).await,
        };
        written.map_err(Problem::api(&what))?;
        tracing::info!(namespace, secret = name, created, "{WRITTEN}");
        Ok(())
    }

    /// Removes a secret that nobody reads, if it is ours; just the one that was looked at.
    async fn remove(&self, target: &Target) -> Result<(), Problem> {
        let (namespace, name) = (&*target.namespace, target.secret_name());
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let what = format!("secret \"{namespace}/{name}\"");
        let Some(found) = secrets.get_opt(&name).await.map_err(Problem::api(&what))?.filter(is_ours) else {
            return Ok(());
        };
        let preconditions =
            Preconditions { uid: found.metadata.uid, resource_version: found.metadata.resource_version };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match secrets.delete(&name, &parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Problem::api(&what)(error)),
            Ok(_) => {
                tracing::info!(
                    namespace,
                    secret = name,
                    "credentials that nobody reads any more were removed"
                );
                Ok(())
            }
        }
    }

    fn count(&self) {
        self.metrics.claims_without_credentials(self.problems.len());
    }
}

/// What people look at: the claim, or the secret where there is no one claim.
fn reference(target: &Target, wanted: &Wanted) -> ObjectReference {
    let (kind, name, uid) = match (&target.of, wanted) {
        (Of::Claim(name), Wanted::Secret { owner, .. }) => {
            ("PersistentVolumeClaim", name.to_string(), owner.as_ref().map(ToString::to_string))
        }
        _ => ("Secret", target.secret_name(), None),
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(target.namespace.to_string()),
        name: Some(name),
        uid,
        ..ObjectReference::default()
    }
}
