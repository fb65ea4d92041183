//! Nodes, as far as it matters here what they are.

use std::sync::Arc;

use serde::Deserialize;

use super::objects::Metadata;
use crate::{
    notation::Version,
    pod::{bounded, lenient::or_default},
};

/// The first release whose kubelets know native sidecars by default.
pub const NATIVE_SINCE: Version = Version::new(1, 29);

/// Systems whose `/etc` cannot be written, as their `osImage` begins.
const READ_ONLY_SYSTEMS: [&str; 2] = ["Talos", "Bottlerocket"];

/// A Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name, labels and annotations.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// The range of pod addresses, and what keeps pods away.
    #[serde(deserialize_with = "or_default")]
    pub spec: NodeSpec,
    /// What software it runs.
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// Spec of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// For example `10.244.1.0/24`.
    #[serde(deserialize_with = "or_default", rename = "podCIDR")]
    pub pod_cidr: Arc<str>,
    /// What pods have to tolerate.
    #[serde(deserialize_with = "bounded::list_or_empty::<256, _, _>")]
    pub taints: Vec<Taint>,
}

/// What keeps pods away that do not tolerate it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// For example `node-role.kubernetes.io/control-plane`.
    #[serde(deserialize_with = "or_default")]
    pub key: Arc<str>,
    /// Often empty.
    #[serde(deserialize_with = "or_default")]
    pub value: Arc<str>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    #[serde(deserialize_with = "or_default")]
    pub effect: Arc<str>,
}

impl bounded::Element for Taint {}

/// Status of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// The software on the node.
    #[serde(deserialize_with = "or_default")]
    pub node_info: NodeInfo,
}

/// `status.nodeInfo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeInfo {
    /// For example `v1.36.2`; that of a virtual node is its own software's.
    #[serde(deserialize_with = "or_default")]
    pub kubelet_version: Arc<str>,
    /// `linux` or `windows`.
    #[serde(deserialize_with = "or_default")]
    pub operating_system: Arc<str>,
    /// For example `Talos (v1.10.5)`.
    #[serde(deserialize_with = "or_default")]
    pub os_image: Arc<str>,
    /// For example `amd64`.
    #[serde(deserialize_with = "or_default")]
    pub architecture: Arc<str>,
}

impl Node {
    /// The kubelet's version, if the node has said it.
    pub fn kubelet(&self) -> Option<Version> {
        self.status.node_info.kubelet_version.parse().ok()
    }

    /// The kubelet's version, where it is too old for native sidecars.
    pub fn kubelet_before_native(&self) -> Option<Version> {
        self.kubelet().filter(|version| *version < NATIVE_SINCE)
    }

    /// Whether nothing can be made in the node's `/etc`.
    pub fn has_read_only_etc(&self) -> bool {
        let image = &self.status.node_info.os_image;
        READ_ONLY_SYSTEMS.iter().any(|system| image.starts_with(system))
    }

    /// Whether it decides anything about pods that may run on it; most nodes do not.
    pub(super) fn is_remarkable(&self) -> bool {
        self.kubelet_before_native().is_some() || self.has_read_only_etc()
    }
}
