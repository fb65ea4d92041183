//! A lean, borrowed view of a Pod: what the engine reads and nothing else.
//!
//! Parsing skips every field not named here, so that the cost of a pod is that of scanning its text. Lists and
//! maps are `Option`s because a patch has to know whether they exist (`null` counts as absent).
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod affinity;
mod annotations;
pub(crate) mod bounded;
mod container;
pub mod labels;
pub(crate) mod lenient;
mod text;
mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

pub use self::{
    affinity::{Affinity, NodeAffinity, NodeRequirement, NodeSelector, NodeSelectorTerm, Toleration},
    annotations::Annotations,
    container::{Container, Port, Resources, VolumeDevice, VolumeMount},
    lenient::Amount,
    text::Text,
    volume::{
        ClaimSource, ClaimTemplate, ClaimTemplateMetadata, ClaimTemplateSpec, EphemeralSource,
        HostPathSource, InlineSource, Volume,
    },
};
use self::{bounded::Element, lenient::or_default};

/// How many containers of each kind are read; a pod of any real size has a tenth of them.
pub const MOST_CONTAINERS: usize = 512;

/// A pod, or the pod template of a workload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod<'a> {
    /// Name, labels and annotations.
    #[serde(borrow, deserialize_with = "present")]
    pub metadata: Metadata<'a>,
    /// Containers and volumes.
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: Spec<'a>,
}

/// The metadata of a pod that matter here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata<'a> {
    /// Whether the pod (template) has any metadata at all.
    #[serde(skip)]
    pub present: bool,
    /// Empty at admission when the API server is to generate it.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// The prefix of a name to be generated.
    #[serde(borrow)]
    pub generate_name: Option<Text<'a>>,
    /// Often empty at admission; the request then says it.
    #[serde(borrow)]
    pub namespace: Option<Text<'a>>,
    /// Set once the pod exists.
    #[serde(borrow)]
    pub uid: Option<Text<'a>>,
    /// The labels with a meaning here.
    #[serde(borrow)]
    pub labels: Option<Labels<'a>>,
    /// The annotations with a meaning here.
    #[serde(borrow)]
    pub annotations: Option<Annotations<'a>>,
    /// Who made the pod.
    #[serde(borrow, deserialize_with = "bounded::list::<256, _, _>")]
    pub owner_references: Option<Vec<OwnerReference<'a>>>,
}

/// Pod labels with a meaning here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels<'a> {
    /// Written by the injector.
    #[serde(borrow, rename = "done.sidecar.juicefs.com/inject")]
    pub done: Option<Text<'a>>,
    /// Set by a user to opt out.
    #[serde(borrow, rename = "disable.sidecar.juicefs.com/inject")]
    pub disable: Option<Text<'a>>,
    /// Huawei CCI's burst mark.
    #[serde(borrow, rename = "virtual-kubelet.io/burst-to-cci")]
    pub burst_to_cci: Option<Text<'a>>,
}

/// An owner of the pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OwnerReference<'a> {
    /// For example `ReplicaSet`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub kind: Text<'a>,
    /// The owner's name.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
    /// Whether this owner makes the pod again when it fails.
    #[serde(deserialize_with = "or_default")]
    pub controller: bool,
}

/// The pod spec fields that matter here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec<'a> {
    /// Volumes in the order of the pod.
    #[serde(borrow, deserialize_with = "bounded::list::<1024, _, _>")]
    pub volumes: Option<Vec<Volume<'a>>>,
    /// Init containers, native sidecars among them.
    #[serde(borrow, deserialize_with = "bounded::list::<MOST_CONTAINERS, _, _>")]
    pub init_containers: Option<Vec<Container<'a>>>,
    /// Application containers.
    #[serde(borrow, deserialize_with = "bounded::list_or_empty::<MOST_CONTAINERS, _, _>")]
    pub containers: Vec<Container<'a>>,
    /// Ephemeral containers; only their names matter.
    #[serde(borrow, deserialize_with = "bounded::list::<MOST_CONTAINERS, _, _>")]
    pub ephemeral_containers: Option<Vec<Container<'a>>>,
    /// Secrets with which the node pulls images.
    #[serde(borrow, deserialize_with = "bounded::list::<1024, _, _>")]
    pub image_pull_secrets: Option<Vec<Named<'a>>>,
    /// Rarely set at admission.
    #[serde(borrow)]
    pub node_name: Option<Text<'a>>,
    /// Labels the node must have.
    #[serde(borrow, deserialize_with = "bounded::map::<1024, _, _, _>")]
    pub node_selector: Option<BTreeMap<Text<'a>, Text<'a>>>,
    /// Only its node affinity is read.
    #[serde(borrow)]
    pub affinity: Option<Affinity<'a>>,
    /// Taints of nodes that do not keep the pod away.
    #[serde(borrow, deserialize_with = "bounded::list::<1024, _, _>")]
    pub tolerations: Option<Vec<Toleration<'a>>>,
    /// Requests and limits of the pod as a whole.
    #[serde(borrow)]
    pub resources: Option<Resources<'a>>,
    /// What runs the pod's containers, where it is not the node's usual runtime.
    #[serde(borrow)]
    pub runtime_class_name: Option<Text<'a>>,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(deserialize_with = "lenient::whole")]
    pub termination_grace_period_seconds: Option<i64>,
    /// `Always`, `OnFailure` or `Never`.
    #[serde(borrow)]
    pub restart_policy: Option<Text<'a>>,
    /// Whether ports are the node's.
    #[serde(deserialize_with = "or_default")]
    pub host_network: bool,
    /// The operating system the pod asks for.
    #[serde(borrow)]
    pub os: Option<OperatingSystem<'a>>,
    /// `false` puts the pod into a user namespace of its own.
    pub host_users: Option<bool>,
    /// Pod-wide settings that a privileged container has to override.
    pub security_context: Option<PodSecurity>,
}

/// `spec.securityContext`: only what is set matters, not to what.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSecurity {
    /// Whether there is a seccomp profile for all containers.
    #[serde(deserialize_with = "is_set")]
    pub seccomp_profile: bool,
    /// Whether there is an AppArmor profile for all containers.
    #[serde(deserialize_with = "is_set")]
    pub app_armor_profile: bool,
    /// Whether there are settings for Windows.
    #[serde(deserialize_with = "is_set")]
    pub windows_options: bool,
}

/// What has a name, of which no more is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named<'a> {
    /// Of an object in the pod's namespace.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
}

impl Element for Named<'_> {}

/// `spec.os`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OperatingSystem<'a> {
    /// `linux` or `windows`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
}

impl Element for OwnerReference<'_> {}

impl Spec<'_> {
    /// Containers that run the application or prepare it, init containers first.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container<'_>> {
        self.init_containers.iter().flatten().chain(&self.containers)
    }
}

/// Reads any value as `true` and `null` as `false`.
fn is_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<de::IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// Reads metadata and remembers that there were some.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata<'de>, D::Error> {
    let metadata = Option::<Metadata<'de>>::deserialize(deserializer)?;
    Ok(metadata.map(|metadata| Metadata { present: true, ..metadata }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn null_is_read_as_absent() {
        let text = r#"{"metadata":null,"spec":{"volumes":null,"containers":null,"hostNetwork":null}}"#;
        let pod: Pod<'_> = serde_json::from_str(text).unwrap();
        assert!(!pod.metadata.present);
        assert!(pod.spec.volumes.is_none());
        assert!(pod.spec.containers.is_empty());
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let pod: Pod<'_> =
            serde_json::from_str(r#"{"metadata":{"name":"a","namespace":"b\u00e9"}}"#).unwrap();
        assert!(pod.metadata.present);
        assert!(matches!(pod.metadata.name, Some(Text(Cow::Borrowed("a")))));
        assert!(matches!(pod.metadata.namespace, Some(Text(Cow::Owned(_)))));
    }

    #[test]
    fn a_view_can_be_taken_of_a_parsed_value() {
        let value = serde_json::json!({"spec": {"volumes": [{"name": "v", "ephemeral": {"x": 1}}]}});
        let pod = Pod::deserialize(&value).unwrap();
        assert!(pod.spec.volumes.unwrap()[0].ephemeral.is_some());
    }
}
