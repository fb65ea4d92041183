//! Is juicefs-sidecar installed as it should be, and does it work? What is seen of a cluster, judged.
//!
//! Pure: `cli::check` reads the objects. What could not be read is a finding too, never a reason to stop.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod installation;
mod storage;
mod workloads;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Secret},
    discovery::v1::EndpointSlice,
    storage::v1::StorageClass,
};
use serde::Serialize;

pub use self::{
    storage::{secrets, waits},
    workloads::is_labelled,
};
use crate::notation::Version;

/// What was read, or why it could not be.
pub type Seen<T> = Result<T, String>;

/// What is known of a cluster.
#[derive(Debug)]
pub struct Facts {
    /// Where juicefs-sidecar is installed.
    pub namespace: String,
    /// The CSI driver whose volumes are ours.
    pub driver: String,
    /// Seconds since 1970.
    pub now: u64,
    /// The API server's version.
    pub version: Seen<Version>,
    /// All nodes.
    pub nodes: Seen<Vec<Node>>,
    /// The programs' Deployments.
    pub deployments: Seen<Vec<Deployment>>,
    /// What the account of each program may not do and has to, by its name.
    pub rights: Vec<(String, Seen<Vec<String>>)>,
    /// The addresses behind the webhook's Service.
    pub endpoints: Seen<Vec<EndpointSlice>>,
    /// Every registration of mutating webhooks.
    pub registrations: Seen<Vec<MutatingWebhookConfiguration>>,
    /// What the webhook serves with.
    pub serving: Seen<Option<Secret>>,
    /// The driver's configuration.
    pub config_map: Seen<Option<ConfigMap>>,
    /// The controller's lease.
    pub lease: Seen<Option<Lease>>,
    /// All namespaces.
    pub namespaces: Seen<Vec<Namespace>>,
    /// All classes.
    pub classes: Seen<Vec<StorageClass>>,
    /// The user secrets that classes name, as `namespace/name`; `None` where there is none.
    pub secrets: Vec<(String, Seen<Option<Secret>>)>,
    /// All claims of labelled namespaces.
    pub claims: Seen<Vec<PersistentVolumeClaim>>,
    /// Warnings about claims that wait.
    pub events: Seen<Vec<Event>>,
    /// All pods of labelled namespaces.
    pub pods: Seen<Vec<Pod>>,
    /// Deployments of the Go driver's controller, as `namespace/name`.
    pub drivers: Seen<Vec<String>>,
    /// A pod that was made and not stored; `None` if there was no claim to make one with.
    pub trial: Option<Trial>,
}

/// The outcome of a dry run.
#[derive(Debug)]
pub struct Trial {
    /// The claim that it was tried with.
    pub claim: String,
    /// The pod as it would have been stored.
    pub outcome: Seen<Pod>,
}

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Something does not work, or will not.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at: one word or two.
    pub area: &'static str,
    /// What was seen.
    pub what: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

impl Finding {
    fn good(area: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Good, area, what: what.into(), remedy: String::new() }
    }

    fn note(area: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Note, area, what: what.into(), remedy: remedy.into() }
    }

    fn bad(area: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Bad, area, what: what.into(), remedy: remedy.into() }
    }

    fn unseen(area: &'static str, error: &str) -> Self {
        Self::note(area, format!("could not be looked at: {error}"), "check with the rights to read it")
    }
}

/// Judges everything, in the order in which things depend on one another.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    [
        installation::version(facts),
        installation::nodes(facts),
        installation::programs(facts),
        installation::rights(facts),
        installation::endpoints(facts),
        installation::certificate(facts),
        installation::registration(facts),
        installation::leader(facts),
        installation::config(facts),
        installation::drivers(facts),
        workloads::namespaces(facts),
        storage::classes(facts),
        storage::claims(facts),
        workloads::trial(facts),
        workloads::pods(facts),
    ]
    .concat()
}

/// The names of objects, as a message lists them: a few, and how many more.
pub(crate) fn few(names: &[String]) -> String {
    const MOST: usize = 5;
    let shown = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
