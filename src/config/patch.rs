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

use super::{
    cache::{self, CacheDirectoryPatch},
    field::Field,
};
use crate::notation::{ExitOrder, OnCrash, Percentage, Quantity};

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
    #[serde(deserialize_with = "cache::known_directories")]
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
    /// What becomes of a mount whose client crashes, in resilient mode.
    pub on_crash: Option<OnCrash>,
    /// Reach the pod on VCI and CCI only.
    pub annotations: Option<BTreeMap<String, String>>,

    labels: Option<IgnoredAny>,
    #[serde(rename = "hostPID")]
    host_pid: Option<IgnoredAny>,
    dns_config: Option<IgnoredAny>,
    dns_policy: Option<IgnoredAny>,
    hostname_key: Option<IgnoredAny>,
    init_containers: Option<IgnoredAny>,
    priority_class_name: Option<IgnoredAny>,
    tolerations: Option<IgnoredAny>,
    affinity: Option<IgnoredAny>,
    service_account_name: Option<IgnoredAny>,
    image_pull_secrets: Option<IgnoredAny>,
    security_context: Option<IgnoredAny>,

    /// Fields with a template such as `${MOUNT_POINT}` somewhere in them.
    #[serde(skip)]
    pub(super) templated: Vec<Field>,
}

/// Which claims an item is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSelector {
    /// Labels with these values.
    pub match_labels: Option<BTreeMap<String, String>>,
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

impl PatchItem {
    /// Fields that are set although nothing can come of them in a sidecar.
    /// With what to do instead: the client is a container of the application's pod, and lives as that pod does.
    pub(super) fn without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [
            ("labels", &self.labels, "label the application's pod"),
            ("hostPID", &self.host_pid, "the client shares the application's pod"),
            ("dnsConfig", &self.dns_config, "set it in the application's pod"),
            ("dnsPolicy", &self.dns_policy, "set it in the application's pod"),
            ("hostnameKey", &self.hostname_key, "the client has the hostname of the application's pod"),
            ("initContainers", &self.init_containers, "add them to the application's pod"),
            (
                "priorityClassName",
                &self.priority_class_name,
                "the client has the priority of the application's pod",
            ),
            ("tolerations", &self.tolerations, "the client runs where the application's pod runs"),
            ("affinity", &self.affinity, "the client runs where the application's pod runs"),
            (
                "serviceAccountName",
                &self.service_account_name,
                "the client has the account of the application's pod",
            ),
            (
                "imagePullSecrets",
                &self.image_pull_secrets,
                "add them to the application's pod or its service account",
            ),
            ("securityContext", &self.security_context, "what the client may do is fixed by its profile"),
        ]
        .into_iter()
        .filter_map(|(field, set, instead)| set.is_some().then_some((field, instead)))
    }

    /// The fields that are set, of those that become settings.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        Field::ALL.iter().copied().filter(|field| match field {
            Field::CommunityImage => self.ce_mount_image.is_some(),
            Field::EnterpriseImage => self.ee_mount_image.is_some(),
            Field::ImagePullPolicy => self.image_pull_policy.is_some(),
            Field::Resources => self.resources.is_some(),
            Field::ResourcePercentages => self.resource_percentages.is_some(),
            Field::MountOptions => self.mount_options.is_some(),
            Field::Env => self.env.is_some(),
            Field::CacheDirs => self.cache_dirs.is_some(),
            Field::Volumes => self.volumes.is_some(),
            Field::VolumeMounts => self.volume_mounts.is_some(),
            Field::VolumeDevices => self.volume_devices.is_some(),
            Field::LivenessProbe => self.liveness_probe.is_some(),
            Field::ReadinessProbe => self.readiness_probe.is_some(),
            Field::StartupProbe => self.startup_probe.is_some(),
            Field::Lifecycle => self.lifecycle.is_some(),
            Field::HostNetwork => self.host_network.is_some(),
            Field::TerminationGracePeriodSeconds => self.termination_grace_period_seconds.is_some(),
            Field::ExitOrder => self.exit_order.is_some(),
            Field::OnCrash => self.on_crash.is_some(),
            Field::Annotations => self.annotations.is_some(),
        })
    }

    /// Volumes whose names are not taken by the client's own.
    pub(super) fn usable_volumes(&self) -> impl Iterator<Item = &api::Volume> {
        self.volumes.iter().flatten().filter(|volume| !is_reserved(&volume.name))
    }
}

/// Whether a volume name belongs to volumes the injector makes.
pub(super) fn is_reserved(name: &str) -> bool {
    // `update-db` is what the Go driver reserves, `updatedb` what it makes.
    const PREFIXES: [&str; 11] = [
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
        "jfs-shared-",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
