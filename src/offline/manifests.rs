//! The storage objects of manifests, as the engine asks for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::{
    Document, InputError, Notice, Object,
    configuration::{CONFIG_MAP, Configuration},
    objects::objects,
};
use crate::{
    config::Config,
    inject::Family,
    pod::labels::{ENABLE, ENABLE_SERVERLESS},
    volume::{
        Catalog, SecretError, UserSecret,
        catalog::Writer,
        objects::{Claim, Namespace, Node, PersistentVolume, Secret, StorageClass},
    },
};

/// Everything the manifests say about a cluster.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The storage objects.
    pub catalog: Catalog,
    configuration: Option<Configuration>,
}

impl Manifests {
    /// Gathers the objects of documents; `default_namespace` is that of objects which say none.
    ///
    /// Of an object that is given twice the later counts; where the two differ, a notice says so, as it does where
    /// an object cannot be read.
    pub fn gather<'a>(
        documents: impl IntoIterator<Item = &'a Document>,
        default_namespace: &str,
    ) -> Result<(Self, Vec<Notice>), InputError> {
        let mut gathered = Gathered::default();
        let mut notices = Vec::new();
        let mut seen: HashMap<String, Object<'a>> = HashMap::new();
        for document in documents {
            for object in objects(document) {
                let title = object.title(default_namespace);
                match gathered.take(&object, default_namespace) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    // The one object that all the others depend on.
                    Err(error) if object.kind == "ConfigMap" => return Err(error),
                    // Of another vendor, perhaps: whoever needs it will hear that it is not there.
                    Err(error) => {
                        let line = error.line.or(Some(object.document.place.line));
                        notices.push(Notice::unread(InputError { line, ..error }, &title));
                        continue;
                    }
                }
                if let Some(earlier) = seen.get(&title).filter(|earlier| earlier.value != object.value) {
                    let what = format!("differs from {}; this one is used", earlier.place());
                    notices.push(Notice { place: format!("{} {title}", object.place()), what });
                }
                seen.insert(title, object);
            }
        }
        let Gathered { writer, configuration } = gathered;
        Ok((Self { catalog: writer.snapshot(), configuration }, notices))
    }

    /// The given configuration, else that of the ConfigMap `juicefs-csi-driver-config` among the manifests, else the
    /// default; and what there is to say about it.
    pub fn config(&self, given: Option<&Configuration>) -> Result<(Config, Vec<Notice>), InputError> {
        match given.or(self.configuration.as_ref()) {
            Some(configuration) => configuration.read(),
            None => Ok((Config::default(), Vec::new())),
        }
    }

    /// Whether pods of the namespace are to be injected, and how: `None` if the namespace is not among the
    /// manifests, `Some(None)` if it is and carries neither label.
    pub fn family(&self, namespace: &str) -> Option<Option<Family>> {
        let labels = &self.catalog.namespace(namespace)?.metadata.labels;
        let set = |label: &str| labels.get(label).is_some_and(|value| &**value == "true");
        Some(match (set(ENABLE_SERVERLESS), set(ENABLE)) {
            (true, _) => Some(Family::Serverless),
            (false, true) => Some(Family::Node),
            (false, false) => None,
        })
    }
}

/// What has been read so far.
#[derive(Default)]
struct Gathered {
    writer: Writer,
    configuration: Option<Configuration>,
}

impl Gathered {
    /// Keeps an object; `false` if its kind does not matter here.
    fn take(&mut self, object: &Object<'_>, default_namespace: &str) -> Result<bool, InputError> {
        let namespace = if object.namespace().is_empty() { default_namespace } else { object.namespace() };
        match (object.group(), &*object.kind) {
            ("", "PersistentVolumeClaim") => {
                let mut claim: Claim = object.read("")?;
                claim.metadata.namespace = namespace.into();
                self.writer.apply(claim);
            }
            ("", "Secret") => {
                let facts = user_secret(object);
                self.writer.apply(Secret { namespace: namespace.into(), name: object.name().into(), facts });
            }
            ("", "PersistentVolume") => self.writer.apply(object.read::<PersistentVolume>("")?),
            ("storage.k8s.io", "StorageClass") => self.writer.apply(object.read::<StorageClass>("")?),
            ("", "Node") => self.writer.apply(object.read::<Node>("")?),
            ("", "Namespace") => self.writer.apply(object.read::<Namespace>("")?),
            ("", "ConfigMap") if object.name() == CONFIG_MAP => {
                self.configuration = Some(Configuration::of_object(object)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads a Secret by hand, lest a message of a parser quote a value.
///
/// Secrets of all sorts are found in manifests: one that is not a user secret is an error only for who asks for it.
fn user_secret(object: &Object<'_>) -> Result<Arc<UserSecret>, SecretError> {
    let fault = |key: &str, what: &str| Err(SecretError { key: key.to_owned(), what: what.to_owned() });
    let mut contents = BTreeMap::new();
    for (field, encoded) in [("data", true), ("stringData", false)] {
        let map = match object.value.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(map)) => map,
            Some(_) => return fault(field, "not a map of texts"),
        };
        for (key, value) in map {
            let text = match value {
                Value::Null => "",
                Value::String(text) => text,
                _ => return fault(key, "not a text; write it in quotes"),
            };
            let bytes = if encoded {
                // As the API server does: line breaks are not part of it.
                let packed: String = text.split(['\r', '\n']).collect();
                let Ok(bytes) = BASE64.decode(packed) else {
                    return fault(key, "not base64; encode it, or move it to stringData");
                };
                bytes
            } else {
                text.as_bytes().to_vec()
            };
            contents.insert(key.clone(), bytes);
        }
    }
    UserSecret::parse(&contents).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::documents;

    fn gather(text: &str) -> (Manifests, Vec<Notice>) {
        let documents = documents::parse("x.yaml", text).expect("readable");
        Manifests::gather(&documents, "team").expect("understood")
    }

    #[test]
    fn claims_without_a_namespace_are_in_the_default_one() {
        let (manifests, _) = gather(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: PersistentVolumeClaim\n  metadata: {name: a}\n\
             - apiVersion: v1\n  kind: PersistentVolumeClaim\n  metadata: {name: a, namespace: other}\n",
        );
        assert_eq!(
            manifests.catalog.claim("team", "a").map(|claim| &*claim.metadata.namespace),
            Some("team")
        );
        assert!(manifests.catalog.claim("other", "a").is_some());
        assert!(manifests.catalog.claim("default", "a").is_none());
    }

    #[test]
    fn kinds_of_other_groups_are_not_taken() {
        let (manifests, _) =
            gather("apiVersion: example.com/v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\n");
        assert!(manifests.catalog.claim("team", "a").is_none());
    }

    #[test]
    fn namespaces_choose_the_family() {
        let namespace = |name: &str, labels: &str| {
            format!(
                "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
            )
        };
        let text = namespace("node", &format!("{ENABLE}: \"true\""))
            + &namespace("serverless", &format!("{ENABLE_SERVERLESS}: \"true\", {ENABLE}: \"true\""))
            + &namespace("plain", &format!("{ENABLE}: \"false\""));
        let (manifests, _) = gather(&text);
        assert_eq!(manifests.family("node"), Some(Some(Family::Node)));
        assert_eq!(manifests.family("serverless"), Some(Some(Family::Serverless)));
        assert_eq!(manifests.family("plain"), Some(None));
        assert_eq!(manifests.family("unknown"), None);
    }

    #[test]
    fn the_later_of_two_different_objects_counts_and_is_noticed() {
        let claim = |class: &str| {
            format!(
                "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: a}}\nspec: {{storageClassName: {class}}}\n"
            )
        };
        let (manifests, notices) = gather(&(claim("one") + &claim("two") + &claim("two")));
        assert_eq!(
            manifests.catalog.claim("team", "a").and_then(|claim| claim.spec.storage_class_name.as_deref()),
            Some("two")
        );
        let notices: Vec<_> = notices.iter().map(ToString::to_string).collect();
        assert_eq!(
            notices,
            ["x.yaml:7 PersistentVolumeClaim/team/a: warning: differs from x.yaml:2; this one is used"]
        );
    }

    #[test]
    fn complaints_about_secrets_show_no_values() {
        for (data, complaint) in [
            ("data:\n  password: hunter2!\n", "password: not base64; encode it, or move it to stringData"),
            ("stringData:\n  password: 12345\n", "password: not a text; write it in quotes"),
            ("stringData: [hunter2]\n", "stringData: not a map of texts"),
        ] {
            let (manifests, notices) =
                gather(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{data}"));
            let facts = manifests.catalog.user_secret("team", "s").expect("known");
            assert_eq!(facts.as_ref().expect_err("unusable").to_string(), complaint);
            assert_eq!(notices, []);
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_stops_no_other() {
        let (manifests, notices) = gather(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec:\n  accessModes: ReadWriteMany\n\
             ---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: b}\n",
        );
        assert!(
            manifests.catalog.claim("team", "a").is_none() && manifests.catalog.claim("team", "b").is_some()
        );
        let notices: Vec<_> = notices.iter().map(ToString::to_string).collect();
        assert_eq!(
            notices,
            [
                "x.yaml:5 PersistentVolumeClaim/team/a: warning: spec.accessModes: invalid type: string \"ReadWriteMany\", \
              expected a sequence; taken as if it were not there"
            ]
        );
    }
}
