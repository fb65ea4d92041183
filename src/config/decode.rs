//! Typed values out of a YAML tree, the way Go's `encoding/json` fills structs: field names match in any case,
//! unknown ones are skipped. Unlike there nothing is skipped silently.

use std::{cell::RefCell, fmt};

use serde::{
    Deserialize,
    de::{self, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use super::{
    ConfigError,
    tree::{Node, Value},
};
use crate::{notation::Quantity, slip};

/// Decodes the tree; fields nobody knows become notes.
pub(super) fn decode<'de, T: Deserialize<'de>>(
    node: &'de Node,
    notes: &RefCell<Vec<String>>,
) -> Result<T, ConfigError> {
    T::deserialize(Decoder { node, path: &Path::Root, notes }).map_err(|fault| ConfigError {
        line: Some(fault.line.unwrap_or(node.line)),
        field: fault.path.unwrap_or_default(),
        what: fault.what,
        remedy: "correct the value".into(),
    })
}

/// Where in the tree, from the inside out.
enum Path<'p> {
    Root,
    Field(&'p Self, &'p str),
    Item(&'p Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => formatter.write_str(name),
            Self::Field(parent, name) => write!(formatter, "{parent}.{name}"),
            Self::Item(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

/// A decoding error; place and line are those of the innermost value.
#[derive(Debug)]
struct Fault {
    path: Option<String>,
    line: Option<u64>,
    what: String,
}

impl Fault {
    fn at(mut self, path: &Path<'_>, node: &Node) -> Self {
        if self.path.is_none() {
            self.path = Some(path.to_string());
            self.line = Some(node.line);
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: None, line: None, what: message.to_string() }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'de, 'p> {
    node: &'de Node,
    path: &'p Path<'p>,
    notes: &'p RefCell<Vec<String>>,
}

impl<'de> Decoder<'de, '_> {
    fn note(&self, line: u64, path: &Path<'_>, what: &str) {
        self.notes.borrow_mut().push(format!("line {line}: {path}: {what}"));
    }

    fn visit_list<V: Visitor<'de>>(self, items: &'de [Node], visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(List { items: items.iter(), next: 0, parent: self })
    }

    /// Gives each entry the known field's own spelling; reports those that match none, or one that came before.
    fn visit_fields<V: Visitor<'de>>(
        self,
        entries: &'de [(String, Node)],
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut known: Vec<(&'de str, &'de Node)> = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let exact = fields.iter().find(|field| *field == key);
            let Some(field) = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(key)))
            else {
                let what = match slip::meant(key, fields, slip::LIKELY) {
                    Some(near) => format!("unknown field, ignored; did you mean {near}?"),
                    None => "unknown field, ignored".into(),
                };
                self.note(node.line, &Path::Field(self.path, key), &what);
                continue;
            };
            match known.iter_mut().find(|(name, _)| name == field) {
                Some(earlier) => {
                    self.note(node.line, &Path::Field(self.path, key), "given twice, the last one counts");
                    earlier.1 = node;
                }
                None => known.push((field, node)),
            }
        }
        visitor.visit_map(Entries { remaining: known.into_iter(), value: None, parent: self })
    }
}

impl<'de> de::Deserializer<'de> for Decoder<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => self.visit_list(items, visitor),
            Value::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, node)| (key.as_str(), node)).collect();
                visitor.visit_map(Entries { remaining: entries.into_iter(), value: None, parent: self })
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_str(""),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            value => match value.scalar_text() {
                Some(text) => visitor.visit_string(text),
                None => self.deserialize_any(visitor),
            },
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // Wherever the Kubernetes types have one: the place to check it, since they keep the text only.
        if name == "Quantity"
            && let Some(text) = self.node.value.scalar_text()
            && let Err(error) = text.parse::<Quantity>()
        {
            return Err(de::Error::custom(format_args!("{text:?} is {error}")));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => self.visit_fields(&[], fields, visitor),
            Value::Map(entries) => self.visit_fields(entries, fields, visitor),
            // Derived structs would take a list by position.
            _ => Err(de::Error::custom("expected a map of fields")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct List<'de, 'p> {
    items: std::slice::Iter<'de, Node>,
    next: usize,
    parent: Decoder<'de, 'p>,
}

impl<'de> de::SeqAccess<'de> for List<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let path = Path::Item(self.parent.path, self.next);
        self.next += 1;
        let decoder = Decoder { node, path: &path, notes: self.parent.notes };
        seed.deserialize(decoder).map(Some).map_err(|fault| fault.at(&path, node))
    }
}

struct Entries<'de, 'p> {
    remaining: std::vec::IntoIter<(&'de str, &'de Node)>,
    value: Option<(&'de str, &'de Node)>,
    parent: Decoder<'de, 'p>,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.remaining.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let (key, node) = self.value.take().ok_or_else(|| de::Error::custom("a value without its key"))?;
        let path = Path::Field(self.parent.path, key);
        let decoder = Decoder { node, path: &path, notes: self.parent.notes };
        seed.deserialize(decoder).map_err(|fault| fault.at(&path, node))
    }
}
