//! Small maps of shared text: labels, annotations, attributes, parameters.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};

/// More entries than any object has: each takes a hundred bytes, and a few bytes of text make one.
const MOST: usize = 4096;

/// A sorted map of texts that is never changed, only replaced; a copy of it costs nothing.
///
/// Objects of a cluster have a handful of entries each, and there are thousands of them: a sorted list takes a tenth
/// of what a `BTreeMap` of strings does.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Map(Arc<[(Arc<str>, Arc<str>)]>);

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let index = self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The map with a further entry, unless it has one of that key.
    #[must_use]
    pub fn with_default(self, key: &str, value: &Arc<str>) -> Self {
        if self.contains_key(key) {
            return self;
        }
        let more = std::iter::once((Arc::from(key), Arc::clone(value)));
        self.0.iter().cloned().chain(more).collect()
    }

    /// The entries whose keys are wanted, each text as `share` gives it back.
    #[must_use]
    pub fn kept(&self, wanted: impl Fn(&str) -> bool, mut share: impl FnMut(&Arc<str>) -> Arc<str>) -> Self {
        // Still in order, and no key twice.
        let entries = self.0.iter().filter(|(key, _)| wanted(key));
        Self(entries.map(|(key, value)| (share(key), share(value))).collect())
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Map {
    /// Of a key that comes twice the last value counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(Arc<str>, Arc<str>)> =
            entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        // Stable, so that of equal keys the last stays last and is the one to be kept.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        entries.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(entries.into())
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Map;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Map, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Arc<str>, Option<Arc<str>>>()? {
                    if entries.len() == MOST {
                        return Err(de::Error::custom(format_args!("has more than {MOST} entries")));
                    }
                    // NB: to Kubernetes `null` is the empty text.
                    entries.push((key, value.unwrap_or_default()));
                }
                Ok(entries.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_whatever_their_order_and_the_last_of_a_key_counts() {
        let map: Map = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(map.get("a").map(|value| &**value), Some("2"));
        assert_eq!(map.get("b").map(|value| &**value), Some("3"));
        assert_eq!((map.get("c"), map.iter().len()), (None, 2));
        let more = map.clone().with_default("aa", &"4".into()).with_default("a", &"5".into());
        let entries: Vec<_> = more.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(entries, ["a=2", "aa=4", "b=3"]);
        assert_eq!(serde_json::from_str::<Map>(r#"{"b": "3", "a": "2"}"#).expect("a map"), map);
    }

    #[test]
    fn what_is_kept_is_in_order() {
        let map: Map = [("a", "1"), ("b", "2"), ("c", "3")].into_iter().collect();
        let kept = map.kept(|key| key != "b", Arc::clone);
        assert_eq!(kept, [("c", "3"), ("a", "1")].into_iter().collect());
    }
}
