//! The parts of an injected pod that are looked at again, as a value that patches can be applied to.
//!
//! A value costs many times the text it is made from, and most of a pod is nobody's business here. So only what the
//! view of a pod reads is kept, and what was injected in full; lists keep all their elements, so that paths of a patch
//! mean the same in the outline as in the pod. What is kept is charged while it is read.

use std::{cell::Cell, collections::BTreeSet, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{inject::status::Status, pod::Text};

/// Bytes that an outline may cost: far more than what injection touches in any real pod.
const MOST: usize = 4 << 20;
/// About what a value costs beside its text, its key and its place in a list included.
const VALUE: usize = 160;

/// What is kept of a value.
#[derive(Clone, Copy)]
enum Keep {
    All,
    Each(&'static Self),
    Fields(&'static [(&'static str, Self)]),
    /// Containers: these fields, and everything of those we have injected.
    Named(&'static [(&'static str, Self)]),
}

const POD: Keep = Keep::Fields(&[("metadata", METADATA), ("spec", SPEC)]);

const METADATA: Keep = Keep::Fields(&[
    ("name", Keep::All),
    ("generateName", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("labels", Keep::All),
    ("annotations", Keep::All),
    (
        "ownerReferences",
        Keep::Each(&Keep::Fields(&[("kind", Keep::All), ("name", Keep::All), ("controller", Keep::All)])),
    ),
]);

const SPEC: Keep = Keep::Fields(&[
    // Whole: one that is a JuiceFS volume since may be replaced, with all it holds.
    ("volumes", Keep::All),
    ("initContainers", CONTAINERS),
    ("containers", CONTAINERS),
    ("ephemeralContainers", Keep::Each(&Keep::Fields(&[("name", Keep::All), ("ports", Keep::All)]))),
    ("imagePullSecrets", Keep::Each(&Keep::Fields(&[("name", Keep::All)]))),
    ("nodeName", Keep::All),
    ("nodeSelector", Keep::All),
    ("affinity", Keep::Fields(&[("nodeAffinity", NODE_AFFINITY)])),
    ("tolerations", Keep::All),
    ("resources", Keep::Fields(&[("requests", Keep::All), ("limits", Keep::All)])),
    ("terminationGracePeriodSeconds", Keep::All),
    ("restartPolicy", Keep::All),
    ("hostNetwork", Keep::All),
    ("runtimeClassName", Keep::All),
    ("os", Keep::All),
    ("hostUsers", Keep::All),
    (
        "securityContext",
        Keep::Fields(&[
            ("seccompProfile", Keep::All),
            ("appArmorProfile", Keep::All),
            ("windowsOptions", Keep::All),
        ]),
    ),
]);

const NODE_AFFINITY: Keep = Keep::Fields(&[("requiredDuringSchedulingIgnoredDuringExecution", Keep::All)]);

const CONTAINERS: Keep = Keep::Each(&Keep::Named(&[
    ("name", Keep::All),
    ("restartPolicy", Keep::All),
    ("ports", Keep::All),
    ("volumeMounts", Keep::All),
    ("volumeDevices", Keep::All),
    ("resources", Keep::Fields(&[("requests", Keep::All), ("limits", Keep::All)])),
]));

/// The outline of the pod in `text`, with everything of what `status` says was injected.
pub(super) fn outline(text: &str, status: Option<&Status>) -> Result<Value, serde_json::Error> {
    let left = Cell::new(MOST);
    let ours = status.iter().flat_map(|status| status.containers()).collect();
    let part = Part { keep: POD, ours: &ours, left: &left };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let outline = part.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(outline)
}

/// One value to be read.
#[derive(Clone, Copy)]
struct Part<'a> {
    keep: Keep,
    /// Names of the containers that were injected.
    ours: &'a BTreeSet<&'a str>,
    left: &'a Cell<usize>,
}

impl Part<'_> {
    fn charge<E: Error>(&self, text: &str) -> Result<(), E> {
        let left = self.left.get().checked_sub(VALUE + text.len());
        self.left
            .set(left.ok_or_else(|| E::custom("what matters here of the pod is larger than any real one"))?);
        Ok(())
    }

    fn is_ours(&self, name: Option<&Value>) -> bool {
        name.and_then(Value::as_str).is_some_and(|name| self.ours.contains(name))
    }

    /// What is kept of a field of this value, whose fields so far are `before`.
    fn field(&self, key: &str, before: &Map<String, Value>) -> Option<Keep> {
        let find =
            |fields: &[(&str, Keep)]| fields.iter().find(|(name, _)| *name == key).map(|(_, keep)| *keep);
        match self.keep {
            Keep::All => Some(Keep::All),
            Keep::Each(_) => None,
            Keep::Fields(fields) => find(fields),
            Keep::Named(fields) => find(fields).or_else(|| {
                // The name mostly comes first, but may come last.
                let name = before.get("name");
                (name.is_none() || self.is_ours(name)).then_some(Keep::All)
            }),
        }
    }

    /// Lets go of what had to be read before the name of an element was known.
    fn settle(&self, fields: &mut Map<String, Value>) {
        if let Keep::Named(kept) = self.keep
            && !self.is_ours(fields.get("name"))
        {
            fields.retain(|key, _| kept.iter().any(|(name, _)| name == key));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.charge("").map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.charge("").map(|()| value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.charge("").map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.charge("").map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.charge("").map(|()| value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.charge(text).map(|()| text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        self.charge("")?;
        let keep = match self.keep {
            Keep::Each(keep) => *keep,
            _ => Keep::All,
        };
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element_seed(Part { keep, ..self })? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.charge("")?;
        let mut fields = Map::new();
        while let Some(key) = access.next_key::<Text<'de>>()? {
            let Some(keep) = self.field(&key, &fields) else {
                access.next_value::<IgnoredAny>()?;
                continue;
            };
            self.charge(&key)?;
            let value = access.next_value_seed(Part { keep, ..self })?;
            fields.insert(key.0.into_owned(), value);
        }
        self.settle(&mut fields);
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;
    use crate::{inject::status::StatusVolume, notation::Mode, pod::Pod};

    fn status() -> Status {
        let volume = StatusVolume { container: "jfs".into(), volume: "v".into(), ..StatusVolume::default() };
        Status { volumes: vec![volume], ..Status::new(Mode::Classic) }
    }

    #[test]
    fn what_was_injected_is_kept_whole_and_the_rest_as_far_as_it_is_read() {
        let pod = json!({
            "metadata": {"managedFields": [1], "labels": {"a": "b"}},
            "spec": {
                "containers": [
                    {"args": [1], "env": [{"name": "A"}], "name": "app", "image": "i"},
                    {"name": "jfs", "env": [{"name": "A"}], "x": 1}
                ],
                "volumes": [
                    {"projected": {}, "name": "token"}, {"x": 1, "name": "v", "emptyDir": {}}, {"name": "w", "y": 1}
                ],
                "schedulingGates": []
            }
        });
        let wanted = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "containers": [{"name": "app"}, {"name": "jfs", "env": [{"name": "A"}], "x": 1}],
                "volumes": [{"projected": {}, "name": "token"}, {"x": 1, "name": "v", "emptyDir": {}}, {"name": "w", "y": 1}]
            }
        });
        assert_eq!(outline(&pod.to_string(), Some(&status())).unwrap(), wanted);
    }

    #[test]
    fn the_view_of_an_outline_is_that_of_the_pod() {
        for review in [
            include_str!("../../tests/reviews/pod-newest-fields.create.json"),
            include_str!("../../tests/reviews/pod-mesh-and-native-sidecars.create.json"),
            include_str!("../../tests/reviews/pod-generic-ephemeral.create.json"),
            include_str!("../../tests/reviews/pod-name-clash.create.json"),
        ] {
            let review: Value = serde_json::from_str(review).unwrap();
            let object = &review["request"]["object"];
            let view = Pod::deserialize(object).unwrap();
            assert!(!view.spec.containers.is_empty());
            let outline = outline(&object.to_string(), None).unwrap();
            assert_eq!(format!("{:?}", Pod::deserialize(&outline).unwrap()), format!("{view:?}"));
        }
    }

    #[test]
    fn an_outline_has_a_bound() {
        let zeros = format!("[{}0]", "0,".repeat(100_000));
        let ignored = format!(r#"{{"x":{zeros},"spec":{{"containers":[{{"name":"a","args":{zeros}}}]}}}}"#);
        assert!(outline(&ignored, Some(&status())).is_ok());
        for kept in [
            format!(r#"{{"spec":{{"containers":[{{"args":{zeros},"name":"a"}}]}}}}"#),
            format!(r#"{{"spec":{{"containers":[{{"name":"jfs","args":{zeros}}}]}}}}"#),
            format!(r#"{{"metadata":{{"annotations":{{"x":"{}"}}}}}}"#, "y".repeat(MOST)),
            format!(r#"{{"spec":{{"os":{}{}}}}}"#, "[".repeat(1000), "]".repeat(1000)),
        ] {
            assert!(outline(&kept, Some(&status())).is_err());
        }
    }
}
