//! Pods as far as the controller reads them.

use kube::core::Object;
use serde::Deserialize;

/// A pod.
pub type SlimPod = Object<Spec, Status>;

/// The fields of a pod's spec that are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Where it runs.
    pub node_name: Option<String>,
    /// `Always` unless it says otherwise.
    pub restart_policy: Option<String>,
    /// Its volumes.
    pub volumes: Option<Vec<Volume>>,
    /// Containers that run before the others, or beside them.
    pub init_containers: Option<Vec<Container>>,
    /// Containers that the pod is for.
    pub containers: Option<Vec<Container>>,
}

/// The fields of a pod's status that are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// Where it is in its life.
    pub phase: String,
    /// How its init containers are.
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    /// How its other containers are.
    pub container_statuses: Option<Vec<ContainerStatus>>,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: String,
    /// In place of the pod's, if it has one of its own.
    pub restart_policy: Option<String>,
    /// Exit codes that are exceptions from it.
    pub restart_policy_rules: Option<Vec<RestartRule>>,
    /// What is mounted into it.
    pub volume_mounts: Option<Vec<VolumeMount>>,
}

/// A mount of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// The volume's name.
    pub name: String,
}

/// What a container does after some exit codes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RestartRule {
    /// `Restart`, or what later releases know.
    pub action: String,
    /// Which exit codes.
    pub exit_codes: Option<ExitCodes>,
}

/// Some exit codes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExitCodes {
    /// `In` or `NotIn`.
    pub operator: String,
    /// Which.
    pub values: Option<Vec<i32>>,
}

/// How a container is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Running, or not.
    pub state: Option<State>,
}

/// One of three.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// It does not run yet, or not again.
    pub waiting: Option<Waiting>,
    /// It runs.
    pub running: Option<serde::de::IgnoredAny>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// Why a container does not run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// In one word.
    pub reason: String,
    /// In more.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// With this code.
    pub exit_code: i32,
}

/// A volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// A claim.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// A directory of the node.
    pub host_path: Option<HostPath>,
    /// A claim that is made for the pod.
    pub ephemeral: Option<serde::de::IgnoredAny>,
    /// Files made of the pod's own fields.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardApi>,
}

/// A directory of the node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HostPath {
    /// Where.
    pub path: String,
}

/// A claim by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource {
    /// Its name.
    pub claim_name: String,
}

/// Files made of fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardApi {
    /// One file each.
    pub items: Option<Vec<DownwardFile>>,
}

/// A file made of a field.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardFile {
    /// The field.
    pub field_ref: Option<FieldReference>,
}

/// A field of the pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FieldReference {
    /// Where it is.
    pub field_path: String,
}
