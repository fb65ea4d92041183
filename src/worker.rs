//! What the controller asks of the worker beside it, and what the worker answers.
//!
//! The controller has no JuiceFS client, the worker (`jfs-agent work`, in a container of the JuiceFS image) has nothing
//! else. They speak over a unix socket in a directory of their pod: a connection for each request, a line of JSON each
//! way, and whoever hangs up before the answer calls the request off. Both programs are built from this module, which
//! is all of the library that the agent has; it is pure, and so are its parts: [`address`] takes passwords out of
//! addresses, [`words`] takes credentials out of command lines, [`symptom`] reads what a client said when it failed.
//!
//! Of what to run the request says only what cannot be told from its task. The commands for directories, quotas and
//! trees are the worker's own; `format` and `auth` come as the words that injection gives to the clients of pods,
//! because one place decides what a file system is made with, and the worker takes only words that can be theirs. So
//! a request, whoever wrote it, runs none but seven commands of the client, each below a path that was checked.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod address;
mod path;
pub mod symptom;
pub mod words;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use path::{NotSubPath, SubPath};

/// Longest request: an RSA key, a configuration and variables, many times over.
pub const LONGEST_REQUEST: usize = 256 * 1024;

/// Longest answer.
pub const LONGEST_ANSWER: usize = 16 * 1024;

/// Longest message of a failure: it becomes part of an event.
pub const LONGEST_MESSAGE: usize = 512;

/// The longest time that a request may take: removing a large tree takes hours.
pub const LONGEST_LIMIT: u64 = 24 * 60 * 60;

/// A request.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Where.
    pub file_system: FileSystem,
    /// What.
    pub task: Task,
    /// Seconds that it may take, [`LONGEST_LIMIT`] at most.
    pub limit: u64,
}

/// A file system and what is needed to get at it. Its `Debug` shows no secrets.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSystem {
    /// Which client it needs.
    pub edition: Edition,
    /// Community edition: the address of its metadata engine. Enterprise edition: its name.
    pub address: String,
    /// Variables of the client's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Enterprise edition: the words of `auth`, without the program, unless there is a configuration.
    #[serde(default)]
    pub auth: Vec<String>,
    /// Enterprise edition: a ready-made configuration, in place of `auth`.
    #[serde(default)]
    pub configuration: Option<String>,
    /// The key that encrypts the file system's blocks (PEM).
    #[serde(default)]
    pub rsa_key: Option<String>,
}

impl fmt::Debug for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = address::split(&self.address).map(|split| split.address);
        let names: Vec<&String> = self.environment.keys().collect();
        formatter
            .debug_struct("FileSystem")
            .field("edition", &self.edition)
            .field("address", &address.as_deref().unwrap_or("?"))
            .field("environment", &names)
            .finish_non_exhaustive()
    }
}

/// An edition of JuiceFS.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Edition {
    /// Community.
    #[default]
    Community,
    /// Enterprise.
    Enterprise,
}

/// What is to be done.
#[derive(Clone, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Say which file system it is; community edition.
    Identify,
    /// Make the file system, or bring its settings up to date: the words of `format`, without the program.
    Format(Vec<String>),
    /// Make a directory and those above it, unless they are there, which may have a quota.
    Create {
        /// Which.
        path: SubPath,
        /// The permissions of what is made, `0o777` at most. Everything belongs to root.
        mode: u32,
        /// How many bytes it may hold; rounded up to GiB, the client's unit.
        #[serde(default)]
        quota: Option<u64>,
    },
    /// Set or change the quota of a directory.
    SetQuota {
        /// Which.
        path: SubPath,
        /// How many bytes it may hold; rounded up to GiB.
        bytes: u64,
    },
    /// Take the quota from a directory; one that has none, or is not there, is fine.
    DeleteQuota(SubPath),
    /// Remove a directory, its quota and all that is in it; trash is respected. One that is not there is fine.
    Remove(SubPath),
    /// Say whether a directory is there: [`Kind::Missing`] if not; community edition.
    Find(SubPath),
    /// Make a directory, which must not be there, what another one is; that in which it is to be is there. It is seen
    /// when it is complete; community edition.
    Clone {
        /// What it is made from.
        from: SubPath,
        /// What is made.
        to: SubPath,
    },
}

impl Task {
    /// Its name, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Format(_) => "format",
            Self::Create { .. } => "create",
            Self::SetQuota { .. } => "set quota",
            Self::DeleteQuota(_) => "delete quota",
            Self::Remove(_) => "remove",
            Self::Find(_) => "find",
            Self::Clone { .. } => "clone",
        }
    }

    /// The directory that it is about.
    pub fn path(&self) -> Option<&SubPath> {
        match self {
            Self::Identify | Self::Format(_) => None,
            Self::Create { path, .. }
            | Self::SetQuota { path, .. }
            | Self::DeleteQuota(path)
            | Self::Remove(path)
            | Self::Find(path)
            | Self::Clone { to: path, .. } => Some(path),
        }
    }
}

/// Without the words of `format`, which carry secrets.
impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name(), self.path().map(SubPath::as_str).unwrap_or_default())
    }
}

/// An answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is done.
    Done {
        /// Which file system it is, when asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<Identity>,
    },
    /// It is not.
    Failed(Failed),
}

/// What tells a file system from all others, however it is reached.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Given when it was formatted.
    pub uuid: String,
    /// Its name.
    pub name: String,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// What kind of failure it is.
    pub kind: Kind,
    /// In words, without secrets, at most [`LONGEST_MESSAGE`].
    pub message: String,
}

impl Failed {
    /// A failure; the message is cut to its longest.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE - '…'.len_utf8()));
            message.push('…');
        }
        Self { kind, message }
    }
}

/// Kinds of failures, as far as somebody has to act differently.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The request itself is wrong; asking again does not help.
    Invalid,
    /// The metadata engine does not answer.
    MetadataUnreachable,
    /// The metadata engine, or the console, refuses the password or token.
    WrongPassword,
    /// There is no file system in the metadata engine yet.
    NotFormatted,
    /// The object storage does not do what it has to.
    StorageUnusable,
    /// This client cannot do it: it is too old, or of the other edition.
    Unsupported,
    /// The path leads through, or to, something that is not a directory, a symbolic link for one.
    NotADirectory,
    /// The directory is not there.
    Missing,
    /// The directory is there, and was to be made.
    Exists,
    /// The file system denies it to the user that the worker runs as, which has to be root.
    PermissionDenied,
    /// It was not done in time.
    Late,
    /// It was called off: the worker is ending, or whoever asked has left.
    CalledOff,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A quota as the client takes it: GiB, at least one.
pub fn gibibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_gibibytes() {
        let sizes = [0, 1, 1 << 30, (1 << 30) + 1, 5 << 30, u64::MAX].map(gibibytes);
        assert_eq!(sizes, [1, 1, 1, 2, 5, 1 << 34]);
    }

    #[test]
    fn requests_read_as_they_were_written_and_show_no_secrets() {
        let request = Request {
            file_system: FileSystem {
                address: "redis://:hunter22@h/1".into(),
                environment: BTreeMap::from([("SECRET_KEY".into(), "hunter23".into())]),
                auth: vec!["auth".into(), "--token=hunter24".into()],
                configuration: Some("hunter25".into()),
                rsa_key: Some("hunter26".into()),
                ..FileSystem::default()
            },
            task: Task::Format(vec!["format".into(), "--secret-key=hunter27".into()]),
            limit: 30,
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("SECRET_KEY") && !shown.contains("hunter2"), "{shown}");
        let text = serde_json::to_string(&request).unwrap();
        let again: Request = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }

    #[test]
    fn a_path_is_checked_when_a_request_is_read() {
        let read = |path: &str| {
            let task = format!(r#"{{"remove":{}}}"#, serde_json::to_string(path).unwrap());
            serde_json::from_str::<Task>(&task)
        };
        assert_eq!(read("a/b").unwrap().path().unwrap().as_str(), "a/b");
        for path in ["", "/", ".", "..", "a/..", "a/../b", "/a", "a/", "a//b", ".trash/a"] {
            assert!(read(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn an_answer_of_a_newer_worker_is_a_failure_all_the_same() {
        let answer: Answer =
            serde_json::from_str(r#"{"failed":{"kind":"somethingNew","message":"x"}}"#).unwrap();
        assert_eq!(answer, Answer::Failed(Failed::new(Kind::Other, "x")));
        let long = Failed::new(Kind::Other, "é".repeat(1000));
        assert!(long.message.len() <= LONGEST_MESSAGE && long.message.ends_with("é…"));
    }
}
