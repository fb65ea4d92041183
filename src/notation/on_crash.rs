//! What becomes of a mount whose client crashed, and how that is written.

use std::{fmt, str::FromStr};

/// What becomes of a mount in resilient mode when its client crashes; a classic one always fails.
///
/// Written `resume` or `fail` wherever it is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum OnCrash {
    /// The next client serves it: applications notice a pause, and lose what was open for writing.
    #[default]
    Resume,
    /// It is given up: applications get an error from everything they do with it until they are started again.
    Fail,
}

/// What it looks like, for remedies.
pub const GRAMMAR: &str = "write resume or fail";

/// Neither of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither resume nor fail")]
pub struct NotOnCrash;

impl FromStr for OnCrash {
    type Err = NotOnCrash;

    fn from_str(text: &str) -> Result<Self, NotOnCrash> {
        match text.trim() {
            "resume" => Ok(Self::Resume),
            "fail" => Ok(Self::Fail),
            _ => Err(NotOnCrash),
        }
    }
}

impl fmt::Display for OnCrash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Resume => "resume",
            Self::Fail => "fail",
        })
    }
}

/// For `onCrash` in the ConfigMap.
impl TryFrom<String> for OnCrash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{text:?}: {error}; {GRAMMAR}"))
    }
}
