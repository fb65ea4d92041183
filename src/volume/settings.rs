//! The settings of one volume's client: every source of contract section 3, merged, with where each came from.

use std::fmt;

use k8s_openapi::api::core::v1 as api;

use super::cache::CacheDirectory;
pub use super::exit_order::ExitOrder;

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// A flag or environment variable of the process.
    Process,
    /// An attribute of the PersistentVolume, or a field of its spec.
    Volume(String),
    /// A parameter or field of the StorageClass, for a claim that is not bound yet.
    Class(String),
    /// An annotation of the claim.
    Claim(String),
    /// A key of the user secret.
    Secret(String),
    /// An item of `mountPodPatch` in the ConfigMap, counted from 0, and its field.
    Config(usize, String),
    /// An annotation or field of the pod.
    Pod(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("built-in default"),
            Self::Process => formatter.write_str("process flag or environment"),
            Self::Volume(key) => write!(formatter, "persistentvolume {key}"),
            Self::Class(key) => write!(formatter, "storageclass {key}"),
            Self::Claim(key) => write!(formatter, "claim annotation {key}"),
            Self::Secret(key) => write!(formatter, "user secret key {key}"),
            Self::Config(item, field) => write!(formatter, "configmap mountPodPatch[{item}].{field}"),
            Self::Pod(key) => write!(formatter, "pod {key}"),
        }
    }
}

/// One line of `explain`: a setting, its value, and where that came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The setting, for example `image` or `limits.cpu`.
    pub setting: &'static str,
    /// The value as text.
    pub value: String,
    /// Its source.
    pub source: Source,
}

/// Everything the planner needs to know about one volume's client, finally merged.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The client's image.
    pub image: String,
    /// `Always`, `IfNotPresent`, `Never`; `None` leaves it to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// Requests and limits of the sidecar.
    pub resources: api::ResourceRequirements,
    /// Mount options in their final order (patch first, then the volume's, `cache-dir` last);
    /// `subdir` is not among them but in `directory`, and `metrics` only if a user set it.
    pub options: Vec<String>,
    /// The directory of the file system to be mounted: `subdir` option and sub path joined.
    pub directory: Directory,
    /// Whether the volume is mounted read-only by its access modes.
    pub read_only: bool,
    /// `env` of the ConfigMap's patches.
    pub env: Vec<api::EnvVar>,
    /// `lifecycle` of the patches; its `preStop` is used verbatim.
    pub lifecycle: Option<api::Lifecycle>,
    /// `livenessProbe` of the patches.
    pub liveness_probe: Option<api::Probe>,
    /// `readinessProbe` of the patches.
    pub readiness_probe: Option<api::Probe>,
    /// `startupProbe` of the patches; replaces ours.
    pub startup_probe: Option<api::Probe>,
    /// `volumes` of the patches.
    pub volumes: Vec<api::Volume>,
    /// `volumeMounts` of the patches.
    pub volume_mounts: Vec<api::VolumeMount>,
    /// `volumeDevices` of the patches.
    pub volume_devices: Vec<api::VolumeDevice>,
    /// `labels` and `annotations` have no effect in a sidecar, except annotations on VCI and CCI.
    pub annotations: super::objects::Map,
    /// Cache directories (contract section 4), in the order of `cache-dir`.
    pub cache: Vec<CacheDirectory>,
    /// `juicefs/host-path`: host directories mounted at the same path (node profile only).
    pub host_paths: Vec<String>,
    /// `hostNetwork` of the patches: no declared port, metrics on any free one.
    pub host_network: bool,
    /// How the exit is ordered where native sidecars are missing; `None` when nobody configured it.
    pub exit_order: Option<ExitOrder>,
    /// Seconds the client may need to flush after the application has ended.
    pub flush_seconds: u32,
    /// Things worth telling the user: unknown fields, settings without effect, clamped values.
    pub warnings: Vec<String>,
    /// Where each setting came from, for `explain`.
    pub provenance: Vec<Provenance>,
}

/// A directory of the file system, as the `subdir` mount option names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Clean, without a trailing slash; empty for the root of the file system.
    pub path: String,
    /// For a generic ephemeral volume without `pathPattern`: the volume's name. The directory is then
    /// `<path>/ephemeral-<pod UID>-<volume>`, the UID filled in by the kubelet.
    pub ephemeral: Option<String>,
}
/// What the settings of one client are merged from.
pub struct Inputs<'a> {
    /// The claim and its volume.
    pub resolved: &'a super::Resolved,
    /// What the user secret says.
    pub secret: &'a super::UserSecret,
    /// The ConfigMap.
    pub config: &'a crate::config::Config,
    /// Flags and environment.
    pub process: &'a crate::config::Process,
    /// The pod.
    pub pod: &'a crate::pod::Pod<'a>,
    /// What is certain about the node's labels.
    pub node_labels: Option<&'a super::objects::Map>,
    /// Where the client mounts.
    pub mount_point: &'a str,
    /// Whether directories of the node may be mounted.
    pub host_directories: bool,
    /// Whether patch annotations reach the pod.
    pub annotates_pod: bool,
    /// Whether to collect where each setting came from.
    pub explain: bool,
}

/// Merges all sources. NB: being written.
pub fn settle(inputs: &Inputs<'_>) -> Result<Settings, crate::outcome::Refusal> {
    let directory = Directory {
        path: inputs.resolved.attributes.get("subPath").cloned().unwrap_or_default(),
        ephemeral: inputs.resolved.ephemeral_directory.clone(),
    };
    Ok(Settings {
        flush_seconds: 30,
        directory,
        image: inputs.process.community_image.clone(),
        ..Settings::default()
    })
}

impl fmt::Display for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(volume) = &self.ephemeral else { return formatter.write_str(&self.path) };
        let separator = if self.path.is_empty() { "" } else { "/" };
        write!(formatter, "{}{separator}ephemeral-<pod UID>-{volume}", self.path)
    }
}
