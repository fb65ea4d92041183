//! What it takes to get at a file system outside a pod: what [`crate::worker`] has to be told.

use std::collections::BTreeMap;

use super::{
    setup,
    word::{Part, Word},
};
use crate::{
    config::Process,
    outcome::{Code, Refusal},
    volume::{
        Edition, Settings, UserSecret,
        secret::injected::{self, INITCONFIG, RSA_KEY},
    },
    worker,
};

/// A file system with its credentials, and what makes it. Its `Debug` shows no secrets.
#[derive(Clone)]
pub struct Access {
    /// How it is reached.
    pub file_system: worker::FileSystem,
    /// The words of `format`, without the program; none where it cannot be made.
    pub format: Option<Vec<String>>,
    /// What its user secret says.
    pub secret: UserSecret,
}

/// What a user secret makes of a client with this image.
///
/// # Errors
/// What keeps the secret from being used, as for a pod. Names keys, never values.
pub fn access(data: &BTreeMap<String, Vec<u8>>, image: &str, process: &Process) -> Result<Access, Refusal> {
    let invalid = |error: crate::volume::SecretError| {
        Refusal::new(Code::SecretInvalid, "user secret", error.to_string(), "correct the secret")
    };
    let secret = UserSecret::parse(data).map_err(invalid)?;
    let values = injected::data(data).map_err(invalid)?;
    let text = |key: &str| values.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
    let environment: BTreeMap<String, String> = secret
        .environment()
        .into_iter()
        .map(|variable| (variable.name, text(&variable.key).unwrap_or_default()))
        .collect();
    let settings = Settings { image: image.to_owned(), ..Settings::default() };
    let words = setup(&secret, &settings, process)?;
    let words = words.map(|words| words.iter().skip(1).map(|word| filled(word, &environment)).collect());
    let own = secret.variables.iter().filter_map(|name| environment.get_key_value(name));
    let mut file_system = worker::FileSystem {
        environment: own.map(|(name, value)| (name.clone(), value.clone())).collect(),
        rsa_key: text(RSA_KEY),
        ..worker::FileSystem::default()
    };
    let mut format = None;
    match secret.edition {
        Edition::Community => {
            file_system.address = text("metaurl").unwrap_or_default();
            format = words;
        }
        Edition::Enterprise => {
            file_system.edition = worker::Edition::Enterprise;
            file_system.address.clone_from(&secret.name);
            match words {
                Some(words) => file_system.auth = words,
                None => file_system.configuration = text(INITCONFIG),
            }
        }
    }
    Ok(Access { file_system, format, secret })
}

/// A word with the values of its variables.
fn filled(word: &Word<'_>, environment: &BTreeMap<String, String>) -> String {
    let part = |part: &Part<'_>| match part {
        Part::Literal(text) => text.clone().into_owned(),
        Part::Variable(name) => environment.get(name.as_ref()).cloned().unwrap_or_default(),
        // Of a pod there is none; what makes a file system never names one.
        Part::PodUid => String::new(),
    };
    word.parts().iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::words::{self, Files};

    const FILES: Files<'_> = Files { rsa_key: "/s/key", configurations: "/s/.juicefs" };

    fn of(pairs: &[(&str, &str)]) -> Access {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        access(&data, "juicedata/mount:ce-v1.3.0", &Process::default()).unwrap()
    }

    #[test]
    fn a_community_file_system_is_made_as_a_pod_would() {
        let Access { file_system, format, .. } = of(&[
            ("name", "jfs"),
            ("metaurl", "redis://:pw@h/1\n"),
            ("storage", "s3"),
            ("bucket", "sftp://u:p@h/d"),
            ("access-key", "AK"),
            ("secret-key", "SK\n"),
            ("format-options", "trash-days=0,session-token=st"),
            ("envs", "TZ: UTC"),
            ("encrypt_rsa_key", "-----BEGIN\n"),
        ]);
        assert_eq!(file_system.address, "redis://:pw@h/1");
        assert_eq!(file_system.environment, BTreeMap::from([("TZ".into(), "UTC".into())]));
        assert_eq!(file_system.rsa_key.as_deref(), Some("-----BEGIN\n"));
        let words = format.unwrap();
        assert_eq!(
            words,
            [
                "format",
                "--storage=s3",
                "--bucket=sftp://u:p@h/d",
                "--access-key=AK",
                "--secret-key=SK",
                "redis://:pw@h/1",
                "jfs",
                "--trash-days=0",
                "--session-token=st",
                "--encrypt-rsa-key=/root/.rsa/rsa-key.pem",
            ]
        );
        // The worker takes them.
        let command = words::format(&words, &file_system, "redis://@h/1", FILES).unwrap();
        assert!(command.words.iter().all(|word| !word.contains("SK") && !word.contains("pw")));
    }

    #[test]
    fn an_enterprise_file_system_is_reached_by_token_or_configuration() {
        let Access { file_system, format, .. } =
            of(&[("name", "jfs"), ("token", "t"), ("secret-key", "SK"), ("bucket", "b")]);
        assert_eq!((file_system.address.as_str(), format), ("jfs", None));
        let command = words::auth(&file_system.auth, &file_system, FILES).unwrap();
        assert!(command.words.contains(&"--token=t".to_owned()), "{command:?}");
        let file_system = of(&[("name", "jfs"), ("token", "t"), ("initconfig", "{}")]).file_system;
        assert_eq!((file_system.auth.len(), file_system.configuration.as_deref()), (0, Some("{}")));
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_said_without_its_values() {
        let data = BTreeMap::from([("name".to_owned(), b"jfs".to_vec()), ("metaurl".to_owned(), Vec::new())]);
        let refusal = access(&data, "", &Process::default()).err().unwrap();
        assert!(refusal.to_string().contains("metaurl"), "{refusal}");
    }
}
