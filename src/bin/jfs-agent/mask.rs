//! Keeps secrets out of logs.

/// What stands in a log for a secret.
const MASK: &str = "****";

/// Shorter values would blank out half of every line; they are masked where they stand, not wherever they occur.
const SHORTEST: usize = 4;

/// Words that mark an option or a variable as secret.
const MARKS: [&str; 6] = ["password", "passphrase", "secret", "token", "access-key", "credential"];

/// Knows the secrets of a process and blanks them out.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    secrets: Vec<String>,
}

impl Mask {
    /// Collects the secrets that command lines and environment carry.
    pub(crate) fn new<'a>(
        words: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut secrets = Vec::new();
        let mut previous = "";
        for word in words {
            if let Some((name, value)) = word.split_once('=')
                && name.starts_with('-')
                && is_secret(name)
            {
                secrets.push(value.to_owned());
            }
            if previous.starts_with('-') && !previous.contains('=') && is_secret(previous) {
                secrets.push(word.to_owned());
            }
            secrets.extend(password(word).map(str::to_owned));
            previous = word;
        }
        for (name, value) in environment {
            secrets.extend(password(&value).map(str::to_owned));
            if is_secret(&name) {
                secrets.push(value);
            }
        }
        secrets.retain(|secret| secret.len() >= SHORTEST);
        // Longest first: a secret that contains another goes whole.
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without its secrets.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        mask_addresses(&text)
    }

    /// A command line without its secrets.
    pub(crate) fn command(&self, words: &[String]) -> String {
        let mut masked = Vec::new();
        let mut previous = "";
        for word in words {
            let named = word.split_once('=').filter(|(name, _)| name.starts_with('-') && is_secret(name));
            masked.push(match named {
                Some((name, _)) => format!("{name}={MASK}"),
                None if previous.starts_with('-') && is_secret(previous) && !previous.contains('=') => {
                    MASK.to_owned()
                }
                None => self.apply(word),
            });
            previous = word;
        }
        masked.join(" ")
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    MARKS.iter().any(|mark| name.contains(mark))
}

/// The password in `scheme://user:password@host`; the last `@` counts, since passwords may contain one.
fn password(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split_whitespace().next()?;
    let (credentials, _) = authority.rsplit_once('@')?;
    let (_, password) = credentials.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

/// Blanks out the passwords of all addresses in a line, known or not.
fn mask_addresses(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        masked.push_str(before);
        let end = after.find(|letter: char| letter.is_whitespace() || letter == '"').unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        match (authority.split_once(':'), authority.rsplit_once('@')) {
            (Some((user, _)), Some((credentials, host))) if credentials.contains(':') => {
                masked.extend([user, ":", MASK, "@", host]);
            }
            _ => masked.push_str(authority),
        }
        rest = after;
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_arguments_and_environment_are_blanked_out() {
        let words =
            ["format", "--secret-key", "topsecret", "--access-key=someone", "redis://:p@ss1@host/1", "vol"];
        let environment = [("META_PASSWORD", "hunter22"), ("HOME", "/root")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mask = Mask::new(words, environment);
        assert_eq!(mask.apply("topsecret someone hunter22 p@ss1 /root"), "**** **** **** **** /root");
        assert_eq!(
            mask.command(&words.map(str::to_owned)),
            "format --secret-key **** --access-key=**** redis://:****@host/1 vol"
        );
    }

    #[test]
    fn unknown_passwords_in_addresses_are_blanked_out_too() {
        let mask = Mask::default();
        assert_eq!(
            mask.apply("a mysql://u:p@(h:1)/d b redis://h/1 c"),
            "a mysql://u:****@(h:1)/d b redis://h/1 c"
        );
        assert_eq!(mask.apply("http://h:80/a@b"), "http://h:****@b");
        assert_eq!(mask.apply("://"), "://");
    }

    #[test]
    fn short_values_are_masked_where_they_stand() {
        let words = ["--token", "a"].map(str::to_owned);
        let mask = Mask::new(words.iter().map(String::as_str), []);
        assert_eq!(mask.command(&words), "--token ****");
        assert_eq!(mask.apply("a plain text"), "a plain text");
    }
}
