//! Leader election by a Lease: of several processes one works, the others stand by.
//!
//! The rules are those of client-go: a holder is believed for as long as its lease says, counted from when *we* saw
//! the lease change, so that no clock but our own matters; every write names the version it was decided on, so that
//! of two claims the API server takes one; and who could not renew in time stops before others may begin.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout};

/// What giving the lease up may take: the process is ending, and the lease ends by itself.
const RELEASE: Duration = Duration::from_secs(2);
/// In seconds, of a lease that was given up; zero is not allowed.
const RELEASED: i32 = 1;

/// How long is believed, tried and waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others believe a holder that they do not hear of.
    pub duration: Duration,
    /// How long a holder that cannot renew goes on; shorter, so that it has stopped before others begin.
    pub deadline: Duration,
    /// Between attempts.
    pub retry: Duration,
}

impl Timing {
    /// The proportions of client-go: 15 s, 10 s and 2 s.
    pub fn of(duration: Duration) -> Self {
        Self { duration, deadline: duration * 2 / 3, retry: duration * 2 / 15 }
    }
}

/// Why a leader is none any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Somebody else holds the lease.
    #[error("{0} holds the lease now")]
    Taken(String),
    /// The API server could not be told in time.
    #[error("the lease could not be renewed for {} s", .0.as_secs())]
    Late(Duration),
}

/// A candidate for a lease, and its holder while it has it.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
}

/// A lease and when it was first seen to be like this, by our own clock.
struct Seen {
    lease: Lease,
    at: Instant,
}

/// Whose a lease is.
#[derive(Debug, PartialEq, Eq)]
enum Holder<'a> {
    Nobody,
    Us,
    Other(&'a str),
}

impl Candidate {
    /// A candidate under a name that no other process has: the pod's, and something random.
    pub fn new(client: Client, namespace: &str, name: &str, pod: &str, timing: Timing) -> Self {
        let identity = format!("{pod}_{:016x}", RandomState::new().hash_one(pod));
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity, timing, seen: None }
    }

    /// The name by which the lease knows this process.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits, for ever if need be, until the lease is ours.
    pub async fn acquire(&mut self) {
        let mut told = None;
        loop {
            let answer = timeout(self.timing.deadline, self.attempt()).await;
            let state = match answer {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {
                    let holder = self.seen.as_ref().map_or("", |seen| holder(&seen.lease));
                    format!("standing by: {holder} leads")
                }
                Ok(Err(error)) => format!("standing by: the lease cannot be had: {error}"),
                Err(_) => "standing by: the API server does not answer".to_owned(),
            };
            // Once for each state; it may last for months.
            if told.as_ref() != Some(&state) {
                tracing::info!(lease = self.name, identity = self.identity, "{state}");
                told = Some(state);
            }
            sleep(jittered(self.timing.retry)).await;
        }
    }

    /// Renews the lease until it is lost.
    pub async fn keep(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            sleep(jittered(self.timing.retry)).await;
            let started = Instant::now();
            let left = self.timing.deadline.saturating_sub(started - renewed);
            match timeout(left, self.attempt()).await {
                // Others count from when they hear of it, which is later than when it was sent.
                Ok(Ok(true)) => renewed = started,
                Ok(Ok(false)) => {
                    if let Some(Seen { lease, .. }) = &self.seen
                        && holder(lease) != self.identity
                    {
                        return Lost::Taken(holder(lease).to_owned());
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        lease = self.name,
                        "the lease could not be renewed, trying again: {error}"
                    );
                }
                Err(_) => {}
            }
            if renewed.elapsed() >= self.timing.deadline {
                return Lost::Late(self.timing.deadline);
            }
        }
    }

    /// Gives the lease up, so that another can begin at once.
    pub async fn release(&mut self) {
        let Some(Seen { lease, .. }) = self.seen.take() else { return };
        if holder(&lease) != self.identity {
            return;
        }
        let free = released(lease, Timestamp::now());
        let parameters = PostParams::default();
        let replaced = self.leases.replace(&self.name, &parameters, &free);
        match timeout(RELEASE, replaced).await {
            Ok(Ok(_)) => tracing::info!(lease = self.name, "the lease is given up"),
            Ok(Err(error)) => tracing::warn!(lease = self.name, "the lease could not be given up: {error}"),
            Err(_) => tracing::warn!(lease = self.name, "the lease could not be given up: no answer"),
        }
    }

    /// Tries to take or to renew the lease; whether it is ours then.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        // Ours as far as we know: most renewals need one call.
        if let Some(seen) = &self.seen
            && self.whose(seen, Instant::now()) == Holder::Us
            && self.replace(seen.lease.clone()).await?
        {
            return Ok(true);
        }
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            return self.create().await;
        };
        self.observe(lease);
        match &self.seen {
            Some(seen) if !matches!(self.whose(seen, Instant::now()), Holder::Other(_)) => {
                self.replace(seen.lease.clone()).await
            }
            _ => Ok(false),
        }
    }

    async fn create(&mut self) -> Result<bool, kube::Error> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let empty = Lease { metadata, spec: None };
        let claim = claimed(empty, &self.identity, self.timing, Timestamp::now());
        let created = self.leases.create(&PostParams::default(), &claim).await;
        self.written(created)
    }

    async fn replace(&mut self, lease: Lease) -> Result<bool, kube::Error> {
        let claim = claimed(lease, &self.identity, self.timing, Timestamp::now());
        let replaced = self.leases.replace(&self.name, &PostParams::default(), &claim).await;
        self.written(replaced)
    }

    /// A lease that changed or went in between is no failure: somebody was faster.
    fn written(&mut self, answer: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
        match answer {
            Ok(lease) => {
                self.observe(lease);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, lease: Lease) {
        let same = self.seen.as_ref().is_some_and(|seen| seen.lease.spec == lease.spec);
        let at = match &self.seen {
            Some(seen) if same => seen.at,
            _ => Instant::now(),
        };
        self.seen = Some(Seen { lease, at });
    }

    fn whose<'a>(&self, seen: &'a Seen, now: Instant) -> Holder<'a> {
        let name = holder(&seen.lease);
        if name == self.identity {
            return Holder::Us;
        }
        let seconds = seen.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let believed = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if name.is_empty() || now >= seen.at + believed { Holder::Nobody } else { Holder::Other(name) }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// The lease as it is to be once we hold it; what else is in it stays.
fn claimed(mut lease: Lease, identity: &str, timing: Timing, now: Timestamp) -> Lease {
    let before = lease.spec.unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(identity);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(timing.duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: before.acquire_time.clone().filter(|_| ours).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
        ..before
    });
    lease
}

fn released(mut lease: Lease, now: Timestamp) -> Lease {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(RELEASED);
        spec.renew_time = Some(MicroTime(now));
    }
    lease
}

/// One to 1.2 times as long, so that candidates that started together do not stay together.
fn jittered(duration: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(0_u8) % 200).unwrap_or(0);
    duration * (1_000 + random) / 1_000
}

#[cfg(test)]
mod tests;
