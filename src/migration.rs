//! Moving from the sidecar mode of the JuiceFS CSI driver ("the driver" here): what will change, what stays, and in
//! which order to go, with how far each step is.
//!
//! Pure: `cli::migration` reads the objects, of a cluster or of manifests. What is said of a claim is what the engine
//! decides about a pod with it, and what is said of a volume's data is what the provisioner would do with it.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod configuration;
mod driver;
mod objects;
mod pods;
mod steps;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::objects::Objects;
pub use self::{
    driver::USUAL_NAMESPACE,
    objects::{CONTROLLER, Kind, NODE_PLUGIN},
    steps::{State, Step},
};
use crate::{
    config::{Config, Process},
    inject::Engine,
    offline::{Document, InputError, Manifests, Notice},
};

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// Everything but each `ConfigMap`, or everything.
    pub documents: Vec<Document>,
    /// Each `ConfigMap` of the driver's name.
    pub config_maps: Vec<Document>,
    /// Of a cluster: kinds that could not be read, and why. Of manifests, a kind is not seen if there is none of it.
    pub unseen: Option<BTreeMap<Kind, String>>,
    /// User secrets that could not be read, as `namespace/name`.
    pub unread_secrets: BTreeSet<String>,
}

/// What the report is about.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Where juicefs-sidecar is installed, or is to be.
    pub namespace: &'a str,
    /// The namespace of objects that say none.
    pub default_namespace: &'a str,
    /// How juicefs-sidecar runs, or is to run.
    pub process: &'a Process,
    /// The configuration, where it is not that of a `ConfigMap`.
    pub config: Option<&'a str>,
}

/// What is known of a cluster.
struct Facts<'a> {
    /// The storage objects and the configuration, as the webhook would see them.
    engine: Engine<'a>,
    /// What there is to say of the configuration.
    config_notes: Vec<String>,
    /// Why the configuration cannot be used.
    config_error: Option<String>,
    /// Where juicefs-sidecar is, or is to be, installed.
    namespace: &'a str,
    /// Everything else.
    objects: Objects,
}

/// What comes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It would not work, or not be safe: to be mended before anything is moved.
    Blocks,
    /// It will be another.
    Changed,
    /// It could not be looked at.
    Unseen,
    /// It stays as it is.
    Same,
}

/// What comes of some objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What becomes of them.
    pub effect: Effect,
    /// What kind of thing they are: one word or two.
    pub area: &'static str,
    /// Their names; empty where it is about all.
    pub objects: Vec<String>,
    /// What will be, and what was.
    pub what: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

impl Change {
    fn new(effect: Effect, area: &'static str, object: impl Into<String>, what: impl Into<String>) -> Self {
        let object: String = object.into();
        let objects = if object.is_empty() { Vec::new() } else { vec![object] };
        Self { effect, area, objects, what: what.into(), remedy: String::new() }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What changes and what does not.
    pub changes: Vec<Change>,
    /// How to go, in this order.
    pub steps: Vec<Step>,
}

impl Report {
    /// Whether something is to be mended before anything is moved.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.changes.iter().any(|change| change.effect == Effect::Blocks)
    }
}

/// Judges what was read; the second is what there is to say of what cannot be read.
pub fn of(read: &Read, scope: &Scope<'_>) -> Result<(Report, Vec<Notice>), InputError> {
    let (manifests, mut notes) = Manifests::gather(&read.documents, scope.default_namespace)?;
    let all = read.documents.iter().chain(&read.config_maps);
    let mut objects = Objects::gather(all, scope.default_namespace, &mut notes);
    if let Some(unseen) = &read.unseen {
        objects.unseen.clone_from(unseen);
    }
    objects.unread_secrets.clone_from(&read.unread_secrets);
    let text = scope.config.or_else(|| objects.configuration(scope.namespace));
    let (config, config_notes, config_error) = match text.map(Config::parse) {
        None => (Config::default(), Vec::new(), None),
        Some(Ok((config, notes))) => (config, notes, None),
        Some(Err(error)) => (Config::default(), Vec::new(), Some(error.to_string())),
    };
    let engine =
        Engine { catalog: &manifests.catalog, config: &config, process: scope.process, explain: true };
    let facts = Facts { engine, config_notes, config_error, namespace: scope.namespace, objects };
    Ok((report(&facts), notes))
}

fn report(facts: &Facts<'_>) -> Report {
    let seen = pods::Seen::of(facts);
    let mut changes = [
        driver::changes(facts),
        configuration::changes(facts),
        storage::classes(facts),
        storage::secrets(facts),
        storage::claims(facts),
        storage::volumes(facts),
        seen.changes(),
        unseen(facts),
    ]
    .concat();
    merge(&mut changes);
    let blocks = changes.iter().filter(|change| change.effect == Effect::Blocks).count();
    Report { steps: steps::steps(facts, &seen, blocks), changes }
}

fn unseen(facts: &Facts<'_>) -> Vec<Change> {
    let missing = facts.objects.unseen.iter();
    missing
        .map(|(kind, why)| {
            Change::new(Effect::Unseen, "not seen", kind.as_str(), why)
                .remedy("give the rights, or the manifests, and ask again")
        })
        .collect()
}

/// What holds for several objects is said once, of all of them; the worst first.
fn merge(changes: &mut Vec<Change>) {
    let mut merged: Vec<Change> = Vec::new();
    let mut places = BTreeMap::new();
    for change in changes.drain(..) {
        let key = (change.effect, change.area, change.what.clone(), change.remedy.clone());
        let place = *places.entry(key).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(earlier) => earlier.objects.extend(change.objects),
            None => merged.push(change),
        }
    }
    merged.sort_by_key(|change| change.effect);
    *changes = merged;
}
