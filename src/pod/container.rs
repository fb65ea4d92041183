//! Containers of a pod.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Amount, Text,
    bounded::{self, Element, length, size},
    lenient::{self, or_default},
};

/// A container of any of the three lists.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container<'a> {
    /// Unique in the pod.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
    /// `Always` makes an init container a native sidecar.
    #[serde(borrow)]
    pub restart_policy: Option<Text<'a>>,
    /// Declared ports.
    #[serde(borrow, deserialize_with = "bounded::list::<2048, _, _>")]
    pub ports: Option<Vec<Port<'a>>>,
    /// Mounts in their order.
    #[serde(borrow, deserialize_with = "bounded::list::<2048, _, _>")]
    pub volume_mounts: Option<Vec<VolumeMount<'a>>>,
    /// Block devices; a JuiceFS volume cannot be one.
    #[serde(borrow, deserialize_with = "bounded::list::<2048, _, _>")]
    pub volume_devices: Option<Vec<VolumeDevice<'a>>>,
    /// Requests and limits, for `resourcePercentages`.
    #[serde(borrow)]
    pub resources: Option<Resources<'a>>,
}

/// `containers[].ports[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Port<'a> {
    /// What a Service may call the port.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// 1 to 65535.
    #[serde(deserialize_with = "lenient::port")]
    pub container_port: Option<u16>,
    /// The node's port.
    #[serde(deserialize_with = "lenient::port")]
    pub host_port: Option<u16>,
}

/// `containers[].resources`, and `spec.resources` of the pod as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources<'a> {
    /// Quantities by resource name.
    #[serde(borrow, deserialize_with = "bounded::map::<256, _, _, _>")]
    pub requests: Option<BTreeMap<Text<'a>, Amount<'a>>>,
    /// Quantities by resource name.
    #[serde(borrow, deserialize_with = "bounded::map::<256, _, _, _>")]
    pub limits: Option<BTreeMap<Text<'a>, Amount<'a>>>,
}

/// `containers[].volumeDevices[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VolumeDevice<'a> {
    /// Name of the volume.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
}

/// `containers[].volumeMounts[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeMount<'a> {
    /// Name of the volume.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
    /// Where in the container.
    #[serde(borrow, deserialize_with = "or_default")]
    pub mount_path: Text<'a>,
    /// Absent means writable.
    pub read_only: Option<bool>,
    /// A directory of the volume, in place of its root.
    #[serde(borrow)]
    pub sub_path: Option<Text<'a>>,
    /// The same with variables of the container; never together with `subPath`.
    #[serde(borrow)]
    pub sub_path_expr: Option<Text<'a>>,
    /// `None`, `HostToContainer` or `Bidirectional`.
    #[serde(borrow)]
    pub mount_propagation: Option<Text<'a>>,
    /// `Disabled`, `IfPossible` or `Enabled`.
    #[serde(borrow)]
    pub recursive_read_only: Option<Text<'a>>,
}

impl VolumeMount<'_> {
    /// Whether what is mounted below is to be read-only too, which Kubernetes allows without propagation only.
    pub fn is_read_only_all_the_way(&self) -> bool {
        matches!(self.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"))
    }
}

impl Element for Port<'_> {}
impl Element for VolumeDevice<'_> {}
impl Element for VolumeMount<'_> {}

impl Element for Container<'_> {
    fn held(&self) -> usize {
        let quantities = self
            .resources
            .as_ref()
            .map_or(0, |resources| size(resources.requests.as_ref()) + size(resources.limits.as_ref()));
        quantities
            + length(self.ports.as_ref())
            + length(self.volume_mounts.as_ref())
            + length(self.volume_devices.as_ref())
    }
}
