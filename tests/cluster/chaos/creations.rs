//! Pods that are created all the time, and what became of each.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// Between two of them.
const PERIOD: Duration = Duration::from_millis(100);
/// What an API server itself says of a moment in which it cannot take anything.
const NOT_YET: &str = "not yet ready to handle request";

/// What became of creations that began in a while.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Stored with a client.
    pub(crate) injected: usize,
    /// Stored without.
    pub(crate) plain: usize,
    /// Not taken by the API server, for reasons of its own.
    pub(crate) away: BTreeMap<String, usize>,
    /// Refused because of us, or for a reason that is not known to be the API server's own.
    pub(crate) failed: Vec<Failure>,
    longest: Duration,
}

/// A creation that failed, and when.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) text: String,
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { injected, plain, away, failed, longest } = self;
        write!(
            formatter,
            "{injected} injected, {plain} not injected, {} failed; longest {longest:?}",
            failed.len()
        )?;
        for (text, count) in away {
            write!(formatter, "\n    {count} not taken: {text}")?;
        }
        for Failure { text, .. } in failed {
            write!(formatter, "\n    failed: {text}")?;
        }
        Ok(())
    }
}

/// Creates pods until it is dropped.
pub(crate) struct Creations {
    current: Arc<Mutex<Arc<Mutex<Tally>>>>,
    ticking: JoinHandle<()>,
}

impl Creations {
    /// Begins; each pod is made by the function, from a number, and deleted again once it is stored.
    pub(crate) fn begin(client: Client, namespace: &str, pod: fn(u64) -> Pod) -> Self {
        let current: Arc<Mutex<Arc<Mutex<Tally>>>> = Arc::default();
        let pods = Api::<Pod>::namespaced(client, namespace);
        let tallies = Arc::clone(&current);
        let ticking = tokio::spawn(async move {
            let mut ticks = interval(PERIOD);
            // One that is late is left out: the rate is a rate, also on a busy machine.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            for number in 0.. {
                ticks.tick().await;
                let tally = Arc::clone(&tallies.lock().unwrap());
                // None waits for those before: an API server that hangs does not stop them.
                tokio::spawn(create(pods.clone(), pod(number), tally));
            }
        });
        Self { current, ticking }
    }

    /// How many were injected since [`Self::ended`] was asked last.
    pub(crate) fn injected(&self) -> usize {
        self.current.lock().unwrap().lock().unwrap().injected
    }

    /// What became of all that began since this was asked last, once all of it has ended.
    pub(crate) async fn ended(&self) -> Tally {
        let mut ended = std::mem::take(&mut *self.current.lock().unwrap());
        loop {
            // Each that is under way holds it.
            match Arc::try_unwrap(ended) {
                Ok(tally) => return tally.into_inner().unwrap(),
                Err(shared) => ended = shared,
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Creations {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

async fn create(pods: Api<Pod>, pod: Pod, tally: Arc<Mutex<Tally>>) {
    let began = Instant::now();
    let created = pods.create(&PostParams::default(), &pod).await;
    let ended = Instant::now();
    if let Ok(pod) = &created {
        // Best effort: what is left goes with the control plane.
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let _ = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
    }
    let mut tally = tally.lock().unwrap();
    tally.longest = tally.longest.max(ended - began);
    match created {
        Ok(pod) => {
            let labels = pod.metadata.labels.unwrap_or_default();
            let injected = labels.get("done.sidecar.juicefs.com/inject").is_some_and(|value| value == "true");
            *if injected { &mut tally.injected } else { &mut tally.plain } += 1;
        }
        Err(error) if is_the_servers_own(&error) => {
            *tally.away.entry(chain(&error)).or_default() += 1;
        }
        Err(error) => tally.failed.push(Failure { began, ended, text: chain(&error) }),
    }
}

/// Whether a creation failed because the API server was not there, or could not store: then it did not take it.
/// Whatever it says of a webhook is about us.
fn is_the_servers_own(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            !status.message.contains("webhook")
                && (status.code >= 500 || status.code == 429 || status.message.contains(NOT_YET))
        }
        // No answer at all.
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

/// The last cause says what happened; ports of the moment would make each text another.
fn chain(error: &kube::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
