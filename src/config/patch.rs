//! One item of `mountPodPatch`: the fields the Go driver knows, and ours.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1 as api,
    apimachinery::pkg::{
        api::resource::Quantity as ApiQuantity,
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
    },
};
use serde::{Deserialize, de::IgnoredAny};

use crate::volume::{
    cache::CacheSource,
    exit_order::ExitOrder,
    objects::Map,
    quantity::{Percentage, Quantity},
};

/// Changes to the clients of the claims and nodes it selects; `None` leaves a setting alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PatchItem {
    /// Which claims; absent means all.
    pub pvc_selector: Option<ClaimSelector>,
    /// Which nodes; absent means all.
    pub node_selector: Option<LabelSelector>,
    /// Image of the community client.
    pub ce_mount_image: Option<String>,
    /// Image of the enterprise client.
    pub ee_mount_image: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: Option<String>,
    /// Replaces the resources as a whole.
    pub resources: Option<api::ResourceRequirements>,
    /// Resources as shares of the application's.
    pub resource_percentages: Option<ResourcePercentages>,
    /// Come first and delete options of the same name from the volume.
    pub mount_options: Option<Vec<String>>,
    /// Environment of the client.
    pub env: Option<Vec<api::EnvVar>>,
    /// Cache directories beside those of the volume.
    pub cache_dirs: Option<Vec<CacheDirectoryPatch>>,
    /// Volumes for the client.
    pub volumes: Option<Vec<api::Volume>>,
    /// Mounts of volumes of the same item.
    pub volume_mounts: Option<Vec<api::VolumeMount>>,
    /// Block devices from volumes of the same item.
    pub volume_devices: Option<Vec<api::VolumeDevice>>,
    /// Liveness probe of the client.
    pub liveness_probe: Option<api::Probe>,
    /// Readiness probe of the client.
    pub readiness_probe: Option<api::Probe>,
    /// Startup probe of the client.
    pub startup_probe: Option<api::Probe>,
    /// Only its `preStop` can be kept.
    pub lifecycle: Option<api::Lifecycle>,
    /// Declares no port for the client.
    pub host_network: Option<bool>,
    /// Seconds the client may need to flush; raises the pod's own grace period.
    pub termination_grace_period_seconds: Option<u32>,
    /// How the exit of a client is ordered where native sidecars are missing.
    pub exit_order: Option<ExitOrder>,
    /// Reach the pod on VCI and CCI only.
    pub annotations: Option<Map>,

    labels: Option<IgnoredAny>,
    #[serde(rename = "hostPID")]
    host_pid: Option<IgnoredAny>,
    dns_config: Option<IgnoredAny>,
    dns_policy: Option<IgnoredAny>,
    hostname_key: Option<IgnoredAny>,
    init_containers: Option<IgnoredAny>,

    /// Fields with a template such as `${MOUNT_POINT}` somewhere in them.
    #[serde(skip)]
    pub(super) templated: Vec<&'static str>,
}

/// Which claims an item is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSelector {
    /// Labels with these values.
    pub match_labels: Option<Map>,
    /// Requirements on labels.
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
    /// The claim's name.
    pub match_name: Option<String>,
    /// The claim's class; labels are not looked at then.
    pub match_storage_class_name: Option<String>,
}

/// Resources of a client as shares of those of the containers that mount its volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", from = "WrittenPercentages")]
pub struct ResourcePercentages {
    /// Shares of the requests.
    pub requests: Shares,
    /// Shares of the limits.
    pub limits: Shares,
    /// Limits are not made smaller than this; by default 100m and 300Mi.
    pub min_limits: Floors,
    /// What could not be used of it, to be warned about.
    pub(super) faults: Vec<String>,
}

/// Shares of the resources there can be shares of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Of the CPU.
    pub cpu: Option<Percentage>,
    /// Of the memory.
    pub memory: Option<Percentage>,
}

/// The least a limit can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    /// Of CPU.
    pub cpu: Quantity,
    /// Of memory.
    pub memory: Quantity,
}

impl Default for Floors {
    fn default() -> Self {
        Self { cpu: Quantity::from_milli(100), memory: Quantity::from_mebi(300) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenPercentages {
    requests: Option<BTreeMap<String, String>>,
    limits: Option<BTreeMap<String, String>>,
    min_limits: Option<BTreeMap<String, ApiQuantity>>,
}

impl From<WrittenPercentages> for ResourcePercentages {
    /// As the Go driver does, a share that cannot be used is left out rather than failing the file.
    fn from(written: WrittenPercentages) -> Self {
        let mut faults = Vec::new();
        let mut shares = |field: &str, written: Option<BTreeMap<String, String>>| {
            let mut shares = Shares::default();
            for (resource, text) in written.into_iter().flatten() {
                let share = match text.parse() {
                    Ok(share) => share,
                    Err(error) => {
                        faults.push(format!("{field}.{resource}: {text:?} is {error}, ignored"));
                        continue;
                    }
                };
                match resource.as_str() {
                    "cpu" => shares.cpu = Some(share),
                    "memory" => shares.memory = Some(share),
                    _ => faults.push(format!("{field}.{resource}: only cpu and memory have shares, ignored")),
                }
            }
            shares
        };
        let (requests, limits) = (shares("requests", written.requests), shares("limits", written.limits));
        let mut min_limits = Floors::default();
        for (resource, quantity) in written.min_limits.into_iter().flatten() {
            // Decoding has checked that it is one.
            let floor = quantity.0.parse().unwrap_or(Quantity::ZERO);
            match resource.as_str() {
                "cpu" => min_limits.cpu = floor,
                "memory" => min_limits.memory = floor,
                _ => faults.push(format!("minLimits.{resource}: only cpu and memory have one, ignored")),
            }
        }
        Self { requests, limits, min_limits, faults }
    }
}

/// An item of `cacheDirs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenCacheDirectory")]
pub struct CacheDirectoryPatch {
    /// What is behind the directory.
    pub source: CacheSource,
    /// The directory of the node, for [`CacheSource::HostPath`]; else empty.
    pub path: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenCacheDirectory {
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
    name: Option<String>,
    medium: Option<String>,
    size_limit: Option<ApiQuantity>,
    access_modes: Option<Vec<String>>,
    storage_class_name: Option<String>,
    storage: Option<ApiQuantity>,
}

impl TryFrom<WrittenCacheDirectory> for CacheDirectoryPatch {
    type Error = String;

    fn try_from(written: WrittenCacheDirectory) -> Result<Self, String> {
        let required = |value: Option<String>, field: &str| {
            let missing = || format!("type {} needs the field {field}", written.kind);
            value.filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let source = match written.kind.as_str() {
            "HostPath" => {
                let path = required(written.path, "path")?;
                if !path.starts_with(['/', '$']) || path.split('/').any(|part| part == "..") {
                    return Err(format!("path {path:?} is not an absolute path without \"..\""));
                }
                return Ok(Self { source: CacheSource::HostPath, path });
            }
            "PVC" => CacheSource::Claim(required(written.name, "name")?),
            "EmptyDir" => CacheSource::EmptyDir(api::EmptyDirVolumeSource {
                medium: written.medium.filter(|medium| !medium.is_empty()),
                size_limit: written.size_limit,
            }),
            "Ephemeral" => {
                let storage = required(written.storage.map(|quantity| quantity.0), "storage")?;
                if !storage.parse::<Quantity>().is_ok_and(Quantity::is_positive) {
                    return Err(format!("storage {storage:?} is not greater than zero"));
                }
                CacheSource::Ephemeral(Box::new(ephemeral(
                    storage,
                    written.access_modes,
                    written.storage_class_name,
                )))
            }
            kind => return Err(format!("type {kind:?} is not one of HostPath, PVC, EmptyDir and Ephemeral")),
        };
        Ok(Self { source, path: String::new() })
    }
}

fn ephemeral(
    storage: String,
    modes: Option<Vec<String>>,
    class: Option<String>,
) -> api::EphemeralVolumeSource {
    let modes = modes.filter(|modes| !modes.is_empty()).unwrap_or_else(|| vec!["ReadWriteOnce".into()]);
    let requests = BTreeMap::from([("storage".to_owned(), ApiQuantity(storage))]);
    api::EphemeralVolumeSource {
        volume_claim_template: Some(api::PersistentVolumeClaimTemplate {
            metadata: None,
            spec: api::PersistentVolumeClaimSpec {
                access_modes: Some(modes),
                storage_class_name: class.filter(|class| !class.is_empty()),
                resources: Some(api::VolumeResourceRequirements { limits: None, requests: Some(requests) }),
                ..Default::default()
            },
        }),
    }
}

impl PatchItem {
    /// Fields that are set although nothing can come of them in a sidecar.
    pub(super) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        [
            ("labels", self.labels.is_some()),
            ("hostPID", self.host_pid.is_some()),
            ("dnsConfig", self.dns_config.is_some()),
            ("dnsPolicy", self.dns_policy.is_some()),
            ("hostnameKey", self.hostname_key.is_some()),
            ("initContainers", self.init_containers.is_some()),
        ]
        .into_iter()
        .filter_map(|(field, set)| set.then_some(field))
    }

    /// Volumes whose names are not taken by the client's own.
    pub(super) fn usable_volumes(&self) -> impl Iterator<Item = &api::Volume> {
        self.volumes.iter().flatten().filter(|volume| !is_reserved(&volume.name))
    }
}

/// Whether a volume name belongs to volumes the injector makes.
pub(super) fn is_reserved(name: &str) -> bool {
    // `update-db` is what the Go driver reserves, `updatedb` what it makes.
    const PREFIXES: [&str; 10] = [
        "rsa-key",
        "init-config",
        "config-",
        "jfs-dir",
        "update-db",
        "updatedb",
        "cachedir-",
        "jfs-check-mount",
        "hostpath-",
        "jfs-claim-",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
