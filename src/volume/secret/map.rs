//! A map of strings written as YAML or JSON inside a secret.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};

/// Reads a YAML or JSON map of strings; numbers and booleans become their text, `null` becomes empty.
///
/// The error says where the text is wrong, never what it says: it is confidential.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let map: Option<BTreeMap<String, Scalar>> = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| format!(" (line {})", at.line())).unwrap_or_default();
        format!("is not a map of strings in YAML or JSON{place}")
    })?;
    Ok(map.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
}

struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl de::Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, number or boolean")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar(String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().collect()
    }

    #[test]
    fn yaml_and_json_give_the_same_strings() {
        let wanted = [("A", "x"), ("B", "1"), ("C", "true"), ("D", "")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(pairs("A: x\nB: 1\nC: true\nD:\n"), wanted);
        assert_eq!(pairs(r#"{"A": "x", "B": 1, "C": true, "D": null}"#), wanted);
        assert_eq!(pairs("A: \"x\"\nB: \"1\"\nC: 'true'\nD: ''\n"), wanted);
        assert_eq!(pairs(r#"{"F": 1.5, "N": -3}"#), [("F".into(), "1.5".into()), ("N".into(), "-3".into())]);
    }

    #[test]
    fn nothing_is_an_empty_map() {
        for text in ["", "null", "{}", "# only a comment\n"] {
            assert_eq!(pairs(text), [], "{text:?}");
        }
    }

    #[test]
    fn errors_say_the_line_and_never_the_text() {
        for text in [
            "A: [hunter2]",
            "A:\n  B: hunter2",
            "hunter2",
            "- hunter2",
            "{\"A\": \"hunter2\"",
            "A: hunter2: 3",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("is not a map of strings"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(parse("A: x\nB: {}\n").unwrap_err().contains("line 2"));
    }
}
