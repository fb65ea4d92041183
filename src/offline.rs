//! The engine over manifests: documents in, documents out.
//!
//! [`files`] reads, [`documents`] parses, [`objects`] finds what the documents hold, [`manifests`] answers the
//! engine's questions from them, [`workloads`] finds the pod in a workload and has it decided on, [`changes`] keeps what
//! came of it, and [`render`] writes. Only [`files`] does I/O.

pub mod changes;
pub mod configuration;
pub mod documents;
mod edit;
pub mod files;
mod locate;
pub mod manifests;
pub mod objects;
pub mod render;
pub mod templates;
mod unique;
pub mod workloads;
mod yaml;

use std::{fmt, sync::Arc};

pub use changes::Changes;
pub use configuration::Configuration;
pub use documents::Document;
pub use manifests::Manifests;
pub use objects::Object;
pub use workloads::Workload;

/// Input that could not be understood: what is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// The path as the user gave it.
    pub file: Arc<str>,
    /// Counted from 1, if known.
    pub line: Option<usize>,
    /// Counted from 1; 0 when the file could not even be read.
    pub document: usize,
    /// `Kind/namespace/name`, empty if the document did not get that far.
    pub object: String,
    /// Path of the field, `spec.containers[0].name`; empty if it is about the whole document.
    pub field: String,
    /// What is wrong; never a secret value.
    pub what: String,
}

impl std::error::Error for InputError {}

impl fmt::Display for InputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        if self.document > 0 {
            write!(formatter, ": document {}", self.document)?;
        }
        if !self.object.is_empty() {
            write!(formatter, ": {}", self.object)?;
        }
        if !self.field.is_empty() {
            write!(formatter, ": {}", self.field)?;
        }
        write!(formatter, ": {}", self.what)
    }
}

/// Something worth telling about the input that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `file:line Kind/namespace/name`.
    pub place: String,
    /// One line.
    pub what: String,
}

impl Notice {
    /// What is told of an object that cannot be read and stops no other; `title` is its own.
    pub fn unread(error: InputError, title: &str) -> Self {
        let field = if error.field.is_empty() { String::new() } else { error.field + ": " };
        let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
        Self {
            place: format!("{}{line} {title}", error.file),
            what: format!("{field}{}; taken as if it were not there", error.what),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: warning: {}", self.place, self.what)
    }
}
