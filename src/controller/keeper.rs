//! Keeps certificates and registration as they are to be: in rounds, whenever something changed or is due.

use std::{
    mem::discriminant,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    },
    core::v1::{Namespace, ObjectReference, Secret},
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, events::EventType, watcher::watch_object},
};
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::{
    Task,
    certificates::{AUTHORITY, SERVING, Secrets, Stored},
    events::{Events, Reason},
    problem::Problem,
    publish::{Applied, Publisher, Waits},
    registration::NAME,
};
use crate::{
    telemetry::ControllerMetrics,
    tls::{
        authority::Authority,
        inspect::{seconds, validity},
        leaf,
        pem::Bundle,
        rotation::{Policy, Seen, Step, next, to_trust},
    },
};

/// The longest time without a look, also where nothing is due: what is watched is not everything.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// How often a file with an authority is read.
const POLL: Duration = Duration::from_secs(10);
/// Changes that come together are answered together, and a fight with another controller has a rate.
const SETTLE: Duration = Duration::from_millis(200);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Steps of one round; three lead from nothing to everything.
const STEPS: usize = 8;

/// Where the authority that API servers are to trust comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// It is ours, and so is the serving certificate.
    Managed(Policy),
    /// Somebody else's, in a file.
    File(PathBuf),
    /// cert-manager writes it into the registrations itself.
    Injected,
}

/// What keeps certificates and registration.
pub struct Keeper {
    secrets: Secrets,
    publisher: Publisher,
    source: Source,
    events: Events,
    metrics: ControllerMetrics,
    /// What this process made API servers trust, should both secrets be lost at once.
    remembered: Bundle,
    /// Since when the newest authority has been seen to be trusted.
    noticed: Option<(CertificateDer<'static>, Instant)>,
    /// What the first registration of injection waits for.
    waits: Option<Waits>,
    /// Registrations of others for the same pods.
    rivals: Vec<&'static str>,
}

impl Keeper {
    /// Nothing is read or written yet.
    pub fn new(
        secrets: Secrets,
        publisher: Publisher,
        source: Source,
        events: Events,
        metrics: ControllerMetrics,
    ) -> Self {
        let remembered = Bundle::default();
        let (noticed, waits, rivals) = (None, None, Vec::new());
        Self { secrets, publisher, source, events, metrics, remembered, noticed, waits, rivals }
    }

    /// Goes on for ever.
    pub async fn run(mut self, client: Client, namespace: &str) {
        let endpoints = self.publisher.endpoint_changes().boxed();
        let mut changes = std::pin::pin!(stream::select(self.changes(&client, namespace), endpoints));
        let mut namespaces = watched(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), namespace);
        let mut failures = 0;
        let mut told = String::new();
        loop {
            let started = Instant::now();
            let round = self.round().await;
            let outcome = match &round {
                Ok((outcome, _)) => outcome,
                Err(problem) => problem.outcome(),
            };
            self.metrics.reconciled(Task::Registration, outcome, started.elapsed());
            let pause = match round {
                Ok((_, pause)) => {
                    failures = 0;
                    told.clear();
                    pause
                }
                Err(problem) => {
                    failures += 1;
                    let text = problem.to_string();
                    if text != told {
                        tracing::error!(outcome = problem.outcome(), "registration: {text}");
                        told = text;
                    }
                    self.tell(&problem).await;
                    (SETTLE * 2_u32.saturating_pow(failures)).min(LONGEST_PAUSE)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                // At once: if it is being deleted, this process has rights for a moment only.
                Some(()) = namespaces.next() => {}
                Some(()) = changes.next() => {
                    sleep(SETTLE).await;
                    while let Some(Some(())) = changes.next().now_or_never() {}
                }
            }
        }
    }

    /// Looks at everything and does what is to be done; how it went, and when to look again.
    async fn round(&mut self) -> Result<(&'static str, Duration), Problem> {
        if self.publisher.is_going().await? {
            if self.publisher.withdraw().await? {
                tracing::warn!("our namespace is being deleted, so nothing is registered any more");
            }
            return Ok(("owner-gone", LOOK_AGAIN));
        }
        let held_back = self.publisher.held_back().await?;
        self.metrics.held_back(held_back.is_some());
        if let Some(since) = held_back {
            tracing::warn!(
                since,
                "nothing is registered: `controller --unregister` was run; --register ends that"
            );
            self.publisher.begin_anew();
            return Ok(("unregistered", LOOK_AGAIN));
        }
        let pause = match self.source.clone() {
            Source::Managed(policy) => self.rotate(&policy).await?,
            Source::File(path) => {
                let wrong =
                    |error: &dyn std::fmt::Display| Problem::File(format!("{}: {error}", path.display()));
                // Some KiB of a mounted volume: not worth a thread.
                let text = std::fs::read(&path).map_err(|error| wrong(&error))?;
                let bundle = Bundle::parse(&text).map_err(|error| wrong(&error))?;
                if bundle.is_empty() {
                    return Err(wrong(&"is empty"));
                }
                self.register(Some(&bundle)).await?;
                POLL
            }
            Source::Injected => {
                self.register(None).await?;
                LOOK_AGAIN
            }
        };
        self.look_for_rivals().await?;
        Ok(match self.waits {
            None => ("ok", pause.min(LOOK_AGAIN)),
            Some(Waits::ForRoutes(left)) => ("waiting", left.min(pause)),
            Some(Waits::ForWebhook | Waits::ForAuthority) => ("waiting", pause),
        })
    }

    async fn rotate(&mut self, policy: &Policy) -> Result<Duration, Problem> {
        let mut registered = false;
        for _ in 0..STEPS {
            let stored = self.secrets.read().await?;
            for sentence in &stored.damage {
                tracing::warn!("{sentence}; it is made anew");
            }
            let published = self.publisher.published().await?;
            let trusted = stored.trusted.union(&self.remembered);
            let seen = Seen {
                authority: stored.authority.as_ref().map(Authority::certificate),
                trusted: &trusted,
                leaf: stored.leaf.as_ref(),
                published: &published,
                published_for: self.noticed_for(&stored, &published),
            };
            self.measure(&seen);
            let now = SystemTime::now();
            match next(policy, &seen, seconds(now)) {
                Step::MakeAuthority => {
                    let authority = Authority::make(now, policy.authority_lifetime)?;
                    let trusted = to_trust(&trusted, authority.certificate(), seconds(now));
                    self.secrets.store_authority(&stored, &authority, &trusted).await?;
                    self.metrics.issued("authority");
                    tracing::info!("a new certificate authority is made; it signs once it is published");
                }
                Step::Publish(bundle) => {
                    self.register(Some(&bundle)).await?;
                    registered = true;
                    self.remembered = bundle;
                }
                Step::Sign => {
                    let Some(authority) = &stored.authority else { continue };
                    let leaf = leaf::sign(authority, &policy.names, now, policy.leaf_lifetime)?;
                    self.secrets.store_leaf(&stored, &leaf, &published).await?;
                    self.metrics.issued("serving");
                    tracing::info!("a new serving certificate is signed");
                }
                Step::Wait(pause) => {
                    if !registered {
                        self.register(Some(&published)).await?;
                    }
                    return Ok(pause);
                }
            }
        }
        Ok(SETTLE)
    }

    /// For how long the newest authority has been seen to be trusted.
    fn noticed_for(&mut self, stored: &Stored, published: &Bundle) -> Duration {
        let newest = stored.authority.as_ref().map(Authority::certificate);
        let Some(newest) = newest.filter(|newest| published.contains(newest)) else {
            self.noticed = None;
            return Duration::ZERO;
        };
        match &self.noticed {
            Some((noticed, since)) if noticed == newest => since.elapsed(),
            _ => {
                self.noticed = Some((newest.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn measure(&self, seen: &Seen<'_>) {
        for (name, certificate) in [("authority", seen.authority), ("serving", seen.leaf)] {
            let end = certificate.and_then(|certificate| validity(certificate).ok());
            self.metrics.expires(name, end.map_or(0, |dates| dates.not_after));
        }
    }

    async fn register(&mut self, bundle: Option<&Bundle>) -> Result<(), Problem> {
        let Applied { changed, waits } = self.publisher.apply(bundle).await?;
        if changed {
            self.metrics.registration_changed();
        }
        self.metrics.registration_waits(waits.is_some());
        let is_news =
            |waits: Waits| self.waits.map(|before| discriminant(&before)) != Some(discriminant(&waits));
        match waits.filter(|waits| is_news(*waits)) {
            Some(Waits::ForWebhook) => tracing::info!(
                "no webhook is ready yet: injection is registered once one is, and pods are created without a client \
                 until then"
            ),
            Some(Waits::ForAuthority) => tracing::info!(
                "injection trusts nobody yet: pods are created without a client until cert-manager has written its \
                 authority into the registration"
            ),
            Some(Waits::ForRoutes(_)) | None => {}
        }
        self.waits = waits;
        Ok(())
    }

    /// Two webhooks for the same pods work, the second finding them injected; but somebody should have meant it.
    async fn look_for_rivals(&mut self) -> Result<(), Problem> {
        let rivals = self.publisher.rivals().await?;
        self.metrics.rivals(rivals.len());
        if rivals != self.rivals {
            for name in &rivals {
                tracing::warn!(
                    registration = name,
                    "the webhook of the JuiceFS CSI driver is asked about pods of labelled namespaces too, and the first \
                     by name injects; docs/migration.md says when to delete its registration"
                );
            }
            if rivals.is_empty() {
                tracing::info!("nobody else is asked about pods of labelled namespaces any more");
            }
            self.rivals = rivals;
        }
        Ok(())
    }

    /// Tells of every change of what the keeper keeps.
    fn changes(&self, client: &Client, namespace: &str) -> impl Stream<Item = ()> + use<> {
        let mut all = vec![
            watched(Api::<PartialObjectMeta<MutatingWebhookConfiguration>>::all(client.clone()), NAME),
            watched(Api::<PartialObjectMeta<ValidatingWebhookConfiguration>>::all(client.clone()), NAME),
            watched(Api::<PartialObjectMeta<ValidatingAdmissionPolicy>>::all(client.clone()), NAME),
            watched(Api::<PartialObjectMeta<ValidatingAdmissionPolicyBinding>>::all(client.clone()), NAME),
        ];
        // Somebody else's are nothing to us, and there is no right to see them.
        if matches!(self.source, Source::Managed(_)) {
            let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
            all.extend([AUTHORITY, SERVING].map(|name| watched(secrets.clone(), name)));
        }
        stream::select_all(all)
    }

    async fn tell(&self, problem: &Problem) {
        let Problem::Foreign { namespace, name } = problem else { return };
        let secret = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            ..ObjectReference::default()
        };
        self.events.send(EventType::Warning, Reason::SecretNotOurs, &problem.to_string(), &secret).await;
    }
}

fn watched<K>(api: Api<K>, name: &str) -> stream::BoxStream<'static, ()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let name: Arc<str> = name.into();
    watch_object(api, &name)
        .default_backoff()
        .filter_map(move |change| {
            let told = change.inspect_err(|error| tracing::debug!(name = &*name, "watch: {error}")).ok();
            async move { told.map(drop) }
        })
        .boxed()
}
