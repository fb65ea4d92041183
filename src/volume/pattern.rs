//! Templates in a StorageClass: `${.PVC.name}` in paths and parameters, `${pvc.name}` in secret references.

use super::objects::Node;
use crate::map::Map;

mod path;
mod secret;

pub use path::{resolve_options, resolve_parameter, resolve_path};
pub use secret::resolve_secret_reference;

/// What a template may ask for.
#[derive(Clone, Copy, Debug)]
pub struct ClaimFacts<'a> {
    /// The claim's name; `None` for a generic ephemeral volume of a pod that has no name yet to name it after.
    pub name: Option<&'a str>,
    /// Whether it is a generic ephemeral volume's: those of a class share one secret in each namespace.
    pub shares_secret: bool,
    /// The claim's namespace.
    pub namespace: &'a str,
    /// The claim's labels.
    pub labels: &'a Map,
    /// The claim's annotations.
    pub annotations: &'a Map,
    /// Name of the PersistentVolume; `None` if it has none yet and cannot be told.
    pub volume: Option<&'a str>,
    /// The node the claim is provisioned for.
    pub node: SelectedNode<'a>,
}

/// The node a claim is provisioned for.
#[derive(Clone, Copy, Debug)]
pub enum SelectedNode<'a> {
    /// None will be: the class binds at once. What is asked of the node is empty.
    None,
    /// One will be chosen later: what is asked of it cannot be answered yet.
    Later,
    /// This one.
    Known(&'a Node),
}

/// A template with its values filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// Parts that came out empty, or that only look like templates.
    pub warnings: Vec<String>,
}

/// Why a template cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Something that nobody can know yet.
    #[error("{template:?} needs {variable}, which is not known yet: {why}")]
    Unknown {
        /// The whole template.
        template: String,
        /// The part of it, as it is written.
        variable: String,
        /// Why it is not known.
        why: &'static str,
    },
    /// The result is not a clean relative path.
    #[error("{template:?} gives the path {path:?}, which {what}{}", list_empty(.empty))]
    Path {
        /// The whole template.
        template: String,
        /// What it gives.
        path: String,
        /// What is wrong with the result.
        what: String,
        /// Parts of the template that are empty, for which nothing is set.
        empty: Vec<String>,
    },
    /// A value with a comma among mount options.
    #[error("{template:?} gets a value with a comma, which would begin another mount option")]
    Options {
        /// The whole template.
        template: String,
    },
    /// A `${` without its `}`.
    #[error("{template:?} has a \"${{\" without a \"}}\"")]
    Unclosed {
        /// The whole template.
        template: String,
    },
}

fn list_empty(variables: &[String]) -> String {
    if variables.is_empty() { String::new() } else { format!("; empty are {}", variables.join(", ")) }
}

const NO_NAME: &str =
    "the claim of a generic ephemeral volume is named after its pod, which gets its name from the API server";
const SHARED_SECRET: &str = "the generic ephemeral volumes of a class share one secret in each namespace";
const NO_NODE: &str = "the class waits for the pod to be scheduled";

#[cfg(test)]
mod tests;
