//! What can come of a workload, and what each outcome means to every audience.
//!
//! This is the one place where a decision becomes an HTTP answer, a metric label, a log level and an exit code.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

/// How a decision is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something was injected or mended.
    Done,
    /// There was nothing to do.
    Nothing,
    /// The user has to change something: answered `allowed: false`, 422.
    Mistake,
    /// It may work when tried again, as the pod's owner will: answered `allowed: false`, 409.
    Later,
    /// The input is not what it says it is: answered `allowed: false`, 400.
    Unreadable,
    /// Our own failure: answered HTTP 500, so that `failurePolicy` decides.
    Failure,
}

impl Kind {
    /// Whether the workload may be created.
    pub fn allowed(self) -> bool {
        matches!(self, Self::Done | Self::Nothing)
    }

    /// The `status.code` of an AdmissionResponse; for [`Kind::Failure`] the HTTP status itself.
    pub fn status_code(self) -> u16 {
        match self {
            Self::Done | Self::Nothing => 200,
            Self::Mistake => 422,
            Self::Later => 409,
            Self::Unreadable => 400,
            Self::Failure => 500,
        }
    }

    /// The `status.reason` of an AdmissionResponse.
    pub fn status_reason(self) -> &'static str {
        match self {
            Self::Done | Self::Nothing => "",
            Self::Mistake => "Invalid",
            Self::Later => "Conflict",
            Self::Unreadable => "BadRequest",
            Self::Failure => "InternalError",
        }
    }

    /// The exit code of an offline command that met this outcome.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done | Self::Nothing => 0,
            Self::Mistake | Self::Later | Self::Unreadable => 1,
            Self::Failure => 2,
        }
    }

    /// The level of the log line.
    pub fn level(self) -> tracing::Level {
        match self {
            Self::Done | Self::Nothing => tracing::Level::INFO,
            Self::Mistake | Self::Later | Self::Unreadable => tracing::Level::WARN,
            Self::Failure => tracing::Level::ERROR,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident;)+) => {
        /// The machine code of a decision, used alike by metrics, logs, audit annotations and `explain`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            /// Every code there is, so that metrics exist before their first event.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable text of the code.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How the code is answered.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }
        }
    };
}

codes! {
    /// Sidecars were added.
    Injected = "injected", Done;
    /// The pod carries intact sidecars already.
    AlreadyInjected = "already-injected", Nothing;
    /// The pod's sidecars had been damaged and were mended.
    Repaired = "repaired", Done;
    /// The pod opted out by label.
    Disabled = "disabled", Nothing;
    /// No volume of the pod is JuiceFS.
    NoJuicefsVolume = "no-juicefs-volume", Nothing;
    /// The namespace is known and not labelled for injection (offline only; a cluster does not ask).
    NamespaceNotEnabled = "namespace-not-enabled", Nothing;
    /// Only creations of pods are mutated.
    NotACreation = "not-a-creation", Nothing;
    /// The request is about something that is not a pod.
    NotAPod = "not-a-pod", Nothing;
    /// A bare pod names a claim that does not exist; it was let through as it is.
    ClaimMissing = "claim-missing", Nothing;
    /// A validation found nothing wrong.
    Valid = "valid", Nothing;
    /// A pod with an owner names a claim that does not exist yet.
    ClaimNotThereYet = "claim-not-there-yet", Later;
    /// The volume a claim names is not there (yet).
    VolumeNotThereYet = "volume-not-there-yet", Later;
    /// The claim names a volume that belongs to another claim.
    VolumeOfAnotherClaim = "volume-of-another-claim", Mistake;
    /// The claim cannot be planned: no UID, no class, a pattern that cannot be resolved.
    ClaimUnusable = "claim-unusable", Mistake;
    /// The volume's secret reference is missing or names no secret.
    SecretMissing = "secret-missing", Mistake;
    /// The user secret lacks something or does not parse.
    SecretInvalid = "secret-invalid", Mistake;
    /// An attribute, parameter, annotation or option has a value that cannot be used.
    SettingInvalid = "setting-invalid", Mistake;
    /// The pod asks for something a sidecar cannot give.
    PodUnsupported = "pod-unsupported", Mistake;
    /// A volume handle is in use by another volume.
    HandleTaken = "handle-taken", Mistake;
    /// The input could not be read as what it claims to be.
    Unreadable = "unreadable", Unreadable;
    /// Our own failure.
    Internal = "internal-error", Failure;
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a workload is not admitted as it is: what is wrong, where, and what to do.
///
/// Never carries a secret value: whoever makes one names keys and fields, not contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {remedy}")]
pub struct Refusal {
    /// The machine code.
    pub code: Code,
    /// The object and field, for example `persistentvolume "x": spec.mountOptions[2]`.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What the reader can do about it.
    pub remedy: String,
    /// What was not known; were it, the answer might be another.
    pub misses: Vec<Miss>,
}

/// An object that a decision depends on and that is not known.
///
/// It may exist all the same: whoever can look should, and ask again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// A PersistentVolumeClaim.
    Claim {
        /// The claim's namespace.
        namespace: String,
        /// The claim's name.
        name: String,
    },
    /// A PersistentVolume.
    Volume {
        /// The volume's name.
        name: String,
    },
    /// A StorageClass.
    Class {
        /// The class's name.
        name: String,
    },
    /// A user secret.
    Secret {
        /// The secret's namespace.
        namespace: String,
        /// The secret's name.
        name: String,
    },
}

impl Refusal {
    /// A refusal from its four parts.
    pub fn new(
        code: Code,
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (place, what, remedy) = (place.into(), what.into(), remedy.into());
        Self { code, place, what, remedy, misses: Vec::new() }
    }

    /// The refusal, made without knowing these.
    #[must_use]
    pub fn for_want_of(self, misses: Vec<Miss>) -> Self {
        Self { misses, ..self }
    }
}
