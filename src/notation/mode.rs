//! The kinds of sidecars a pod can get, and how they are written.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of sidecars. One that this release does not know cannot be taken away by it either, so it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The client itself is the sidecar, one for each volume.
    Classic,
    /// An agent holds the mounts, and a client without privilege serves each of them.
    Resilient,
}

impl Mode {
    /// As it is written wherever it is configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Resilient => "resilient",
        }
    }
}

/// What a mode looks like, for remedies.
pub const GRAMMAR: &str = "write resilient or classic";

/// Not the name of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither resilient nor classic")]
pub struct NotAMode;

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text.trim() {
            "classic" => Ok(Self::Classic),
            "resilient" => Ok(Self::Resilient),
            _ => Err(NotAMode),
        }
    }
}
