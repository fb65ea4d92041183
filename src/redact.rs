//! Taking credentials out of texts and objects that are shown to others.
//!
//! Pure. Three nets, one behind the other: values that are known to be secret, wherever they stand; values whose name says
//! that they are ([`is_confidential`]); and shapes that are credentials by themselves (passwords in addresses, private
//! keys, bearer tokens). What is taken out in vain costs little.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use regex::{Captures, Regex};
use serde_json::Value;

/// What stands where a credential was.
pub const REDACTED: &str = "[redacted]";
/// Shorter values are found in innocent texts everywhere.
const SHORTEST: usize = 4;
/// Parts of names, without their dashes, that only credentials have.
const PARTS: [&str; 15] = [
    "accesskey",
    "apikey",
    "authorization",
    "credential",
    "initconfig",
    "kubeconfig",
    "metaurl",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "rsakey",
    "secret",
    "signature",
    "token",
];
/// Ends of names that say that something else is named, not given.
const OF_OTHERS: [&str; 9] =
    ["name", "namespace", "ref", "path", "file", "seconds", "finalizer", "type", "provider"];
/// Keys of user secrets whose values everybody may see; of an address, all but its password.
const OPEN_KEYS: [&str; 5] = ["name", "storage", "bucket", "format-options", "envs"];

/// Whether the value of an option, a variable or a field of this name is a credential.
#[must_use]
pub fn is_confidential(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    name == "pass"
        || PARTS.iter().any(|part| name.contains(part)) && !OF_OTHERS.iter().any(|end| name.ends_with(end))
}

/// A password in an address: up to the last `@`, as a password may have one.
static USERINFO: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>\\]*@"#).ok());
/// A private key, to its end or that of the text.
static PRIVATE_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)").ok()
});
/// `Bearer …`, `Basic …` in headers.
static BEARER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}").ok());
/// A JSON Web Token.
static WEB_TOKEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").ok());
/// `name=value`, `--name value`, `"name": "value"`; which names count is decided afterwards.
static ASSIGNMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?x) (?: (?P<name>[A-Za-z][A-Za-z0-9_.-]*) (?P<sep>\\?["']?\s*=\s*\\?["']?|\\?["']\s*:\s*\\?["']|:\s+["']?)
           | (?P<flag>--[A-Za-z][A-Za-z0-9_-]*) (?P<space>\s+["']?) )
           (?P<value>[^\s"',;&\\]+)"#,
    )
    .ok()
});

/// What takes credentials out.
#[derive(Default)]
pub struct Redaction {
    /// Values that are secret wherever they stand, longest first.
    known: Vec<String>,
}

impl Redaction {
    /// With the values of secrets, none of which is to be seen anywhere.
    pub fn knowing<'a>(secrets: impl IntoIterator<Item = &'a BTreeMap<String, Vec<u8>>>) -> Self {
        let mut known = BTreeSet::new();
        for data in secrets {
            for (key, value) in data {
                let text = String::from_utf8_lossy(value);
                learn(key, &text, &mut known);
            }
        }
        known.retain(|value| value.len() >= SHORTEST);
        let encoded: Vec<String> = known.iter().map(|value| BASE64.encode(value)).collect();
        known.extend(encoded);
        let mut known: Vec<String> = known.into_iter().collect();
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { known }
    }

    /// A text without credentials.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.known {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), REDACTED);
            }
        }
        let constant = |text: String, shape: &LazyLock<Option<Regex>>, with: &str| match &**shape {
            Some(shape) => shape.replace_all(&text, with).into_owned(),
            // A pattern that does not compile, which a test rules out.
            None => REDACTED.to_owned(),
        };
        text = constant(text, &PRIVATE_KEY, REDACTED);
        text = constant(text, &USERINFO, "${1}[redacted]@");
        text = constant(text, &BEARER, "${1} [redacted]");
        text = constant(text, &WEB_TOKEN, REDACTED);
        assignments(&text)
    }

    /// An object without credentials, and without what nobody needs who looks at it.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("managedFields");
                map.remove("kubectl.kubernetes.io/last-applied-configuration");
                // A variable, a header, an option.
                let is_secret = map.get("name").and_then(Value::as_str).is_some_and(is_confidential);
                for (key, value) in map.iter_mut() {
                    if value.is_string() && ((is_secret && key == "value") || is_confidential(key)) {
                        *value = REDACTED.into();
                    } else {
                        self.value(value);
                    }
                }
            }
            Value::Array(list) => {
                let mut after_flag = false;
                for value in list {
                    let flag = value.as_str().and_then(|word| word.strip_prefix('-'));
                    let is_flag = flag.is_some_and(|flag| !flag.contains('=') && is_confidential(flag));
                    if after_flag && value.is_string() && !is_flag {
                        *value = REDACTED.into();
                    } else {
                        self.value(value);
                    }
                    after_flag = is_flag;
                }
            }
            Value::String(text) => *text = self.text(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Takes out what is assigned to a confidential name. The value of any other may be an assignment itself.
fn assignments(text: &str) -> String {
    let Some(assignment) = &*ASSIGNMENT else { return REDACTED.to_owned() };
    let (mut kept, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(found) = assignment.captures_at(text, at) {
        let Some(value) = found.name("value") else { break };
        kept.push_str(text.get(at..value.start()).unwrap_or_default());
        at = value.start();
        if is_credential(&found, value.as_str()) {
            kept.push_str(REDACTED);
            at = end(text, value);
        }
    }
    kept.push_str(text.get(at..).unwrap_or_default());
    kept
}

/// Where a value ends: one in quotes at the next of them, blanks or not.
fn end(text: &str, value: regex::Match<'_>) -> usize {
    let quote = text.get(..value.start()).and_then(|before| before.chars().next_back());
    let Some(quote) = quote.filter(|quote| ['"', '\''].contains(quote)) else { return value.end() };
    let rest = text.get(value.start()..).unwrap_or_default();
    let quoted = rest.split(['\n', quote]).next().unwrap_or_default();
    // The quote may be quoted itself, as in JSON within JSON.
    value.end().max(value.start() + quoted.trim_end_matches('\\').len())
}

fn is_credential(found: &Captures<'_>, value: &str) -> bool {
    let part = |name| found.name(name).map_or("", |part| part.as_str());
    let name = if part("flag").is_empty() { part("name") } else { part("flag") };
    // In prose, `secret: not found` is told of a secret and does not tell it.
    let is_prose =
        part("sep").starts_with(':') && matches!(name.to_ascii_lowercase().as_str(), "secret" | "token");
    // A variable in place of the value is none.
    is_confidential(name) && !is_prose && !value.starts_with(['$', '{', '['])
}

/// What of a secret's value must not be seen.
fn learn(key: &str, value: &str, known: &mut BTreeSet<String>) {
    let value = value.trim();
    if let Some((_, rest)) = value.split_once("://")
        && let Some((user, _)) = rest.rsplit_once('@')
    {
        let password = user.split_once(':').map_or(user, |(_, password)| password);
        known.insert(password.to_owned());
    }
    if !OPEN_KEYS.contains(&key) {
        known.insert(value.to_owned());
        // As a log prints it, line by line.
        known.extend(value.lines().map(str::trim).filter(|line| line.len() >= 16).map(str::to_owned));
        return;
    }
    // `a=b,c=d` and YAML or JSON maps.
    for item in value.split([',', '\n', '{', '}']) {
        let Some((name, value)) = item.split_once(['=', ':']) else { continue };
        let plain = |text: &str| text.trim_matches([' ', '"', '\'']).to_owned();
        if key == "envs" || is_confidential(&plain(name)) {
            known.insert(plain(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volume::secret::CONFIDENTIAL;

    #[test]
    fn whatever_else_is_taken_for_a_credential_is_one_here() {
        for name in CONFIDENTIAL.into_iter().chain([
            "access-key",
            "ACCESS_KEY",
            "secretKey",
            "metaurl",
            "META_PASSWORD",
            "encrypt_rsa_key",
            "initconfig",
            "AWS_SECRET_ACCESS_KEY",
            "pass",
            "x-amz-security-token",
        ]) {
            assert!(is_confidential(name), "{name}");
        }
        for name in [
            "secretName",
            "csi.storage.k8s.io/node-publish-secret-namespace",
            "cache-size",
            "image",
            "secretRef",
            "tokenExpirationSeconds",
            "juicefs/secret-finalizer",
            "passive",
            "key",
        ] {
            assert!(!is_confidential(name), "{name}");
        }
    }

    #[test]
    fn texts_lose_credentials_and_keep_the_rest() {
        let nothing = Redaction::default();
        for (text, expected) in [
            ("redis://:p@ss@host:6379/1 is down", "redis://[redacted]@host:6379/1 is down"),
            ("mysql://u:hunter2@(host:3306)/db", "mysql://[redacted]@(host:3306)/db"),
            ("--secret-key hunter2 --bucket b", "--secret-key [redacted] --bucket b"),
            ("session-token=hunter2,trash-days=0", "session-token=[redacted],trash-days=0"),
            ("SECRET_KEY=\"hunter2\" x", "SECRET_KEY=\"[redacted]\" x"),
            (r#"{"password":"hunter2","n":1}"#, r#"{"password":"[redacted]","n":1}"#),
            (r#"{\"token\": \"hunter2\"}"#, r#"{\"token\": \"[redacted]\"}"#),
            ("password='my hunter2', n=1", "password='[redacted]', n=1"),
            ("password: hunter2", "password: [redacted]"),
            ("Authorization: Bearer hunter2hunter2", "Authorization: [redacted] [redacted]"),
            ("secret: not found", "secret: not found"),
            (
                "secret \"app/data-jfs-secret\": does not exist",
                "secret \"app/data-jfs-secret\": does not exist",
            ),
            ("--secret-key=${secret_key}", "--secret-key=${secret_key}"),
            ("cache-size=100", "cache-size=100"),
            ("nodes: password=hunter2 x", "nodes: password=[redacted] x"),
            ("options=token=hunter2", "options=token=[redacted]"),
            ("-o cache-size=1,secret-key=hunter2", "-o cache-size=1,secret-key=[redacted]"),
            ("a -----BEGIN RSA PRIVATE KEY-----\nhunter2\n", "a [redacted]"),
        ] {
            assert_eq!(nothing.text(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_known_is_found_wherever_it_stands() {
        let secret = BTreeMap::from([
            ("name".to_owned(), b"myjfs".to_vec()),
            ("metaurl".to_owned(), b"redis://:hunter2@h/1\n".to_vec()),
            ("secret-key".to_owned(), b"hunter3\n".to_vec()),
            ("envs".to_owned(), br#"{"A": "hunter4"}"#.to_vec()),
            ("format-options".to_owned(), b"trash-days=1000,token=hunter5".to_vec()),
            ("other".to_owned(), b"abc".to_vec()),
        ]);
        let redaction = Redaction::knowing([&secret]);
        let text = redaction.text("myjfs hunter2 xhunter3x hunter4 hunter5 aHVudGVyMw== 1000 abc");
        assert_eq!(text, "myjfs [redacted] x[redacted]x [redacted] [redacted] [redacted] 1000 abc");
    }

    #[test]
    fn objects_lose_values_by_their_names() {
        let mut object = json!({
            "metadata": {"managedFields": [], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x"}},
            "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "TZ", "value": "UTC"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "args": ["--access-key", "hunter2", "--verbose", "--token=hunter2"],
            "secretName": "kept", "token": "hunter2",
        });
        Redaction::default().value(&mut object);
        assert!(!object.to_string().contains("hunter2"), "{object}");
        assert_eq!(object["env"][1]["value"], "UTC");
        assert_eq!(object["env"][2]["valueFrom"]["secretKeyRef"]["name"], "s");
        assert_eq!((&object["args"][2], &object["secretName"]), (&json!("--verbose"), &json!("kept")));
        assert_eq!(object["metadata"], json!({"annotations": {}}));
    }
}
