//! Calls to the API server, counted.

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiCall {
    verb: &'static str,
    outcome: &'static str,
}

/// Calls to the API server by verb and outcome; clones count into the same series.
#[derive(Clone, Debug, Default)]
pub struct ApiCalls(Family<ApiCall, Counter>);

impl ApiCalls {
    /// Makes the series part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("api_calls", "Calls to the API server, by verb and outcome", self.0.clone());
    }

    /// Counts a call; no status means that there was no answer.
    pub fn count(&self, verb: &'static str, status: Option<StatusCode>) {
        self.0.get_or_create(&ApiCall { verb, outcome: outcome(status) }).inc();
    }
}

/// Few and fixed, so that the number of series is.
fn outcome(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16()) {
        None => "unreachable",
        Some(..400) => "ok",
        Some(401 | 403) => "forbidden",
        Some(404) => "not-found",
        Some(409) => "conflict",
        Some(410) => "gone",
        Some(429) => "throttled",
        Some(400..500) => "refused",
        Some(500..) => "failed",
    }
}
