//! Metrics in the text format of Prometheus (`OpenMetrics` 1.0), prefix `juicefs_sidecar_`.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::ApiCalls;
use crate::{
    admission::{Endpoint, turned_away::TurnedAway},
    outcome::Code,
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Review {
    endpoint: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEndpoint {
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// Everything that is counted. Every series exists from the start, at zero.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: Family<Review, Counter>,
    durations: Family<ByEndpoint, Histogram>,
    in_flight: Gauge,
    turned_away: Family<ByReason, Counter>,
    reloads: Family<ByResult, Counter>,
    certificate_reloads: Family<ByResult, Counter>,
    handshake_failures: Counter,
    yielded: Counter,
    certificate_expiry: Gauge<u64, AtomicU64>,
    cached: Family<ByKind, Gauge>,
    cached_at: Family<ByKind, Gauge<u64, AtomicU64>>,
    /// Calls to the API server.
    pub api_calls: ApiCalls,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("juicefs_sidecar"),
            reviews: Family::default(),
            // 50 µs to 1.6 s by factors of two, then the longest an API server waits.
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(50e-6, 2.0, 16).chain([5.0, 10.0, 30.0]))
            }),
            in_flight: Gauge::default(),
            turned_away: Family::default(),
            reloads: Family::default(),
            certificate_reloads: Family::default(),
            handshake_failures: Counter::default(),
            yielded: Counter::default(),
            certificate_expiry: Gauge::default(),
            cached: Family::default(),
            cached_at: Family::default(),
            api_calls: ApiCalls::default(),
        };
        metrics.create_series();
        metrics.register();
        metrics
    }

    /// With what else the program counts.
    pub fn with<M>(register: impl FnOnce(&mut Registry) -> M) -> (Self, M) {
        let mut metrics = Self::new();
        let others = register(&mut metrics.registry);
        (metrics, others)
    }

    fn create_series(&self) {
        for endpoint in Endpoint::ALL {
            drop(self.durations.get_or_create(&ByEndpoint { endpoint: endpoint.name() }));
            for code in Code::ALL {
                drop(self.reviews.get_or_create(&Review { endpoint: endpoint.name(), code: code.as_str() }));
            }
        }
        for reason in TurnedAway::ALL {
            drop(self.turned_away.get_or_create(&ByReason { reason: reason.label() }));
        }
        for result in ["ok", "failed"] {
            drop(self.reloads.get_or_create(&ByResult { result }));
            drop(self.certificate_reloads.get_or_create(&ByResult { result }));
        }
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("reviews", "Reviews answered, by endpoint and decision code", self.reviews.clone());
        registry.register_with_unit(
            "review_duration",
            "From the request's head to its answer, the body's arrival included",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register("in_flight_requests", "Requests being handled", self.in_flight.clone());
        registry.register(
            "requests_turned_away",
            "Requests answered without a review; overload is room that did not come in time",
            self.turned_away.clone(),
        );
        registry.register(
            "config_reloads",
            "Changes of manifests or configuration, taken (ok) or not (failed)",
            self.reloads.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Changes of the serving certificate or the client CA, taken (ok) or not (failed)",
            self.certificate_reloads.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Connections that never became TLS; the API server's wrong CA bundle shows here",
            self.handshake_failures.clone(),
        );
        registry.register(
            "connections_yielded",
            "Connections ended because they were slow while others waited for their room",
            self.yielded.clone(),
        );
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "When the serving certificate expires, seconds since 1970",
            self.certificate_expiry.clone(),
        );
        registry.register(
            "cached_objects",
            "Objects of the cluster that are known, by kind",
            self.cached.clone(),
        );
        registry.register(
            "cache_changed_timestamp_seconds",
            "When the watch of a kind last told something new, seconds since 1970",
            self.cached_at.clone(),
        );
        self.api_calls.register(registry);
        registry.register("build", "The program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    }

    /// Counts an answered review and how long it took.
    pub fn reviewed(&self, endpoint: Endpoint, code: Code, duration: Duration) {
        let endpoint = endpoint.name();
        self.reviews.get_or_create(&Review { endpoint, code: code.as_str() }).inc();
        self.durations.get_or_create(&ByEndpoint { endpoint }).observe(duration.as_secs_f64());
    }

    /// Counts a request that got no review.
    pub fn turned_away(&self, reason: TurnedAway) {
        self.turned_away.get_or_create(&ByReason { reason: reason.label() }).inc();
    }

    /// Counts a change of the files the state is made of.
    pub fn reloaded(&self, taken: bool) {
        let result = if taken { "ok" } else { "failed" };
        self.reloads.get_or_create(&ByResult { result }).inc();
    }

    /// Counts a change of the files that TLS is served with.
    pub fn certificate_reloaded(&self, taken: bool) {
        let result = if taken { "ok" } else { "failed" };
        self.certificate_reloads.get_or_create(&ByResult { result }).inc();
    }

    /// Counts a connection that never became TLS.
    pub fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    /// Counts a connection that had to make room for others.
    pub fn connection_yielded(&self) {
        self.yielded.inc();
    }

    /// Notes how many objects of each kind are known now, and of which kinds something new was told.
    pub fn cached(
        &self,
        sizes: impl IntoIterator<Item = (&'static str, usize)>,
        changed: impl IntoIterator<Item = &'static str>,
    ) {
        for (kind, size) in sizes {
            self.cached.get_or_create(&ByKind { kind }).set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        for kind in changed {
            self.cached_at.get_or_create(&ByKind { kind }).set(now);
        }
    }

    /// Notes when the serving certificate expires, in seconds since 1970.
    pub fn serving_certificate_until(&self, seconds: u64) {
        self.certificate_expiry.set(seconds);
    }

    /// Counts a request as being handled until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Everything, as a scrape gets it.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A request being handled.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::Family::Node;

    #[test]
    fn every_series_exists_before_its_first_event() {
        let text = Metrics::new().render();
        for code in Code::ALL {
            for endpoint in Endpoint::ALL {
                let line = format!(
                    "juicefs_sidecar_reviews_total{{endpoint=\"{}\",code=\"{code}\"}} 0\n",
                    endpoint.name()
                );
                assert!(text.contains(&line), "{line}");
            }
        }
        for line in [
            "juicefs_sidecar_review_duration_seconds_bucket{le=\"0.00005\",endpoint=\"inject\"} 0",
            "juicefs_sidecar_in_flight_requests 0",
            "juicefs_sidecar_requests_turned_away_total{reason=\"overload\"} 0",
            "juicefs_sidecar_config_reloads_total{result=\"failed\"} 0",
            &format!("juicefs_sidecar_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn reviews_are_counted_by_endpoint_and_code() {
        let metrics = Metrics::new();
        metrics.reviewed(Endpoint::Inject(Node), Code::Injected, Duration::from_micros(70));
        let guard = metrics.in_flight();
        let text = metrics.render();
        for line in [
            "juicefs_sidecar_reviews_total{endpoint=\"inject\",code=\"injected\"} 1",
            "juicefs_sidecar_review_duration_seconds_bucket{le=\"0.00005\",endpoint=\"inject\"} 0",
            "juicefs_sidecar_review_duration_seconds_bucket{le=\"0.0001\",endpoint=\"inject\"} 1",
            "juicefs_sidecar_in_flight_requests 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(guard);
        assert!(metrics.render().contains("juicefs_sidecar_in_flight_requests 0"));
    }
}
