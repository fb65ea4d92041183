//! What is decided, and what there is to say about it.

use super::Patch;
use crate::{
    outcome::{Code, Miss, Refusal},
    volume::settings::Provenance,
};

/// What is to be done with an object: a pod that is injected, or a secret or volume that is validated.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The machine code; decides everything about how it is answered.
    pub code: Code,
    /// For people: what was done, or what is wrong, where and what to do.
    pub message: String,
    /// Worth telling the user; each one line of at most 256 characters.
    pub warnings: Vec<String>,
    /// Operations on the object, paths from its root; empty when nothing changes.
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
    /// `classic` or `resilient`.
    pub mode: &'static str,
    /// `node`, `serverless`, `vci` or `cci`.
    pub profile: &'static str,
    /// Whether the sidecar is a native one.
    pub native: bool,
    /// Where each setting came from.
    pub settings: Vec<Provenance>,
}

impl Decision {
    /// A decision that changes nothing.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            warnings: Vec::new(),
            patch: Patch::default(),
            volumes: Vec::new(),
            misses: Vec::new(),
        }
    }
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        Self { misses: refusal.misses, ..Self::new(refusal.code, message) }
    }
}
