//! The injected secret: the copy of a file system's credentials in the pod's namespace.
//!
//! Variables of the sidecar refer to it by key; for the variables see [`super::UserSecret::environment`], whose
//! `key` is the key here. A key exists only if its value is not empty.

/// Label of every injected secret, with the value `true`.
pub const LABEL: &str = "juicefs/secret";
/// The RSA key that encrypts a file system's blocks (PEM); called so in the user secret, too.
pub const RSA_KEY: &str = "encrypt_rsa_key";
/// The enterprise client's configuration (JSON); called so in the user secret, too.
pub const INITCONFIG: &str = "initconfig";
/// The `session-token` of `format-options`; its variable is [`SESSION_TOKEN_VARIABLE`].
pub const SESSION_TOKEN: &str = "session-token";
/// A shell knows no variable with a dash in its name.
pub const SESSION_TOKEN_VARIABLE: &str = "session_token";

/// Name of the injected secret of a claim, in the claim's namespace.
#[must_use]
pub fn injected_secret_name(claim: &str) -> String {
    format!("{claim}-jfs-secret")
}

/// Name of the secret that serves all generic ephemeral volumes of a class in a namespace: their claims have no
/// name yet when their pods are admitted.
#[must_use]
pub fn class_secret_name(class: &str) -> String {
    format!("{class}-jfs-class-secret")
}
