//! What a user secret says, without its secrets. NB: being written.

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
    /// The file system's name.
    pub name: String,
}
