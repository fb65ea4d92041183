//! What the controller counts.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::controller::{Task, events::Reason, problem::Problem};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    task: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTask {
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    reason: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCertificate {
    certificate: &'static str,
}

/// Everything the controller counts; clones count into the same series.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    leader: Gauge,
    reconciles: Family<Reconcile, Counter>,
    durations: Family<ByTask, Histogram>,
    issued: Family<ByCertificate, Counter>,
    expiry: Family<ByCertificate, Gauge<u64, AtomicU64>>,
    repairs: Counter,
    held_back: Gauge,
    waits: Gauge,
    rivals: Gauge,
    events: Family<Sent, Counter>,
    configuration_valid: Gauge,
    uninjected: Gauge,
    uninjected_seen: Counter,
    watched_namespaces: Gauge,
    without_credentials: Gauge,
    not_provisioned: Gauge,
    not_deleted: Gauge,
    stuck: Gauge,
}

impl ControllerMetrics {
    /// All series at zero, as part of a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            reconciles: Family::default(),
            // 1 ms to 16 s by factors of two.
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-3, 2.0, 15))),
            issued: Family::default(),
            expiry: Family::default(),
            repairs: Counter::default(),
            held_back: Gauge::default(),
            waits: Gauge::default(),
            rivals: Gauge::default(),
            events: Family::default(),
            configuration_valid: Gauge::default(),
            uninjected: Gauge::default(),
            uninjected_seen: Counter::default(),
            watched_namespaces: Gauge::default(),
            without_credentials: Gauge::default(),
            not_provisioned: Gauge::default(),
            not_deleted: Gauge::default(),
            stuck: Gauge::default(),
        };
        metrics.configuration_valid.set(1);
        metrics.create_series();
        metrics.put_into(registry);
        metrics
    }

    fn create_series(&self) {
        for task in Task::ALL.map(Task::name) {
            drop(self.durations.get_or_create(&ByTask { task }));
            for outcome in Problem::OUTCOMES {
                drop(self.reconciles.get_or_create(&Reconcile { task, outcome }));
            }
        }
        for certificate in ["authority", "serving"] {
            drop(self.issued.get_or_create(&ByCertificate { certificate }));
        }
        for reason in Reason::ALL.map(Reason::name) {
            for outcome in ["sent", "dropped", "failed"] {
                drop(self.events.get_or_create(&Sent { reason, outcome }));
            }
        }
    }

    fn put_into(&self, registry: &mut Registry) {
        registry.register("leader", "1 in the process that holds the lease", self.leader.clone());
        registry.register(
            "reconciles",
            "Rounds of the controller's tasks, by outcome",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "How long a round took",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register("certificates_issued", "Certificates made, by kind", self.issued.clone());
        registry.register(
            "issued_certificate_not_after_timestamp_seconds",
            "When the newest authority and the stored serving certificate expire, seconds since 1970",
            self.expiry.clone(),
        );
        registry.register(
            "registration_changes",
            "Times that a registration was made, or was not as it has to be and was put right",
            self.repairs.clone(),
        );
        registry.register(
            "registration_held_back",
            "1 after `controller --unregister`, until `controller --register`",
            self.held_back.clone(),
        );
        registry.register(
            "registration_waits",
            "1 while injection is not registered because no webhook has been ready to answer",
            self.waits.clone(),
        );
        registry.register(
            "other_registrations",
            "Registrations of the JuiceFS CSI driver whose webhook is asked about the same pods",
            self.rivals.clone(),
        );
        registry.register(
            "events",
            "Kubernetes events, by reason and whether they were sent",
            self.events.clone(),
        );
        registry.register(
            "configuration_valid",
            "0 while the ConfigMap cannot be used and the last good one is in use",
            self.configuration_valid.clone(),
        );
        registry.register(
            "uninjected_pods",
            "Pods of labelled namespaces that have a JuiceFS claim and no client",
            self.uninjected.clone(),
        );
        registry.register(
            "uninjected_pods_seen",
            "Pods that were ever found without a client",
            self.uninjected_seen.clone(),
        );
        registry.register(
            "watched_namespaces",
            "Labelled namespaces whose pods are watched",
            self.watched_namespaces.clone(),
        );
        registry.register(
            "claims_without_credentials",
            "Claims whose clients have no secret to read, or an old one",
            self.without_credentials.clone(),
        );
        registry.register(
            "claims_not_provisioned",
            "Claims whose volume could not be made at the last attempt",
            self.not_provisioned.clone(),
        );
        registry.register(
            "volumes_not_deleted",
            "Volumes without a claim that could not be removed at the last attempt",
            self.not_deleted.clone(),
        );
        registry.register(
            "stuck_pods",
            "Pods that are over and still there, and may be kept by a mount that nobody serves",
            self.stuck.clone(),
        );
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A round of a task is over.
    pub fn reconciled(&self, task: Task, outcome: &'static str, duration: Duration) {
        let task = task.name();
        self.reconciles.get_or_create(&Reconcile { task, outcome }).inc();
        self.durations.get_or_create(&ByTask { task }).observe(duration.as_secs_f64());
    }

    /// A certificate was made.
    pub fn issued(&self, certificate: &'static str) {
        self.issued.get_or_create(&ByCertificate { certificate }).inc();
    }

    /// When a certificate expires, in seconds since 1970.
    pub fn expires(&self, certificate: &'static str, seconds: u64) {
        self.expiry.get_or_create(&ByCertificate { certificate }).set(seconds);
    }

    /// The registration was not as it has to be.
    pub fn registration_changed(&self) {
        self.repairs.inc();
    }

    /// Whether registration is held back.
    pub fn held_back(&self, held_back: bool) {
        self.held_back.set(held_back.into());
    }

    /// Whether the first registration of injection waits for somebody who answers.
    pub fn registration_waits(&self, waits: bool) {
        self.waits.set(waits.into());
    }

    /// How many registrations of others there are for the same pods.
    pub fn rivals(&self, registrations: usize) {
        self.rivals.set(i64::try_from(registrations).unwrap_or(i64::MAX));
    }

    /// What became of an event.
    pub fn event(&self, reason: Reason, outcome: &'static str) {
        self.events.get_or_create(&Sent { reason: reason.name(), outcome }).inc();
    }

    /// Whether the `ConfigMap` can be used.
    pub fn configuration(&self, valid: bool) {
        self.configuration_valid.set(valid.into());
    }

    /// A pod without a client was found.
    pub fn uninjected_seen(&self) {
        self.uninjected_seen.inc();
    }

    /// How many pods without a client there are.
    pub fn uninjected(&self, pods: usize) {
        self.uninjected.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// How many claims have a secret that is not as it has to be.
    pub fn claims_without_credentials(&self, claims: usize) {
        self.without_credentials.set(i64::try_from(claims).unwrap_or(i64::MAX));
    }

    /// How many claims could not be given a volume.
    pub fn not_provisioned(&self, claims: usize) {
        self.not_provisioned.set(i64::try_from(claims).unwrap_or(i64::MAX));
    }

    /// How many volumes could not be removed.
    pub fn not_deleted(&self, volumes: usize) {
        self.not_deleted.set(i64::try_from(volumes).unwrap_or(i64::MAX));
    }

    /// How many pods are over and still there.
    pub fn stuck(&self, pods: usize) {
        self.stuck.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// How many namespaces are watched.
    pub fn watched_namespaces(&self, namespaces: usize) {
        self.watched_namespaces.set(i64::try_from(namespaces).unwrap_or(i64::MAX));
    }
}
