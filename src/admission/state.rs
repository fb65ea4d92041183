//! What the server knows: the engine's inputs, swapped as a whole when their files change, and its own condition.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::{Answer, Endpoint, answer, connections::Connections, limits::Limits, shares::Shares};
use crate::{
    config::{Config, Process},
    inject::Engine,
    notation::Version,
    outcome::Miss,
    telemetry::Metrics,
    volume::Catalog,
};

/// Everything a decision depends on beside the request; never changed, only replaced. Copies cost nothing.
#[derive(Clone)]
pub struct State {
    /// Storage objects.
    pub catalog: Catalog,
    /// The ConfigMap.
    pub config: Arc<Config>,
    /// Flags and environment.
    pub process: Arc<Process>,
}

/// Whoever can look for what a catalogue lacks.
pub trait Completion: Send + Sync {
    /// The catalogue with what was found of the missing; `None` if nothing was.
    fn complete<'a>(&'a self, catalog: &'a Catalog, misses: &'a [Miss]) -> Completing<'a>;
}

/// What [`Completion::complete`] promises.
pub type Completing<'a> = Pin<Box<dyn Future<Output = Option<Catalog>> + Send + 'a>>;

impl State {
    /// The engine over this state.
    pub fn engine(&self) -> Engine<'_> {
        Engine { catalog: &self.catalog, config: &self.config, process: &self.process, explain: false }
    }
}

/// What gives the answers: [`answer`].
pub type Answering = fn(&[u8], Endpoint, &Engine<'_>) -> Answer;

/// The server's shared condition.
pub struct App {
    state: ArcSwap<State>,
    answer: Answering,
    completion: OnceLock<Arc<dyn Completion>>,
    /// What is not there yet, without which nobody should be sent here.
    awaited: Mutex<BTreeSet<&'static str>>,
    draining: AtomicBool,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bounds on what peers may take.
    pub limits: Limits,
    /// Who is connected to the port for reviews.
    pub connections: Arc<Connections>,
    /// Bytes for bodies that are more than their connection's own.
    pub(super) memory: Arc<Shares>,
    /// The right to go on beyond these, which one body has at a time.
    pub(super) last: Arc<Shares>,
    /// Bytes of bodies that may be parsed at once: as many as the largest one has.
    pub(super) parsing: Arc<Shares>,
    /// Bytes of answers on their way.
    pub(super) answers: Arc<Shares>,
}

impl App {
    /// An app that is ready to serve.
    pub fn new(state: State, metrics: Metrics, limits: Limits) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            answer,
            completion: OnceLock::new(),
            awaited: Mutex::default(),
            draining: AtomicBool::new(false),
            metrics: Arc::new(metrics),
            connections: Connections::new(limits.connections, limits.patience),
            memory: Shares::new(limits.bodies),
            last: Shares::new(1),
            parsing: Shares::new(limits.body),
            answers: Shares::new(limits.answers),
            limits,
        }
    }

    /// The state of this moment: loaded once per request, so that a reload never splits one.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The app with something else to give the answers, for tests of what is around them.
    #[must_use]
    pub fn answering(self, answer: Answering) -> Self {
        Self { answer, ..self }
    }

    /// The answer to a body, given this state.
    pub(super) fn answer(&self, state: &State, endpoint: Endpoint, body: &[u8]) -> Answer {
        (self.answer)(body, endpoint, &state.engine())
    }

    /// Who is asked for what the catalogue lacks, from now on.
    pub fn complete_with(&self, completion: Arc<dyn Completion>) {
        // Asked for once, when the program starts.
        let _ = self.completion.set(completion);
    }

    pub(super) fn completion(&self) -> Option<&Arc<dyn Completion>> {
        self.completion.get()
    }

    /// Not ready until [`Self::has`] is called with the same word.
    pub fn awaits(&self, what: &'static str) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }

    /// Something that was awaited is there.
    pub fn has(&self, what: &'static str) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// Why nobody should be sent here now; empty when ready.
    pub fn unready(&self) -> String {
        if self.is_draining() {
            return "draining: the server is about to stop".to_owned();
        }
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited: Vec<_> = awaited.iter().copied().collect();
        if awaited.is_empty() { String::new() } else { format!("waiting for {}", awaited.join(" and ")) }
    }

    /// Replaces the catalogue for the requests to come.
    pub fn replace_catalog(&self, catalog: &Catalog) {
        self.state.rcu(|state| State { catalog: catalog.clone(), ..State::clone(state) });
    }

    /// Replaces the configuration for the requests to come.
    pub fn replace_config(&self, config: &Arc<Config>) {
        self.state.rcu(|state| State { config: Arc::clone(config), ..State::clone(state) });
    }

    /// Takes note of the cluster's version, unless a flag has said one.
    pub fn runs_on(&self, kubernetes: Version) {
        self.state.rcu(|state| {
            let mut process = Process::clone(&state.process);
            process.kubernetes = process.kubernetes.or(Some(kubernetes));
            State { process: Arc::new(process), ..State::clone(state) }
        });
    }

    /// Replaces the state for the requests to come.
    pub fn replace(&self, state: State) {
        self.state.store(Arc::new(state));
    }

    /// Stops being ready, for good; requests are still answered.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
