//! What a user secret says, without its secrets.
//!
//! A user secret holds the credentials of a file system beside plain settings. Only facts leave this module: which
//! client, which arguments, which confidential values exist and under what names a pod's copy of them (the injected
//! secret) offers them. Keys are matched exactly.

mod format_options;
pub mod injected;
mod map;
mod read;

use std::collections::BTreeMap;

#[cfg(test)]
pub(crate) use format_options::CONFIDENTIAL;
pub use injected::{class_secret_name, injected_secret_name};

/// Which client a file system needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edition {
    /// `metaurl` is present.
    #[default]
    Community,
    /// It is not.
    Enterprise,
}

/// Why a user secret cannot be used; names keys, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct SecretError {
    /// The key of the secret.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// The facts of a user secret, none of them confidential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSecret {
    /// Which client.
    pub edition: Edition,
    /// The file system's name; never empty, never starting with `-`, without `/` and NUL.
    pub name: String,
    /// Settings that become arguments of `format` or `auth`, by key: `storage`, `bucket`, `access-key`, …
    pub arguments: BTreeMap<&'static str, Value>,
    /// The credentials that exist, by the name of their variable, in the order of [`CREDENTIALS`].
    pub credentials: Vec<&'static str>,
    /// `format-options`, in their order.
    pub format_options: Vec<FormatOption>,
    /// Names of the variables in `envs`, sorted; those that the sidecar sets itself are left out.
    pub variables: Vec<String>,
    /// `configs`: absolute path by name of a secret in the pod's namespace.
    pub configs: BTreeMap<String, String>,
    /// Whether there is an `encrypt_rsa_key`.
    pub rsa_key: bool,
    /// The enterprise client's ready-made configuration, if there is one.
    pub initconfig: Option<InitConfig>,
    /// Keys without effect, and values that look like slips.
    pub warnings: Vec<String>,
}

/// The credentials a client may need: the user secret's key, and the name of the variable that carries it (which is
/// also its key in the injected secret).
pub const CREDENTIALS: [(&str, &str); 5] = [
    ("metaurl", "metaurl"),
    ("secret-key", "secretkey"),
    ("secret-key2", "secretkey2"),
    ("token", "token"),
    ("passphrase", "passphrase"),
];

/// The keys that become arguments of the community client's `format`, in the order of its command line.
pub const FORMAT_ARGUMENTS: [&str; 9] = [
    "storage",
    "bucket",
    "access-key",
    "block-size",
    "compress",
    "trash-days",
    "capacity",
    "inodes",
    "shards",
];

/// The keys that become arguments of the enterprise client's `auth`, in the order of its command line.
pub const AUTH_ARGUMENTS: [&str; 5] = ["access-key", "access-key2", "bucket", "bucket2", "subdir"];

/// A value on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// May be seen by whoever may see the pod.
    Plain(String),
    /// Confidential: the variable that carries it.
    Hidden(Variable),
}

/// One of `format-options`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOption {
    /// Without the leading dashes.
    pub name: String,
    /// `None` for a flag.
    pub value: Option<Value>,
}

/// An environment variable of the sidecar with its value in the injected secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    /// The variable.
    pub name: String,
    /// The key of the injected secret.
    pub key: String,
}

/// What `initconfig` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitConfig {
    /// Its keys are encrypted (`encryptkeys: true`), which enterprise clients read from 5.1.0 on.
    pub encrypted: bool,
}

impl UserSecret {
    /// Reads the data of a user secret; the first problem that [`check`] finds is the error.
    pub fn parse(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        let (secret, problems) = read::read(data);
        match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(secret),
        }
    }

    /// The variables of the sidecar that come from the injected secret, in the Go driver's order: credentials,
    /// hidden arguments, then those of `envs`.
    #[must_use]
    pub fn environment(&self) -> Vec<Variable> {
        let credentials = self.credentials.iter().map(|name| Variable::same(name));
        let options = self.format_options.iter().filter_map(|option| option.value.as_ref());
        let hidden = options.chain(self.arguments.values()).filter_map(|value| match value {
            Value::Hidden(variable) => Some(variable.clone()),
            Value::Plain(_) => None,
        });
        let own = self.variables.iter().map(|name| Variable::same(name));
        credentials.chain(hidden).chain(own).collect()
    }

    /// Whether this credential exists, by the name of its variable.
    #[must_use]
    pub fn has_credential(&self, variable: &str) -> bool {
        self.credentials.contains(&variable)
    }
}

impl Variable {
    fn same(name: &str) -> Self {
        Self { name: name.to_owned(), key: name.to_owned() }
    }
}

/// Everything that is wrong with a user secret, each problem naming its key.
#[must_use]
pub fn check(data: &BTreeMap<String, Vec<u8>>) -> Vec<SecretError> {
    read::read(data).1
}

#[cfg(test)]
mod tests;
