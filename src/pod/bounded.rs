//! Lists and maps of a bounded length.
//!
//! A few bytes of text make an element of a hundred, so the length of a body bounds nothing. Each element is counted
//! when it has been read, together with what it holds, and reading stops at the first one too many. The bounds lie far
//! above what the pods of the world have, and low enough that no pod costs more than a few MiB.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use super::Text;

/// Elements in all the inner lists and maps of one list.
const MOST_HELD: usize = 8192;

/// An element of a list, with lists of its own or without.
pub(crate) trait Element {
    /// How many elements its own lists and maps have.
    fn held(&self) -> usize {
        0
    }
}

impl Element for Text<'_> {}
impl Element for String {}

/// The length of a list that may be missing.
pub(crate) fn length<T>(list: Option<&Vec<T>>) -> usize {
    list.map_or(0, Vec::len)
}

/// The length of a map that may be missing.
pub(crate) fn size<K, V>(map: Option<&BTreeMap<K, V>>) -> usize {
    map.map_or(0, BTreeMap::len)
}

/// Reads a list of at most `MOST` elements; `null` is no list, and an element of nothing.
pub(crate) fn list<'de, const MOST: usize, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + Element,
{
    Ok(Option::<List<T, MOST>>::deserialize(deserializer)?.map(|list| list.0))
}

/// Reads a list of at most `MOST` elements; `null` is an empty one.
pub(crate) fn list_or_empty<'de, const MOST: usize, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + Element,
{
    Ok(list::<MOST, D, T>(deserializer)?.unwrap_or_default())
}

/// Reads a map of at most `MOST` entries; `null` is no map, and a value of nothing.
pub(crate) fn map<'de, const MOST: usize, D, K, V>(
    deserializer: D,
) -> Result<Option<BTreeMap<K, V>>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de> + Default,
{
    Ok(Option::<Entries<K, V, MOST>>::deserialize(deserializer)?.map(|map| map.0))
}

struct List<T, const MOST: usize>(Vec<T>);

impl<'de, T: Deserialize<'de> + Default + Element, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Default + Element, const MOST: usize> Visitor<'de> for Elements<T, MOST> {
            type Value = List<T, MOST>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let (mut elements, mut held) = (Vec::new(), 0);
                while let Some(element) = sequence.next_element::<Option<T>>()? {
                    let element = element.unwrap_or_default();
                    if elements.len() == MOST {
                        return Err(A::Error::custom(format_args!("has more than {MOST} elements")));
                    }
                    held += element.held();
                    if held > MOST_HELD {
                        return Err(A::Error::custom(format_args!(
                            "the lists in its elements have more than {MOST_HELD} elements together"
                        )));
                    }
                    elements.push(element);
                }
                Ok(List(elements))
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Entries<K, V, const MOST: usize>(BTreeMap<K, V>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de> + Default, const MOST: usize> Deserialize<'de>
    for Entries<K, V, MOST>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<K, V, const MOST: usize>(PhantomData<(K, V)>);

        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de> + Default, const MOST: usize> Visitor<'de>
            for Pairs<K, V, MOST>
        {
            type Value = Entries<K, V, MOST>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<K, Option<V>>()? {
                    entries.insert(key, value.unwrap_or_default());
                    if entries.len() > MOST {
                        return Err(A::Error::custom(format_args!("has more than {MOST} entries")));
                    }
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use crate::pod::Pod;

    /// What is said about a pod whose spec is this text.
    fn complaint(spec: &str) -> Option<String> {
        let text = format!(r#"{{"spec":{{{spec}}}}}"#);
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let pod: Result<Pod<'_>, _> = serde_path_to_error::deserialize(&mut deserializer);
        pod.err().map(|error| error.to_string())
    }

    fn many(count: usize, element: &str) -> String {
        vec![element; count].join(",")
    }

    fn keys(count: usize) -> String {
        let entries: Vec<_> = (0..count).map(|number| format!(r#""{number}":"1""#)).collect();
        entries.join(",")
    }

    #[test]
    fn every_list_has_a_bound_and_says_so() {
        type Text = Box<dyn Fn(usize) -> String>;
        let container = |field: &'static str, element: &'static str| -> Text {
            Box::new(move |count| format!(r#""containers":[{{"{field}":[{}]}}]"#, many(count, element)))
        };
        let affinity = |inner: &dyn Fn(usize) -> String, count| {
            format!(
                r#""affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{}]}}}}}}"#,
                inner(count)
            )
        };
        let cases: Vec<(&str, usize, Text)> = vec![
            ("spec.containers", 512, Box::new(|count| format!(r#""containers":[{}]"#, many(count, "{}")))),
            (
                "spec.initContainers",
                512,
                Box::new(|count| format!(r#""initContainers":[{}]"#, many(count, "{}"))),
            ),
            (
                "spec.ephemeralContainers",
                512,
                Box::new(|count| format!(r#""ephemeralContainers":[{}]"#, many(count, "{}"))),
            ),
            ("spec.volumes", 1024, Box::new(|count| format!(r#""volumes":[{}]"#, many(count, "{}")))),
            ("spec.nodeSelector", 1024, Box::new(|count| format!(r#""nodeSelector":{{{}}}"#, keys(count)))),
            ("spec.containers[0].ports", 2048, container("ports", "{}")),
            ("spec.containers[0].volumeMounts", 2048, container("volumeMounts", "{}")),
            ("spec.containers[0].volumeDevices", 2048, container("volumeDevices", "{}")),
            (
                "spec.containers[0].resources.requests",
                256,
                Box::new(|count| {
                    format!(r#""containers":[{{"resources":{{"requests":{{{}}}}}}}]"#, keys(count))
                }),
            ),
            (
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.labels",
                1024,
                Box::new(|count| {
                    let labels = keys(count);
                    format!(
                        r#""volumes":[{{"ephemeral":{{"volumeClaimTemplate":{{"metadata":{{"labels":{{{labels}}}}}}}}}}}]"#
                    )
                }),
            ),
            (
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
                256,
                Box::new(move |count| affinity(&|count| many(count, "{}"), count)),
            ),
        ];
        for (place, most, spec) in cases {
            assert_eq!(complaint(&spec(most)), None, "{place}");
            let said = complaint(&spec(most + 1)).unwrap();
            assert!(said.starts_with(&format!("{place}: has more than {most} e")), "{said}");
        }
    }

    #[test]
    fn what_the_elements_hold_is_counted_together() {
        let container = format!(r#"{{"volumeMounts":[{}]}}"#, many(2048, "{}"));
        assert_eq!(complaint(&format!(r#""containers":[{}]"#, many(4, &container))), None);
        let said =
            complaint(&format!(r#""containers":[{},{{"ports":[{{}}]}}]"#, many(4, &container))).unwrap();
        assert!(said.starts_with("spec.containers: the lists in its elements have more than 8192"), "{said}");
    }
}
