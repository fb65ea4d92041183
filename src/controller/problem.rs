//! Why a round of the controller's work did not succeed.

use super::worker;
use crate::{
    outcome::Refusal,
    tls::authority::NotIssued,
    volume::{SecretError, secret::injected},
};

/// A round that has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A secret of this name belongs to somebody else.
    #[error(
        "secret \"{namespace}/{name}\" is not ours (it lacks the label {}: {}) and is left as it is; rename or delete \
         it, or bring your own certificate (--ca-file, --inject-ca-from)",
        super::MANAGED_BY,
        super::MANAGER
    )]
    Foreign {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The secret that a claim's clients read belongs to somebody else.
    #[error(
        "secret \"{namespace}/{name}\" is not ours (it lacks the label {}: \"true\") and is left as it is, so the \
         clients that need it have no credentials; rename or delete it",
        injected::LABEL
    )]
    ForeignCredentials {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A user secret is not there.
    #[error(
        "{user_secret} does not exist, and {whom} cannot do without; create it, or correct the reference to it"
    )]
    NoSource {
        /// The user secret.
        user_secret: String,
        /// What needs it.
        whom: String,
    },
    /// A user secret does not say what it has to.
    #[error("{user_secret}: {error}; correct it")]
    SourceInvalid {
        /// The user secret.
        user_secret: String,
        /// What is wrong.
        error: SecretError,
    },
    /// The API server said no, or nothing.
    #[error("{what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// Somebody was faster; the next round sees what they did.
    #[error("{what}: it was changed in between")]
    Conflict {
        /// What was tried.
        what: String,
    },
    /// A claim asks for what cannot be had, or something that it depends on is not as it has to be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something has to happen first.
    #[error("{0}")]
    Waits(String),
    /// Something does not answer, and another attempt is waited for.
    #[error("{0}")]
    Silent(String),
    /// Others come first.
    #[error("{0}")]
    Turn(&'static str),
    /// It takes a worker.
    #[error("there is no worker to do it; give the controller one (--worker)")]
    NoWorker,
    /// The worker has not done it.
    #[error("{not_done}; {remedy}")]
    NotDone {
        /// Why.
        not_done: worker::NotDone,
        /// What to do about it.
        remedy: &'static str,
    },
    /// What is to go stays with its data because of another problem: a volume, or the content of a snapshot.
    #[error(
        "{problem}; if that will never be, annotate what is to go with {annotation}=true, and it goes without its data"
    )]
    KeepsData {
        /// The problem.
        problem: Box<Self>,
        /// What lets it go.
        annotation: &'static str,
    },
    /// No certificate.
    #[error("certificates: {0}")]
    Issue(#[from] NotIssued),
    /// The file with the authority cannot be used.
    #[error("--ca-file {0}")]
    File(String),
    /// The installation is being removed.
    #[error(
        "clusterrole \"{0}\" does not exist, and the registrations belong to it: juicefs-sidecar is being removed, or \
         --owner-cluster-role names the wrong one; nothing is registered"
    )]
    OwnerGone(String),
}

impl Problem {
    /// An answer of the API server to something.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        |source| match source {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict { what: what.into() },
            source => Self::Api { what: what.into(), source: Box::new(source) },
        }
    }

    /// Whether it is none by the next round, most likely.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Silent(_) | Self::Turn(_) => true,
            Self::KeepsData { problem, .. } => problem.is_passing(),
            _ => false,
        }
    }

    /// The problem in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Waits(_) | Self::Silent(_) | Self::Turn(_) => "waiting",
            Self::NoWorker | Self::NotDone { .. } => "worker",
            Self::KeepsData { problem, .. } => problem.outcome(),
            Self::Foreign { .. } | Self::ForeignCredentials { .. } => "foreign-secret",
            Self::NoSource { .. } => "source-missing",
            Self::SourceInvalid { .. } => "source-invalid",
            Self::Api { .. } => "api-error",
            Self::Conflict { .. } => "conflict",
            Self::Issue(_) => "not-issued",
            Self::File(_) => "ca-file",
            Self::OwnerGone(_) => "owner-gone",
        }
    }

    /// All there are, and success.
    pub const OUTCOMES: [&'static str; 13] = [
        "ok",
        "refused",
        "waiting",
        "worker",
        "unregistered",
        "foreign-secret",
        "source-missing",
        "source-invalid",
        "api-error",
        "conflict",
        "not-issued",
        "ca-file",
        "owner-gone",
    ];
}
