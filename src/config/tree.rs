//! YAML as a tree that remembers its lines.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Spanned, options::DuplicateKeyPolicy};

use super::ConfigError;

/// Levels of nesting; a Kubernetes object has fewer than twenty. Reading goes down the stack, which a debug build
/// uses up at the parser's own limit of 64.
const DEPTH: usize = 32;

/// A value and the line it starts on, counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; a key may come twice.
    Map(Vec<(String, Node)>),
}

/// The first document of a stream, which is all that the Go driver reads, and the line on which the next one begins.
pub(super) fn first_document(text: &str) -> (&str, Option<usize>) {
    let is_marker = |line: &str, marker: &str| {
        line.strip_prefix(marker).is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(' '))
    };
    let (mut at, mut begun) = (0, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_empty = line.trim().is_empty() || line.starts_with(['#', '%']);
        if is_marker(line, "---") && begun {
            let rest = text.get(at..).unwrap_or_default();
            let empty = rest
                .lines()
                .all(|line| is_marker(line, "---") || line.trim().is_empty() || line.starts_with('#'));
            return (text.get(..at).unwrap_or_default(), (!empty).then_some(number + 1));
        }
        begun |= !is_empty && !is_marker(line, "---");
        at += line.len();
    }
    (text, None)
}

/// Reads a document as the Go driver's YAML library does: YAML 1.1 booleans (`yes`, `on`), octal numbers with a
/// leading zero (`0644`), keys that come twice.
pub(super) fn parse(text: &str) -> Result<Node, ConfigError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Located(node)) => Ok(node),
        Err(error) => Err(ConfigError {
            line: error.location().map(|location| location.line()),
            field: String::new(),
            what: format!("not valid YAML: {}", error.without_snippet()),
            remedy: "correct the syntax".into(),
        }),
    }
}

impl Node {
    /// Whether a text in it satisfies the predicate.
    pub(super) fn any_text(&self, predicate: &impl Fn(&str) -> bool) -> bool {
        match &self.value {
            Value::Text(text) => predicate(text),
            Value::List(items) => items.iter().any(|item| item.any_text(predicate)),
            Value::Map(entries) => entries.iter().any(|(_, node)| node.any_text(predicate)),
            _ => false,
        }
    }

    /// The value of a field, its name in any case; the last one counts.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, node)| node)
    }

    /// Takes the configuration out of values of the Go driver's chart; `false` if it is none.
    pub(super) fn unwrap_chart(&mut self) -> bool {
        let Value::Map(entries) = &mut self.value else { return false };
        if entries.iter().any(|(key, _)| key.eq_ignore_ascii_case("mountPodPatch")) {
            return false;
        }
        let Some(place) = entries.iter().position(|(key, _)| key == super::CHART) else { return false };
        let (_, mut inner) = entries.swap_remove(place);
        if let Value::Map(entries) = &mut inner.value {
            // The chart's own switches.
            entries.retain(|(key, _)| key != "enabled" && key != "manageByHelm");
        }
        *self = inner;
        true
    }

    /// The items of a list.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

struct Located(Node);

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self(Node { line: spanned.referenced.line(), value: spanned.value }))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Located(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Value>()? {
            let Some(key) = key.scalar_text() else {
                return Err(de::Error::custom("a list or map cannot be a field name"));
            };
            let Located(node) = map.next_value()?;
            entries.push((key, node));
        }
        Ok(Value::Map(entries))
    }
}

impl Value {
    /// A scalar as text, as the Go driver's YAML library turns numbers and booleans into strings where a string
    /// is wanted; `None` for lists, maps and nothing.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Unsigned(value) => Some(value.to_string()),
            Self::Signed(value) => Some(value.to_string()),
            Self::Float(value) => Some(value.to_string()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}
