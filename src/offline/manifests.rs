//! The storage objects of manifests, as the engine asks for them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::{
    Document, InputError, Notice, Object,
    configuration::{CONFIG_MAP, Configuration},
    objects::{escape, objects},
};
use crate::{
    config::{Config, match_labels},
    inject::Family,
    volume::{
        Claim, Lookup, Node, PersistentVolume, SecretError, StorageClass, UserSecret,
        objects::{Map, Metadata},
    },
};

/// Label of a namespace whose pods get their clients.
const ENABLE: &str = "juicefs.com/enable-injection";
/// Label of a namespace whose pods run on serverless Kubernetes.
const ENABLE_SERVERLESS: &str = "juicefs.com/enable-serverless-injection";
/// Annotations that make a class the default, as the API server reads them.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Everything the manifests say about a cluster.
#[derive(Debug, Default)]
pub struct Manifests {
    claims: Namespaced<Arc<Claim>>,
    secrets: Namespaced<Result<Arc<UserSecret>, SecretError>>,
    volumes: HashMap<String, Arc<PersistentVolume>>,
    /// Volumes by the claim their `claimRef` names.
    reserved: Namespaced<Arc<PersistentVolume>>,
    classes: HashMap<String, Arc<StorageClass>>,
    default_class: Option<Arc<StorageClass>>,
    nodes: HashMap<String, Arc<Node>>,
    namespaces: HashMap<String, Map>,
    configuration: Option<Configuration>,
}

/// By namespace, then by name.
type Namespaced<T> = HashMap<String, HashMap<String, T>>;

impl Manifests {
    /// Gathers the objects of documents; `default_namespace` is that of objects which say none.
    ///
    /// Of an object that is given twice the later counts; where the two differ, a notice says so.
    pub fn gather<'a>(
        documents: impl IntoIterator<Item = &'a Document>,
        default_namespace: &str,
    ) -> Result<(Self, Vec<Notice>), InputError> {
        let mut manifests = Self::default();
        let mut notices = Vec::new();
        let mut seen: HashMap<String, Object<'a>> = HashMap::new();
        let mut default_class = None;
        for document in documents {
            for object in objects(document) {
                let title = object.title(default_namespace);
                if !manifests.take(&object, default_namespace, &mut default_class)? {
                    continue;
                }
                if let Some(earlier) = seen.get(&title).filter(|earlier| earlier.value != object.value) {
                    let what = format!("differs from {}; this one is used", earlier.place());
                    notices.push(Notice { place: format!("{} {title}", object.place()), what });
                }
                seen.insert(title, object);
            }
        }
        manifests.default_class =
            default_class.and_then(|(_, name)| manifests.classes.get(&name).map(Arc::clone));
        manifests.reserve();
        Ok((manifests, notices))
    }

    /// Notes which claims volumes are reserved for; of several the first by name, as ever the same.
    fn reserve(&mut self) {
        let mut volumes: Vec<_> = self.volumes.values().collect();
        volumes.sort_by(|one, other| other.metadata.name.cmp(&one.metadata.name));
        for volume in volumes {
            if let Some(claim) = &volume.spec.claim_ref {
                let claims = self.reserved.entry(claim.namespace.clone()).or_default();
                claims.insert(claim.name.clone(), Arc::clone(volume));
            }
        }
    }

    /// Keeps an object; `false` if its kind does not matter here.
    fn take(
        &mut self,
        object: &Object<'_>,
        default_namespace: &str,
        default_class: &mut Option<(Reverse<String>, String)>,
    ) -> Result<bool, InputError> {
        let namespace =
            if object.namespace().is_empty() { default_namespace } else { object.namespace() }.to_owned();
        match (object.group(), &*object.kind) {
            ("", "PersistentVolumeClaim") => {
                let mut claim: Claim = object.read("")?;
                claim.metadata.namespace.clone_from(&namespace);
                let name = claim.metadata.name.clone();
                self.claims.entry(namespace).or_default().insert(name, Arc::new(claim));
            }
            ("", "Secret") => {
                let name = object.name().to_owned();
                self.secrets.entry(namespace).or_default().insert(name, user_secret(object)?);
            }
            ("", "PersistentVolume") => {
                let volume: PersistentVolume = object.read("")?;
                self.volumes.insert(volume.metadata.name.clone(), Arc::new(volume));
            }
            ("storage.k8s.io", "StorageClass") => {
                let class: StorageClass = object.read("")?;
                let name = class.metadata.name.clone();
                let annotations = &class.metadata.annotations;
                if DEFAULT_CLASS.iter().any(|key| annotations.get(*key).is_some_and(|set| set == "true")) {
                    // Of several the API server takes the newest, then the first by name.
                    let rank = (Reverse(created(object)), name.clone());
                    if default_class.as_ref().is_none_or(|best| rank < *best) {
                        *default_class = Some(rank);
                    }
                }
                self.classes.insert(name, Arc::new(class));
            }
            ("", "Node") => {
                let node: Node = object.read("")?;
                self.nodes.insert(node.metadata.name.clone(), Arc::new(node));
            }
            ("", "Namespace") => {
                let metadata: Metadata = object.read("/metadata")?;
                self.namespaces.insert(metadata.name, metadata.labels);
            }
            ("", "ConfigMap") if object.name() == CONFIG_MAP => {
                self.configuration = Some(Configuration::of_object(object)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
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
        let labels = self.namespaces.get(namespace)?;
        let set = |label: &str| labels.get(label).is_some_and(|value| value == "true");
        Some(match (set(ENABLE_SERVERLESS), set(ENABLE)) {
            (true, _) => Some(Family::Serverless),
            (false, true) => Some(Family::Node),
            (false, false) => None,
        })
    }
}

impl Lookup for Manifests {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>> {
        self.claims.get(namespace)?.get(name).cloned()
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(name).cloned()
    }

    fn volume_reserved_for(&self, namespace: &str, claim: &str) -> Option<Arc<PersistentVolume>> {
        self.reserved.get(namespace)?.get(claim).cloned()
    }

    fn free_volume_for(&self, claim: &Claim, driver: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes
            .values()
            .filter(|volume| is_free_for(volume, claim, driver))
            .min_by_key(|volume| &volume.metadata.name)
            .cloned()
    }

    fn volumes_with_handle(&self, driver: &str, handle: &str) -> Vec<Arc<PersistentVolume>> {
        let matches = |volume: &&Arc<PersistentVolume>| {
            volume.spec.csi.as_ref().is_some_and(|csi| csi.driver == driver && csi.volume_handle == handle)
        };
        let mut volumes: Vec<_> = self.volumes.values().filter(matches).cloned().collect();
        volumes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        volumes
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.get(name).cloned()
    }

    fn default_class(&self) -> Option<Arc<StorageClass>> {
        self.default_class.clone()
    }

    fn user_secret(&self, namespace: &str, name: &str) -> Option<Result<Arc<UserSecret>, SecretError>> {
        self.secrets.get(namespace)?.get(name).cloned()
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.get(name).cloned()
    }

    fn oldest_kubelet(&self) -> Option<(u32, u32)> {
        self.nodes.values().filter_map(|node| version(&node.status.node_info.kubelet_version)).min()
    }
}

/// Whether the volume controller might bind a claim without a class to a volume, sizes and modes aside.
fn is_free_for(volume: &PersistentVolume, claim: &Claim, driver: &str) -> bool {
    let ours = volume.spec.csi.as_ref().is_some_and(|csi| csi.driver == driver);
    let selector = claim.spec.selector.as_ref();
    ours && volume.spec.claim_ref.is_none()
        && volume.spec.storage_class_name.is_empty()
        && selector.is_none_or(|selector| {
            let (labels, expressions) =
                (selector.match_labels.as_ref(), selector.match_expressions.as_deref());
            match_labels(labels, expressions, &volume.metadata.labels)
        })
}

/// Major and minor of `v1.36.2`, `1.29`, `v1.28.3-eks-1234`, `v1.30+`.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor.get(..digits)?.parse().ok()?))
}

/// RFC 3339 in UTC, so that text order is time order; empty in a manifest that was never applied.
fn created(object: &Object<'_>) -> String {
    let created = object.value.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    created.unwrap_or_default().to_owned()
}

/// Reads a Secret by hand, lest a message of a parser quote a value.
///
/// Secrets of all sorts are found in manifests: one that is not a user secret is an error only for who asks for it.
fn user_secret(object: &Object<'_>) -> Result<Result<Arc<UserSecret>, SecretError>, InputError> {
    let mut contents = BTreeMap::new();
    for (field, encoded) in [("data", true), ("stringData", false)] {
        let map = match object.value.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(map)) => map,
            Some(_) => return Err(object.error(&format!("/{field}"), "not a map of texts")),
        };
        for (key, value) in map {
            let text = match value {
                Value::Null => "",
                Value::String(text) => text,
                _ => {
                    let field = format!("/{field}/{}", escape(key));
                    return Err(object.error(&field, "not a text; write it in quotes"));
                }
            };
            let bytes = if encoded {
                // As the API server does: line breaks are not part of it.
                let packed: String = text.split(['\r', '\n']).collect();
                let Ok(bytes) = BASE64.decode(packed) else {
                    let what = "not base64; encode it, or move it to stringData".to_owned();
                    return Ok(Err(SecretError { key: key.clone(), what }));
                };
                bytes
            } else {
                text.as_bytes().to_vec()
            };
            contents.insert(key.clone(), bytes);
        }
    }
    Ok(UserSecret::parse(&contents).map(Arc::new))
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
            manifests.claim("team", "a").map(|claim| claim.metadata.namespace.clone()).as_deref(),
            Some("team")
        );
        assert!(manifests.claim("other", "a").is_some());
        assert!(manifests.claim("default", "a").is_none());
    }

    #[test]
    fn kinds_of_other_groups_are_not_taken() {
        let (manifests, _) =
            gather("apiVersion: example.com/v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\n");
        assert!(manifests.claim("team", "a").is_none());
    }

    #[test]
    fn the_default_class_is_the_newest_annotated_one() {
        let class = |name: &str, annotation: &str, created: &str| {
            format!(
                "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: {name}\n  \
                 creationTimestamp: {created}\n  annotations: {{{annotation}: \"true\"}}\n"
            )
        };
        let text = class("b", DEFAULT_CLASS[0], "2026-01-02T00:00:00Z")
            + &class("a", DEFAULT_CLASS[1], "2026-01-02T00:00:00Z")
            + &class("old", DEFAULT_CLASS[0], "2025-01-02T00:00:00Z")
            + &class("new", "unrelated", "2027-01-02T00:00:00Z");
        let (manifests, _) = gather(&text);
        assert_eq!(manifests.default_class().map(|class| class.metadata.name.clone()).as_deref(), Some("a"));
        let (manifests, _) = gather(&class("new", "unrelated", "2027-01-02T00:00:00Z"));
        assert!(manifests.default_class().is_none());
    }

    #[test]
    fn the_oldest_kubelet_counts_and_odd_versions_are_read() {
        let node = |name: &str, version: &str| {
            format!(
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{nodeInfo: {{kubeletVersion: {version}}}}}\n"
            )
        };
        let (manifests, _) =
            gather(&(node("a", "v1.30.1") + &node("b", "v1.9.11-eks-5") + &node("c", "unknown")));
        assert_eq!(manifests.oldest_kubelet(), Some((1, 9)));
        assert_eq!(gather("").0.oldest_kubelet(), None);
        for (text, expected) in
            [("v1.29", Some((1, 29))), ("1.30+", Some((1, 30))), ("1", None), ("v1.x", None)]
        {
            assert_eq!(version(text), expected, "{text}");
        }
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
            manifests.claim("team", "a").and_then(|claim| claim.spec.storage_class_name.clone()).as_deref(),
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
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: 12345\n";
        let documents = documents::parse("x.yaml", text).expect("readable");
        let error = Manifests::gather(&documents, "team").expect_err("not a text").to_string();
        assert_eq!(
            error,
            "x.yaml:5: document 1: Secret/s: stringData.password: not a text; write it in quotes"
        );
        let (manifests, _) =
            gather("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  password: hunter2!\n");
        let error = manifests.user_secret("team", "s").expect("known").expect_err("not base64").to_string();
        assert_eq!(error, "password: not base64; encode it, or move it to stringData");
    }
}
