//! From a pod and its volumes to JSON Patch operations. Pure: no I/O, no clock.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod classic;
mod names;
mod node;
mod operation;
mod order;
mod outline;
mod patch;
mod plan;
mod profile;
mod repair;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod undo;

use std::borrow::Cow;

use serde::Deserialize as _;
use serde_json::Value;

use self::{
    names::Names,
    plan::Plan,
    status::{Status, pod_of},
};
pub use self::{
    operation::{ApplyError, Patch},
    status::{DEFAULT_CONTAINER, DONE, STATUS},
};
use crate::{
    client,
    config::{Config, Process},
    outcome::{Code, Miss, Refusal},
    pod::Pod,
    volume::{Catalog, by_name::ByName, resolve, resolved::PodVolume, settings::Provenance},
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

/// What is to be done with a pod.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The machine code.
    pub code: Code,
    /// For people: what was done, or what is wrong, where and what to do.
    pub message: String,
    /// Worth telling the user; each one line of at most 256 characters.
    pub warnings: Vec<String>,
    /// Operations on the pod, paths from its root; empty when nothing changes.
    pub patch: Patch,
    /// One entry per JuiceFS claim, if the engine is to explain itself.
    pub volumes: Vec<VolumeReport>,
    /// What was not known; were it, the decision might be another.
    pub misses: Vec<Miss>,
}

/// What was decided for one claim.
#[derive(Clone, Debug)]
pub struct VolumeReport {
    /// Names of the pod's volumes.
    pub pod_volumes: Vec<String>,
    /// The claim's name; for an ephemeral volume the volume's.
    pub claim: String,
    /// The PersistentVolume's name, or what it will be.
    pub volume: String,
    /// Name of the sidecar container.
    pub container: String,
    /// `node`, `serverless`, `vci` or `cci`.
    pub profile: &'static str,
    /// Whether the sidecar is a native one.
    pub native: bool,
    /// Where each setting came from.
    pub settings: Vec<Provenance>,
}

impl Engine<'_> {
    /// Decides on one pod: the same subject gives the same decision.
    pub fn decide(&self, subject: &Subject<'_>) -> Decision {
        self.outcome(subject).unwrap_or_else(|refusal| Decision {
            code: refusal.code,
            message: refusal.to_string(),
            misses: refusal.misses,
            ..Decision::nothing(refusal.code, "")
        })
    }

    fn outcome(&self, subject: &Subject<'_>) -> Result<Decision, Refusal> {
        let metadata = &subject.pod.metadata;
        let disable = metadata.labels.as_ref().and_then(|labels| labels.disable.as_deref());
        if disable == Some("true") {
            return Ok(Decision::nothing(
                Code::Disabled,
                "the pod opts out by its label disable.sidecar.juicefs.com/inject",
            ));
        }
        match metadata.annotations.as_ref().and_then(|annotations| annotations.status.as_deref()) {
            Some(text) => self.reinvoked(subject, text),
            None => self.planned(subject),
        }
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
            return Ok(Decision {
                message,
                warnings,
                misses: resolution.misses,
                ..Decision::nothing(code, "")
            });
        }
        let mut names = Names::of(pod);
        let mut plan = Plan::make(self, subject, resolution.volumes, &mut names)?;
        plan.drop_annotations_of(subject)?;
        let sidecars =
            classic::sidecars(&mut plan, &mut names, self.process.immutable, pod.spec.security_context)
                .map_err(|nul| client::unusable("the path of the mount", nul))?;
        let patch = patch::operations(&plan, subject, sidecars, &self.config.revision);
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
        let patch = repair::mend(&actual, &desired, &parse_status(wanted)?);
        let (code, message) = if patch.is_empty() {
            (Code::AlreadyInjected, "the pod carries its sidecars".to_owned())
        } else {
            (Code::Repaired, "the pod's sidecars had been changed by others and were put right".to_owned())
        };
        Ok(Decision { code, message, patch, ..decision })
    }
}

impl Decision {
    /// A decision that changes nothing.
    pub fn nothing(code: Code, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            warnings: Vec::new(),
            patch: Patch::default(),
            volumes: Vec::new(),
            misses: Vec::new(),
        }
    }
}

/// The operations that take away what was injected into a pod; `None` if it carries no status annotation.
///
/// Paths are from the pod's root.
pub fn uninject(pod: &Value) -> Result<Option<Patch>, Refusal> {
    match pod["metadata"]["annotations"][STATUS].as_str() {
        Some(text) => Ok(Some(undo::undo(pod, &parse_status(text)?))),
        None => Ok(None),
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
