//! Reading a user secret: facts and problems side by side, so that checking can name every problem at once.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    AUTH_ARGUMENTS, CREDENTIALS, Edition, FORMAT_ARGUMENTS, InitConfig, SecretError, UserSecret, Value,
    Variable, format_options,
    injected::{self, INITCONFIG, RSA_KEY},
    map,
};
use crate::{identifier::is_name, slip};

pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Old names of enterprise keys; the old name wins where both exist, as in the Go driver.
const ALIASES: [(&str, &str); 4] = [
    ("accesskey", "access-key"),
    ("accesskey2", "access-key2"),
    ("secretkey", "secret-key"),
    ("secretkey2", "secret-key2"),
];

/// The remaining keys with a meaning.
const OTHER_KEYS: [&str; 6] = ["name", "format-options", "envs", "configs", RSA_KEY, INITCONFIG];

/// Variables that the sidecar sets itself; a user's value would be lost or do harm.
const OWN_VARIABLES: [&str; 6] = [
    "JFS_FOREGROUND",
    "JFS_INSIDE_CONTAINER",
    "JFS_NO_UMOUNT",
    "JFS_POD_UID",
    "JUICEFS_CLIENT_PATH",
    "JUICEFS_CLIENT_SIDERCAR_CONTAINER",
];

/// Reads everything that can be read. The facts hold only if there are no problems.
pub(super) fn read(data: &Data) -> (UserSecret, Vec<SecretError>) {
    let edition = if data.contains_key("metaurl") { Edition::Community } else { Edition::Enterprise };
    let mut reader = Reader { data, edition, problems: Vec::new(), warnings: Vec::new() };
    let mut secret = UserSecret { edition, name: reader.name(), ..UserSecret::default() };
    secret.credentials = reader.credentials();
    secret.arguments = reader.arguments();
    secret.format_options = reader.format_options();
    secret.rsa_key = reader.present(RSA_KEY).is_some();
    secret.initconfig = reader.initconfig();
    secret.configs = reader.configs();
    let taken = secret.environment();
    secret.variables = reader.variables(&taken);
    reader.warn_of_useless_keys();
    reader.warn_of_missing_login(&secret);
    secret.warnings = reader.warnings;
    (secret, reader.problems)
}

struct Reader<'a> {
    data: &'a Data,
    edition: Edition,
    problems: Vec<SecretError>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn problem(&mut self, key: &str, what: impl Into<String>) {
        self.problems.push(SecretError { key: key.into(), what: what.into() });
    }

    /// The bytes of a key, unless absent or empty.
    fn present(&self, key: &str) -> Option<&'a [u8]> {
        present(self.data, key)
    }

    /// The text of a key, unless absent, empty or not a text.
    fn text(&mut self, key: &str) -> Option<&'a str> {
        let bytes = self.present(key)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => self.problem(key, "contains a NUL byte"),
            Ok(text) => return Some(text),
            Err(_) => self.problem(key, "is not valid UTF-8"),
        }
        None
    }

    /// The text of a key whose value is used as it is, but for line ends behind it.
    fn exact_text(&mut self, key: &str) -> Option<&'a str> {
        let text = injected::cleaned(self.text(key)?);
        self.warn_of_white_space(key, text);
        Some(text)
    }

    fn warn_of_white_space(&mut self, key: &str, text: &str) {
        if text.trim() != text {
            self.warnings.push(format!(
                "user secret key {key} begins or ends with white space, which is taken as part of the value"
            ));
        }
    }

    fn name(&mut self) -> String {
        if self.present("name").is_none() {
            self.problem("name", "is missing or empty; it is the name of the file system");
        }
        let name = self.exact_text("name").unwrap_or_default();
        if name.starts_with('-') {
            self.problem("name", "begins with a dash, which the client would take for an option");
        } else if name.contains('/') {
            self.problem("name", "contains a slash, which no file system's name can");
        }
        name.to_owned()
    }

    fn credentials(&mut self) -> Vec<&'static str> {
        if self.edition == Edition::Community && self.present("metaurl").is_none() {
            self.problem("metaurl", "is empty; it is the address of the metadata engine");
        }
        let mut variables = Vec::new();
        for (key, variable) in CREDENTIALS {
            let key = self.actual_key(key);
            if let Some(text) = self.text(key) {
                self.warn_of_white_space(key, injected::cleaned(text));
                variables.push(variable);
            }
        }
        variables
    }

    fn actual_key(&self, key: &'static str) -> &'static str {
        actual_key(self.data, self.edition, key)
    }

    fn argument_keys(&self) -> &'static [&'static str] {
        match self.edition {
            Edition::Community => &FORMAT_ARGUMENTS,
            Edition::Enterprise => &AUTH_ARGUMENTS,
        }
    }

    fn arguments(&mut self) -> BTreeMap<&'static str, Value> {
        let mut arguments = BTreeMap::new();
        for key in self.argument_keys() {
            let actual = self.actual_key(key);
            let Some(text) = self.text(actual) else { continue };
            let hidden = has_password(text);
            // Behind them the Go driver's command would end.
            let text = injected::cleaned(text);
            self.warn_of_white_space(actual, text);
            let value = if hidden {
                Value::Hidden(Variable { name: (*key).into(), key: (*key).into() })
            } else {
                Value::Plain(text.into())
            };
            arguments.insert(*key, value);
        }
        arguments
    }

    fn format_options(&mut self) -> Vec<super::FormatOption> {
        let text = self.text("format-options").unwrap_or_default();
        let mut problems = Vec::new();
        let options = format_options::parse(text, &mut problems);
        for problem in problems {
            self.problem("format-options", problem);
        }
        options
    }

    fn initconfig(&mut self) -> Option<InitConfig> {
        #[derive(Deserialize)]
        struct Keys {
            #[serde(default)]
            encryptkeys: Option<bool>,
        }
        let text = self.text(INITCONFIG)?;
        if let Ok(keys) = serde_json::from_str::<Keys>(text) {
            return Some(InitConfig { encrypted: keys.encryptkeys.unwrap_or_default() });
        }
        self.problem(INITCONFIG, "is not the JSON of a client configuration");
        None
    }

    fn map(&mut self, key: &str) -> BTreeMap<String, String> {
        let text = self.text(key).unwrap_or_default();
        map::parse(text).unwrap_or_else(|what| {
            self.problem(key, what);
            BTreeMap::new()
        })
    }

    fn configs(&mut self) -> BTreeMap<String, String> {
        let configs = self.map("configs");
        let mut paths = vec!["/"];
        // Mounted for the RSA key and the configuration themselves.
        paths.extend(self.present(RSA_KEY).map(|_| "/root/.rsa"));
        paths.extend(self.present(INITCONFIG).map(|_| "/etc/juicefs"));
        for (name, path) in &configs {
            let trimmed = match path.trim_end_matches('/') {
                "" => "/",
                trimmed => trimmed,
            };
            let what = if !is_name(name) {
                "is not the name of a secret"
            } else if path.is_empty() {
                "has no path"
            } else if !path.starts_with('/') {
                "does not have an absolute path"
            } else if path.contains(':') || path.split('/').any(|part| part == "..") || has_control(path) {
                "has a path that nothing can be mounted at"
            } else if paths.contains(&trimmed) {
                "has a path at which something else is mounted"
            } else {
                paths.push(trimmed);
                continue;
            };
            self.problem("configs", format!("config {name:?} {what}"));
        }
        configs
    }

    /// The names in `envs`. One that is taken already is an error: either value could win.
    fn variables(&mut self, taken: &[Variable]) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.map("envs").into_keys() {
            if !is_variable(&name) {
                self.problem("envs", format!("{name:?} is not the name of an environment variable"));
            } else if taken.iter().any(|variable| variable.name == name || variable.key == name)
                || [RSA_KEY, INITCONFIG].contains(&name.as_str())
            {
                self.problem("envs", format!("{name:?} is taken by another key of the secret"));
            } else if OWN_VARIABLES.contains(&name.as_str()) {
                self.warnings
                    .push(format!("user secret envs: {name} is set by the sidecar itself and ignored"));
            } else {
                if name.contains(['-', '.']) {
                    self.warnings.push(format!(
                        "user secret envs: {name} is not a name that a shell can hold, so the client may never see it"
                    ));
                }
                names.push(name);
            }
        }
        names
    }

    fn warn_of_useless_keys(&mut self) {
        let other_edition = match self.edition {
            Edition::Community => &AUTH_ARGUMENTS[..],
            Edition::Enterprise => &FORMAT_ARGUMENTS[..],
        };
        let known: Vec<&str> = CREDENTIALS
            .iter()
            .map(|(key, _)| *key)
            .chain(OTHER_KEYS)
            .chain(self.argument_keys().iter().copied())
            .chain(ALIASES.iter().map(|(old, _)| *old).filter(|_| self.edition == Edition::Enterprise))
            .collect();
        for key in self.data.keys().filter(|key| !known.contains(&key.as_str())) {
            let why = if let Some((old, new)) = ALIASES.iter().find(|(old, _)| old == key) {
                if *old == "secretkey" && self.present(new).is_some() {
                    continue;
                }
                format!("use {new}")
            } else if other_edition.contains(&key.as_str()) {
                match self.edition {
                    Edition::Community => "it belongs to the enterprise edition".into(),
                    Edition::Enterprise => {
                        "it belongs to the community edition, and metaurl is missing".into()
                    }
                }
            } else if let Some(meant) = slip::meant(key, &known, slip::CLOSE) {
                format!("use {meant}")
            } else {
                continue;
            };
            self.warnings.push(format!("user secret key {key} has no effect: {why}"));
        }
        for (old, new) in ALIASES {
            let counts = self.edition == Edition::Enterprise || new == "secret-key";
            if counts && self.present(old).is_some() && self.present(new).is_some() {
                self.warnings.push(format!("user secret key {new} has no effect beside {old}"));
            }
        }
    }

    fn warn_of_missing_login(&mut self, secret: &UserSecret) {
        if self.edition == Edition::Enterprise
            && !secret.has_credential("token")
            && secret.initconfig.is_none()
        {
            self.warnings.push(
                "user secret has neither metaurl (community edition) nor token or initconfig (enterprise edition)"
                    .into(),
            );
        }
    }
}

/// The bytes of a key, unless absent or empty.
fn present<'a>(data: &'a Data, key: &str) -> Option<&'a [u8]> {
    data.get(key).map(Vec::as_slice).filter(|bytes| !bytes.is_empty())
}

/// The key that holds the value of `key`: its old alias where there is one, as in the Go driver. Of the community
/// edition's keys only the secret key has one, and only beside the new name.
pub(super) fn actual_key(data: &Data, edition: Edition, key: &'static str) -> &'static str {
    let alias = ALIASES.iter().find(|(_, new)| *new == key).map(|(old, _)| *old);
    match alias {
        Some(old) if present(data, old).is_some() && edition == Edition::Enterprise => old,
        Some(old) if present(data, old).is_some() && present(data, key).is_some() && key == "secret-key" => {
            old
        }
        _ => key,
    }
}

/// Whether a text may be a URL with a password: `scheme://user:password@host…`. In doubt it is.
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let Some((user, _)) = rest.rsplit_once('@') else { return false };
    user.contains(':')
}

/// Letters, digits, `-`, `_` and `.`, no digit first: what Kubernetes takes both for a variable and for a key.
fn is_variable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // ".", ".." and what begins with ".." cannot be keys of a secret.
    name.bytes().all(allowed)
        && name.len() <= 253
        && !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name != "."
        && !name.starts_with("..")
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
