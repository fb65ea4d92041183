//! `format-options` of a user secret: `k=v,k2,k3=v3`.

use std::borrow::Cow;

use super::{
    FormatOption, Value, Variable,
    injected::{SESSION_TOKEN, SESSION_TOKEN_VARIABLE},
};

/// Options whose values are credentials; they reach the client through the environment.
pub(crate) const CONFIDENTIAL: [&str; 7] =
    [SESSION_TOKEN, "secret-key", "secret-key2", "secretkey", "secretkey2", "token", "passphrase"];

/// Splits the text at commas and each item at its first `=`. Problems are appended; they name options, never values.
pub(super) fn parse(text: &str, problems: &mut Vec<String>) -> Vec<FormatOption> {
    let mut options: Vec<FormatOption> = Vec::new();
    for (name, value) in items(text) {
        if name.is_empty() {
            problems.push("has an item without a name before its `=`".into());
            continue;
        }
        if value.as_deref() == Some("") {
            problems.push(format!("option {name:?} has a `=` but no value"));
            continue;
        }
        let hidden = CONFIDENTIAL.contains(&name);
        if hidden && options.iter().any(|option| option.name == name) {
            problems.push(format!("option {name:?} is given twice"));
            continue;
        }
        let value =
            value.map(
                |value| if hidden { Value::Hidden(variable(name)) } else { Value::Plain(value.into_owned()) },
            );
        options.push(FormatOption { name: name.into(), value });
    }
    options
}

/// The values of the confidential options, by their keys in the injected secret.
pub(super) fn confidential(text: &str) -> impl Iterator<Item = (String, Cow<'_, str>)> {
    items(text)
        .filter(|(name, _)| CONFIDENTIAL.contains(name))
        .filter_map(|(name, value)| Some((variable(name).key, value?)))
}

/// Names and values as they are written; a flag has no value.
fn items(text: &str) -> impl Iterator<Item = (&str, Option<Cow<'_, str>>)> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| match item.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
        None => (item, None),
    })
}

/// A value without the quotes that the Go driver's shell takes off; one whose quotes do not end is left as it is.
fn unquoted(value: &str) -> Cow<'_, str> {
    if !value.contains(['\'', '"']) {
        return Cow::Borrowed(value);
    }
    let (mut text, mut quote) = (String::with_capacity(value.len()), None);
    for letter in value.chars() {
        match quote {
            Some(open) if open == letter => quote = None,
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            _ => text.push(letter),
        }
    }
    if quote.is_some() { Cow::Borrowed(value) } else { Cow::Owned(text) }
}

/// The variable of a confidential option. The prefix keeps it apart from the credential of the same name that has
/// a key of its own, `secret-key` for one.
fn variable(option: &str) -> Variable {
    if option == SESSION_TOKEN {
        return Variable { name: SESSION_TOKEN_VARIABLE.into(), key: SESSION_TOKEN.into() };
    }
    Variable { name: format!("option_{}", option.replace('-', "_")), key: format!("option-{option}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, value: Option<&str>) -> FormatOption {
        FormatOption { name: name.into(), value: value.map(|value| Value::Plain(value.into())) }
    }

    #[test]
    fn items_are_split_at_commas_and_their_first_equals_sign() {
        let mut problems = Vec::new();
        let options =
            parse("block-size=100, trash-days=0,,flag,k=a=b ,q=\"y z\",r='a'\"'\"b,s=it's", &mut problems);
        assert_eq!(
            options,
            [
                plain("block-size", Some("100")),
                plain("trash-days", Some("0")),
                plain("flag", None),
                plain("k", Some("a=b")),
                plain("q", Some("y z")),
                plain("r", Some("a'b")),
                plain("s", Some("it's")),
            ]
        );
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn credentials_among_the_options_are_hidden() {
        let mut problems = Vec::new();
        let options = parse("session-token=hunter2,secret-key2=hunter2", &mut problems);
        assert!(!format!("{options:?}").contains("hunter2"));
        let variables: Vec<_> = options
            .into_iter()
            .filter_map(|option| match option.value {
                Some(Value::Hidden(variable)) => Some((variable.name, variable.key)),
                _ => None,
            })
            .collect();
        assert_eq!(
            variables,
            [
                ("session_token".into(), "session-token".into()),
                ("option_secret_key2".into(), "option-secret-key2".into())
            ]
        );
    }

    #[test]
    fn slips_are_named_without_their_values() {
        for (text, problem) in [
            ("shards=", "option \"shards\" has a `=` but no value"),
            ("=hunter2", "has an item without a name before its `=`"),
            ("token=hunter2,token=hunter2", "option \"token\" is given twice"),
        ] {
            let mut problems = Vec::new();
            parse(text, &mut problems);
            assert_eq!(problems, [problem], "{text}");
        }
    }
}
