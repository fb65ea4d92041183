//! The injected secret: the copy of a file system's credentials in the pod's namespace.
//!
//! Variables of the sidecar refer to it by key, and so do its files. [`keys`] says which there are, for those who
//! refer to them and for those who write them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CREDENTIALS, SecretError, UserSecret, Value, format_options, map,
    read::{Data, actual_key},
};

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

/// Every key that clients of a file system may refer to.
///
/// Old enterprise clients leave an encrypted configuration alone; the key is there all the same, as the client's image
/// is chosen pod by pod.
#[must_use]
pub fn keys(secret: &UserSecret) -> BTreeSet<String> {
    let variables = secret.environment().into_iter().map(|variable| variable.key);
    let files = [(RSA_KEY, secret.rsa_key), (INITCONFIG, secret.initconfig.is_some())];
    variables.chain(files.into_iter().filter(|(_, there)| *there).map(|(key, _)| key.to_owned())).collect()
}

/// A value as clients get it: without the line ends that `kubectl create secret --from-file` leaves behind it.
pub(super) fn cleaned(value: &str) -> &str {
    value.trim_end_matches(['\n', '\r'])
}

/// The data of the injected secret, made from the user secret's: [`keys`] and their values.
///
/// Values lose the line ends behind them; files stay as they are.
///
/// # Errors
/// What keeps the user secret from being used, as for a pod.
pub fn data(source: &Data) -> Result<Data, SecretError> {
    let secret = UserSecret::parse(source)?;
    let text = |key: &str| String::from_utf8_lossy(source.get(key).map_or(&[], Vec::as_slice));
    let of_key = |key: &'static str| cleaned(&text(actual_key(source, secret.edition, key))).into();
    let mut data = BTreeMap::<String, Vec<u8>>::new();
    for (key, variable) in CREDENTIALS.into_iter().filter(|(_, variable)| secret.has_credential(variable)) {
        data.insert(variable.to_owned(), of_key(key));
    }
    for (key, value) in &secret.arguments {
        if matches!(value, Value::Hidden(_)) {
            data.insert((*key).to_owned(), of_key(key));
        }
    }
    let options = text("format-options");
    data.extend(
        format_options::confidential(&options).map(|(key, value)| (key, value.into_owned().into_bytes())),
    );
    // Read without complaint above.
    let mut variables = map::parse(&text("envs")).unwrap_or_default();
    for name in &secret.variables {
        data.insert(name.clone(), variables.remove(name).unwrap_or_default().into());
    }
    for key in [RSA_KEY, INITCONFIG] {
        data.extend(
            source.get(key).filter(|file| !file.is_empty()).map(|file| (key.to_owned(), file.clone())),
        );
    }
    debug_assert!(data.keys().eq(keys(&secret).iter()), "one who writes and one who refers disagree");
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(pairs: &[(&str, &str)]) -> Data {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn made(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let data = data(&source(pairs)).unwrap();
        data.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_key_that_a_client_refers_to_has_its_value_and_no_other_is_there() {
        let all = [
            ("name", "jfs"),
            ("metaurl", "redis://:p@r/1\n"),
            ("storage", "s3"),
            ("bucket", "sftp://u:p@host/dir\r\n"),
            ("access-key", "AK"),
            ("secret-key", " SK \n\n"),
            ("format-options", "block-size=100, session-token = st,passphrase=pp,flag"),
            ("envs", "TZ: UTC\nN: 1\nJFS_FOREGROUND: \"0\"\n"),
            ("configs", "ceph: /etc/ceph"),
            ("encrypt_rsa_key", "-----BEGIN\n"),
            ("unknown", "x"),
        ];
        assert_eq!(
            made(&all),
            pairs(&[
                ("N", "1"),
                ("TZ", "UTC"),
                ("bucket", "sftp://u:p@host/dir"),
                ("encrypt_rsa_key", "-----BEGIN\n"),
                ("metaurl", "redis://:p@r/1"),
                ("option-passphrase", "pp"),
                ("secretkey", " SK "),
                ("session-token", "st"),
            ])
        );
        let facts = UserSecret::parse(&source(&all)).unwrap();
        assert!(made(&all).iter().map(|(key, _)| key).eq(keys(&facts).iter()));
    }

    #[test]
    fn an_old_name_of_an_enterprise_key_counts_before_the_new_one() {
        let old = [("name", "jfs"), ("token", "t\n"), ("secretkey", "old"), ("secretkey2", "two")];
        assert_eq!(made(&old), pairs(&[("secretkey", "old"), ("secretkey2", "two"), ("token", "t")]));
        let both = [&old[..], &[("secret-key", "new"), ("initconfig", "{}\n")]].concat();
        assert_eq!(
            made(&both),
            pairs(&[("initconfig", "{}\n"), ("secretkey", "old"), ("secretkey2", "two"), ("token", "t")])
        );
    }

    #[test]
    fn a_secret_that_no_pod_can_use_makes_none() {
        let error = data(&source(&[("name", "jfs"), ("metaurl", "")])).unwrap_err();
        assert_eq!(error.key, "metaurl");
        assert!(data(&source(&[("metaurl", "redis://r/1")])).is_err());
    }
}
