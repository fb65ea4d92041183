//! JSON that names no key twice: the parser alone would silently keep the later value, and the API server the later
//! one or none, by its version and the client's.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// A value, none of whose objects names a key twice.
pub(super) struct Unique(pub(super) Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = sequence.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate mapping key: {key}")));
            }
            let Unique(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_the_parser_alone_reads_them() {
        let text =
            r#"{"a": [1, -1, 0.5, 1e3, 18446744073709551615, null, true, "é\n"], "b": {"c": {}, "a": []}}"#;
        let unique: Unique = serde_json::from_str(text).expect("JSON");
        assert_eq!(unique.0, serde_json::from_str::<Value>(text).expect("JSON"));
        assert_eq!(unique.0.to_string(), serde_json::from_str::<Value>(text).expect("JSON").to_string());
    }

    #[test]
    fn a_key_named_twice_is_an_error_at_any_depth() {
        for text in
            [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "c": 2, "a": 1}}]"#, r#"{"a": 1, "\u0061": 1}"#]
        {
            let error = serde_json::from_str::<Unique>(text).map(|_| ()).expect_err(text).to_string();
            assert!(error.starts_with("duplicate mapping key: a at line 1 column "), "{error}");
        }
    }
}
