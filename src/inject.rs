//! From a pod and its volumes to JSON Patch operations. Pure: no I/O, no clock.

use serde_json::Value;

use crate::{
    config::{Config, Process},
    outcome::{Code, Refusal},
    pod::Pod,
    volume::{Lookup, settings::Provenance},
};

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
pub struct Subject<'a> {
    /// The lean view.
    pub pod: &'a Pod<'a>,
    /// The whole object, asked for only when a pod carries sidecars already.
    pub object: &'a dyn Fn() -> Value,
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
    pub lookup: &'a dyn Lookup,
    /// The ConfigMap.
    pub config: &'a Config,
    /// Flags and environment.
    pub process: &'a Process,
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
    pub patch: json_patch::Patch,
    /// One entry per JuiceFS claim, for `explain`.
    pub volumes: Vec<VolumeReport>,
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
        let _ = (subject, self.lookup, self.config, self.process);
        Decision {
            code: Code::NoJuicefsVolume,
            message: String::new(),
            warnings: Vec::new(),
            patch: json_patch::Patch(Vec::new()),
            volumes: Vec::new(),
        }
    }
}

/// The operations that take away what was injected into a pod; `None` if it carries no status annotation.
///
/// Paths are from the pod's root.
pub fn uninject(pod: &Value) -> Result<Option<json_patch::Patch>, Refusal> {
    let _ = pod;
    Ok(None)
}
