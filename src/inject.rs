//! From a pod and its volumes to JSON Patch operations. Pure: no I/O, no clock.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod advice;
mod attachments;
mod check;
pub(crate) mod classic;
mod decision;
mod go_driver;
mod mode;
mod names;
mod neighbours;
mod node;
mod operation;
mod order;
mod outline;
mod patch;
mod plan;
mod profile;
mod pull_secrets;
mod repair;
pub mod resilient;
pub mod shell;
mod sidecar;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod undo;

use std::borrow::Cow;

use serde::Deserialize as _;
use serde_json::Value;

pub use self::{
    decision::{Decision, VolumeReport},
    operation::{ApplyError, Patch},
    status::{DEFAULT_CONTAINER, DONE, STATUS},
};
pub(crate) use self::{go_driver::PARENT_VOLUME, profile::MOUNT};
use self::{
    names::Names,
    plan::Plan,
    status::{Status, pod_of},
};
use crate::{
    client,
    config::{Config, Process},
    outcome::{Code, Refusal},
    pod::Pod,
    volume::{Catalog, by_name::ByName, resolve, resolved::PodVolume},
};

/// The JuiceFS volumes of a pod by name, with the place of their claims.
type Volumes<'a> = ByName<'a, (usize, &'a PodVolume)>;

/// Which of the two webhook paths is asked; the pod's own marks refine it into a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Ordinary nodes.
    #[default]
    Node,
    /// Serverless Kubernetes: no host paths.
    Serverless,
}

/// One pod, or pod template, to be decided on.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The lean view.
    pub pod: &'a Pod<'a>,
    /// The whole object as JSON text, asked for only when a pod carries sidecars already.
    pub object: &'a dyn Fn() -> Result<Cow<'a, str>, serde_json::Error>,
    /// The namespace the pod is (to be) in.
    pub namespace: &'a str,
    /// Unique to this pod: the admission request's UID. `None` for a template, whose pods are many.
    pub identity: Option<&'a str>,
    /// Which webhook path.
    pub family: Family,
}

/// Everything a decision depends on beside the pod.
pub struct Engine<'a> {
    /// Storage objects.
    pub catalog: &'a Catalog,
    /// The ConfigMap.
    pub config: &'a Config,
    /// Flags and environment.
    pub process: &'a Process,
    /// Whether to collect where each setting came from.
    pub explain: bool,
}

impl Engine<'_> {
    /// Decides on one pod: the same subject gives the same decision.
    pub fn decide(&self, subject: &Subject<'_>) -> Decision {
        self.outcome(subject).unwrap_or_else(Decision::from)
    }

    fn outcome(&self, subject: &Subject<'_>) -> Result<Decision, Refusal> {
        let metadata = &subject.pod.metadata;
        let disable = metadata.labels.as_ref().and_then(|labels| labels.disable.as_deref());
        if disable == Some("true") {
            return Ok(Decision::new(
                Code::Disabled,
                "the pod opts out by its label disable.sidecar.juicefs.com/inject",
            ));
        }
        let separation = go_driver::separate(subject)?;
        let status = metadata.annotations.as_ref().and_then(|annotations| annotations.status.as_deref());
        let decision = match status {
            Some(text) => self.reinvoked(subject, text),
            None => check::is_no_copy(self, subject).and_then(|()| self.planned(subject)),
        };
        Ok(separation.with(decision?))
    }

    /// Plans for a pod that carries no sidecars (any more).
    fn planned(&self, subject: &Subject<'_>) -> Result<Decision, Refusal> {
        let pod = subject.pod;
        let resolution = resolve(pod, subject.namespace, self.catalog, &self.process.driver)?;
        let mut warnings = resolution.warnings;
        if resolution.volumes.is_empty() {
            let (code, message) = match resolution.missing.as_slice() {
                [] => (Code::NoJuicefsVolume, "no volume of the pod is JuiceFS".to_owned()),
                missing => (
                    Code::ClaimMissing,
                    format!(
                        "persistentvolumeclaim \"{}\" does not exist; left as it is",
                        missing.join("\", \"")
                    ),
                ),
            };
            return Ok(Decision { warnings, misses: resolution.misses, ..Decision::new(code, message) });
        }
        let mut names = Names::of(pod);
        let mut plan = Plan::make(self, subject, resolution.volumes, &mut names)?;
        plan.drop_annotations_of(subject)?;
        let immutable = self.process.immutable || node::may_have_read_only_etc(self, pod);
        let sidecars = sidecar::sidecars(&mut plan, &mut names, immutable, pod)
            .map_err(|nul| client::unusable("the path of the mount", nul))?;
        let patch = patch::operations(&plan, subject, sidecars, &self.config.revision)?;
        warnings.append(&mut plan.warnings);
        Ok(Decision {
            code: Code::Injected,
            message: plan.describe(),
            warnings,
            patch,
            volumes: if self.explain { plan.report() } else { Vec::new() },
            misses: resolution.misses,
        })
    }

    /// Decides on a pod that says it carries sidecars: an intact one is left alone, a damaged one is mended.
    fn reinvoked(&self, subject: &Subject<'_>, text: &str) -> Result<Decision, Refusal> {
        let status = parse_status(text)?;
        let actual = outline(subject, Some(&status))?;
        // Restored first, and then as it should be: one copy, since nobody reads the one after the other is made.
        let mut desired = actual.clone();
        undo::undo(&actual, &status).apply(&mut desired).map_err(|error| misfit(&error))?;
        let decision = {
            let view = Pod::deserialize(&desired).map_err(|error| misfit(&error))?;
            let object = || Ok(Cow::Owned(desired.to_string()));
            // NB: `kubectl debug --copy-to`, or an exported pod, brings the status of another pod with it.
            let (namespace, family) = (subject.namespace, subject.family);
            let copied = status.pod.as_ref().is_some_and(|pod| *pod != pod_of(namespace, &view.metadata));
            let identity = if copied { subject.identity } else { status.identity.as_deref() };
            self.planned(&Subject { pod: &view, object: &object, namespace, identity, family })?
        };
        decision.patch.apply(&mut desired).map_err(|error| internal("patch", &error))?;
        let Some(wanted) = desired["metadata"]["annotations"][STATUS].as_str() else {
            // Nothing is JuiceFS any more: what is there is not ours to judge.
            return Ok(decision);
        };
        let wanted = parse_status(wanted)?;
        let patch = if wanted.mode == status.mode {
            repair::mend(&actual, &desired, &status, &wanted)
        } else {
            // Of the other kind there is nothing to mend: what is there goes, and what should be there comes.
            undo::undo(&actual, &status).followed_by(&decision.patch)
        };
        let (code, message) = if patch.is_empty() {
            (Code::AlreadyInjected, "the pod carries its sidecars".to_owned())
        } else {
            (Code::Repaired, "the pod's sidecars had been changed by others and were put right".to_owned())
        };
        Ok(Decision { code, message, patch, ..decision })
    }
}

/// The operations that take away what was injected into a pod; `None` if it carries no status annotation.
///
/// Paths are from the pod's root.
pub fn uninject(pod: &Value) -> Result<Option<Patch>, Refusal> {
    match pod["metadata"]["annotations"][STATUS].as_str() {
        Some(text) => Ok(Some(undo::undo(pod, &parse_status(text)?))),
        None => match undo::unmarked_client(pod) {
            None => Ok(None),
            Some(container) => Err(Refusal::new(
                Code::PodUnsupported,
                format!("container \"{container}\""),
                format!(
                    "is a JuiceFS client, but there is no annotation {STATUS} that says what came with it"
                ),
                "take it out by hand, or take the workload from before it was injected",
            )),
        },
    }
}

/// The parts of a subject that matter, as a value.
fn outline(subject: &Subject<'_>, status: Option<&Status>) -> Result<Value, Refusal> {
    // The view of the pod skips text that it has no use for, and that may be none.
    let text = (subject.object)().map_err(|error| {
        let what = format!("cannot be read as a whole: {error}");
        Refusal::new(Code::Unreadable, "the pod", what, "send JSON in UTF-8")
    })?;
    outline::outline(&text, status).map_err(|error| {
        let what = format!("cannot be looked at again: {error}");
        Refusal::new(
            Code::PodUnsupported,
            "the pod",
            what,
            "make the pod smaller, or remove what is no part of it",
        )
    })
}

fn parse_status(text: &str) -> Result<Status, Refusal> {
    Status::parse(text).map_err(|what| {
        Refusal::new(
            Code::PodUnsupported,
            format!("metadata.annotations[\"{STATUS}\"]"),
            format!("the annotation says that sidecars were injected, but {what}"),
            "remove the annotation and whatever it came with",
        )
    })
}

/// The refusal of a status annotation that some other pod was given, or that somebody wrote.
fn misfit(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::PodUnsupported,
        format!("metadata.annotations[\"{STATUS}\"]"),
        format!("the annotation says that sidecars were injected, but it does not fit the pod: {error}"),
        "remove the annotation and whatever it came with",
    )
}

fn internal(place: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, place, error.to_string(), "please report this with the pod that caused it")
}
