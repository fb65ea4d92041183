//! Behaviour: the ConfigMap (upstream schema) and what the process was told by flags and environment.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod agent;
mod cache;
mod check;
mod container;
mod decode;
mod field;
mod hooks;
mod merge;
mod patch;
mod select;
mod template;
mod tree;

use std::{cell::RefCell, collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, de::IgnoredAny};

pub use self::{
    agent::Agent,
    cache::{CacheDirectoryPatch, CacheSource},
    field::Field,
    hooks::sleeps_for_sure,
    merge::{Merged, Picked},
    patch::{ClaimSelector, Floors, PatchItem, ResourcePercentages, Shares},
    select::{Target, match_labels},
    template::Templates,
};
use crate::{
    notation::{Mode, Quantity, Version, mode},
    slip,
};

/// What flags and environment say; the same for every request.
#[derive(Clone, Debug)]
pub struct Process {
    /// The CSI driver name that makes a volume ours.
    pub driver: String,
    /// Image of the community client.
    pub community_image: String,
    /// Image of the enterprise client.
    pub enterprise_image: String,
    /// Image of the agent, for resilient mode.
    pub agent_image: String,
    /// Host directory below which the node profile mounts.
    pub mount_directory: String,
    /// The node's `/etc` cannot be written: no `updatedb` mount.
    pub immutable: bool,
    /// `auth` keeps the configuration of the console (`JFS_NO_UPDATE_CONFIG=enabled`).
    pub no_update_config: bool,
    /// Version of the cluster, if it is known; the nodes may be older.
    pub kubernetes: Option<Version>,
}

impl Process {
    /// Built in: the newest releases that version 0.31.9 of the JuiceFS CSI driver names as its own. No build of a day: a pod
    /// that is made again would have another client.
    pub const COMMUNITY_IMAGE: &str = "juicedata/mount:ce-v1.3.1";
    /// See [`Self::COMMUNITY_IMAGE`].
    pub const ENTERPRISE_IMAGE: &str = "juicedata/mount:ee-5.3.9-9d376a1";
    /// This release's own image, as `make image` names it: agent and program belong together.
    pub const AGENT_IMAGE: &str = concat!("juicefs-sidecar:", env!("CARGO_PKG_VERSION"));
}

impl Default for Process {
    fn default() -> Self {
        Self {
            driver: "csi.juicefs.com".into(),
            community_image: Self::COMMUNITY_IMAGE.into(),
            enterprise_image: Self::ENTERPRISE_IMAGE.into(),
            agent_image: Self::AGENT_IMAGE.into(),
            mount_directory: "/var/lib/juicefs/volume".into(),
            immutable: false,
            no_update_config: false,
            kubernetes: None,
        }
    }
}

/// The ConfigMap's `config.yaml`, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The kind of sidecars, unless something narrower says another.
    pub mode: Option<Mode>,
    /// The agent's container.
    pub agent: Agent,
    /// Overrides the decision by version.
    pub enable_native_sidecar: Option<bool>,
    /// Whether volumes get a quota.
    pub enable_set_quota: bool,
    /// Whether the controller sets it when it provisions.
    pub enable_controller_set_quota: bool,
    /// Whether a claim's annotations may set everything the volume's attributes may: whoever may create claims
    /// can then run any image and mount any host directory in a privileged container.
    pub allow_unsafe_claim_annotations: bool,
    /// The most a claim's annotations may ask for.
    pub claim_annotation_limits: ClaimAnnotationLimits,
    /// Whether pods on virtual nodes keep their claims.
    pub claim_reference: ClaimReference,
    /// Native sidecars of others that start before the clients, because the clients need them: a service mesh's
    /// proxy.
    pub after: Vec<String>,
    /// Items of `mountPodPatch`, in their order.
    pub patches: Vec<PatchItem>,
    /// Identifies the contents, for the status annotation; empty without a ConfigMap.
    pub revision: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: None,
            agent: Agent::default(),
            enable_native_sidecar: None,
            enable_set_quota: true,
            enable_controller_set_quota: true,
            allow_unsafe_claim_annotations: false,
            claim_annotation_limits: ClaimAnnotationLimits::default(),
            claim_reference: ClaimReference::default(),
            after: Vec::new(),
            patches: Vec::new(),
            revision: String::new(),
        }
    }
}

/// `claimReference`: what becomes of the claim in a pod of the serverless profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ClaimReference {
    /// It stays, in a volume that nobody mounts: Kubernetes goes on protecting it.
    #[default]
    Keep,
    /// It goes: for virtual nodes that refuse a volume they cannot mount, mounted or not.
    Drop,
}

impl TryFrom<String> for ClaimReference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "keep" => Ok(Self::Keep),
            "drop" => Ok(Self::Drop),
            other => Err(format!("{other:?} is neither keep nor drop")),
        }
    }
}

/// `pvcAnnotationLimits`; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimAnnotationLimits {
    /// Of CPU.
    pub cpu: Option<Quantity>,
    /// Of memory.
    pub memory: Option<Quantity>,
}

/// Why a ConfigMap cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line in `config.yaml`, from 1.
    pub line: Option<u64>,
    /// The field, for example `mountPodPatch[0].resources.limits.cpu`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Config::KEY)?;
        if let Some(line) = self.line {
            write!(formatter, " line {line}")?;
        }
        if !self.field.is_empty() {
            write!(formatter, ": {}", self.field)?;
        }
        write!(formatter, ": {}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// The error, with the slip that may have led to it: a field of the same place that nobody knows.
    fn beside(self, notes: &[String]) -> Self {
        let (place, _) = self.field.rsplit_once('.').unwrap_or_default();
        let slip = notes.iter().find(|note| !place.is_empty() && note.contains(&format!(": {place}.")));
        let remedy = match slip {
            Some(slip) => format!("{} ({slip})", self.remedy),
            None => self.remedy,
        };
        Self { remedy, ..self }
    }
}

/// The top level as it is written.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    mode: Option<String>,
    agent: Option<Agent>,
    enable_native_sidecar: Option<bool>,
    enable_set_quota: Option<bool>,
    enable_controller_set_quota: Option<bool>,
    #[serde(rename = "allowUnsafePVCAnnotations")]
    allow_unsafe_pvc_annotations: Option<bool>,
    pvc_annotation_limits: Option<WrittenLimits>,
    after: Option<Vec<String>>,
    claim_reference: Option<ClaimReference>,
    mount_pod_patch: Option<Vec<PatchItem>>,

    enable_node_selector: Option<IgnoredAny>,
    enable_auto_remove_request_resources: Option<IgnoredAny>,
    enable_auto_abort_stuck_mount_pod: Option<IgnoredAny>,
    enable_lazy_umount_target: Option<IgnoredAny>,
    enable_kubelet_list_mount_pod: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenLimits {
    cpu: Option<ApiQuantity>,
    memory: Option<ApiQuantity>,
}

impl Config {
    /// The key of the ConfigMap that holds it.
    pub const KEY: &str = "config.yaml";

    /// Reads the text of `config.yaml`, and what there is to say about it.
    ///
    /// Field names match in any case, and unknown fields are not an error, as in the Go driver; a value that cannot be
    /// used fails the whole file.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let (first, next) = tree::first_document(text);
        let mut root = tree::parse(first)?;
        let is_chart = root.unwrap_chart();
        let notes = RefCell::new(Vec::new());
        let document: Document = decode::decode(&root, &notes)?;
        let mut warnings = notes.into_inner();
        if is_chart {
            warnings.push(format!(
                "{CHART}: these are values of the driver's chart; what is below this key is read"
            ));
        }
        if let Some(line) = next {
            warnings.push(format!("line {line}: a second document begins, ignored"));
        }
        warnings.extend(document.without_effect().map(|field| format!("{field}: has no effect on sidecars")));

        let mode = document.mode.as_deref().map(str::parse).transpose();
        let mode = mode.map_err(|error| ConfigError {
            line: root.field("mode").map(|node| node.line),
            field: "mode".into(),
            what: format!("{:?} is {error}", document.mode.as_deref().unwrap_or_default()),
            remedy: mode::GRAMMAR.into(),
        })?;
        let agent = document.agent.unwrap_or_default();
        check::agent(&agent, root.field("agent"))?;
        let mut patches = document.mount_pod_patch.unwrap_or_default();
        let written = root.field("mountPodPatch").map_or(&[][..], tree::Node::items);
        for (index, item) in patches.iter_mut().enumerate() {
            let node = written.get(index);
            warnings.extend(node.into_iter().flat_map(|node| unknown_cache_directories(index, node)));
            let checked = check::check(index, item, node).map_err(|error| error.beside(&warnings))?;
            warnings.extend(checked);
            item.templated = node.map(templated_fields).unwrap_or_default();
            if let Some(node) = node.filter(|node| node.any_text(&below_itself)) {
                warnings.push(format!(
                    "line {}: mountPodPatch[{index}]: {BELOW_ITSELF} is only there if the volume has no sub path, which \
                     a sidecar mounts itself; write ${{MOUNT_POINT}}",
                    node.line
                ));
            }
        }
        for warning in &mut warnings {
            warning.insert_str(0, "config.yaml: ");
        }

        let limits = document.pvc_annotation_limits.unwrap_or_default();
        let config = Self {
            mode,
            agent,
            enable_native_sidecar: document.enable_native_sidecar,
            enable_set_quota: document.enable_set_quota.unwrap_or(true),
            enable_controller_set_quota: document.enable_controller_set_quota.unwrap_or(true),
            allow_unsafe_claim_annotations: document.allow_unsafe_pvc_annotations.unwrap_or(false),
            claim_annotation_limits: ClaimAnnotationLimits {
                // Decoding has checked that they are quantities.
                cpu: limits.cpu.and_then(|quantity| quantity.0.parse().ok()),
                memory: limits.memory.and_then(|quantity| quantity.0.parse().ok()),
            },
            claim_reference: document.claim_reference.unwrap_or_default(),
            after: document.after.unwrap_or_default(),
            patches,
            revision: revision(text),
        };
        Ok((config, warnings))
    }

    /// Whether clients may mount other directories than their volumes say: where a `subdir` is among the mount options
    /// of a patch.
    pub fn moves_volumes(&self) -> bool {
        let options = self.patches.iter().filter_map(|patch| patch.mount_options.as_ref()).flatten();
        let mut options = options.flat_map(|option| option.split(','));
        options.any(|option| option.split('=').next().unwrap_or_default().trim() == "subdir")
    }

    /// Reads the data of the ConfigMap object.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<(Self, Vec<String>), ConfigError> {
        match (data.get(Self::KEY), data.keys().next()) {
            (Some(text), _) => Self::parse(text),
            (None, None) => Ok((Self::default(), Vec::new())),
            (None, Some(other)) => Err(ConfigError {
                line: None,
                field: String::new(),
                what: format!("the configmap has a key {other:?} but none of this name"),
                remedy: format!("put the configuration under the key {}", Self::KEY),
            }),
        }
    }
}

impl Document {
    fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        [
            ("enableNodeSelector", self.enable_node_selector.is_some()),
            ("enableAutoRemoveRequestResources", self.enable_auto_remove_request_resources.is_some()),
            ("enableAutoAbortStuckMountPod", self.enable_auto_abort_stuck_mount_pod.is_some()),
            ("enableLazyUmountTarget", self.enable_lazy_umount_target.is_some()),
            ("enableKubeletListMountPod", self.enable_kubelet_list_mount_pod.is_some()),
        ]
        .into_iter()
        .filter_map(|(field, set)| set.then_some(field))
    }
}

/// The Go driver's documentation probes this path; its clients in pods of their own mount the whole file system.
const BELOW_ITSELF: &str = "${MOUNT_POINT}/${SUB_PATH}";

/// The key under which the values of the Go driver's chart have its configuration.
const CHART: &str = "globalConfig";

/// Notes about cache directories that were skipped.
fn unknown_cache_directories(index: usize, item: &tree::Node) -> impl Iterator<Item = String> {
    let directories = item.field("cacheDirs").map_or(&[][..], tree::Node::items).iter().enumerate();
    directories.filter_map(move |(position, node)| {
        let kind = node.field("type").and_then(|kind| kind.value.scalar_text()).unwrap_or_default();
        let types = cache::TYPES;
        (!types.contains(&kind.as_str())).then(|| {
            let hint = slip::meant(&kind, &types, slip::LIKELY).map(|meant| format!("; did you mean {meant}?"));
            format!(
                "line {}: mountPodPatch[{index}].cacheDirs[{position}]: type {kind:?} is not one of {}, ignored{}",
                node.line,
                types.join(", "),
                hint.unwrap_or_default()
            )
        })
    })
}

fn below_itself(text: &str) -> bool {
    text.contains(BELOW_ITSELF)
}

/// Which fields of an item have a template in them.
fn templated_fields(item: &tree::Node) -> Vec<Field> {
    let has_template =
        |field: &Field| item.field(field.as_str()).is_some_and(|node| node.any_text(&template::has_template));
    Field::ALL.iter().copied().filter(|field| field.takes_templates()).filter(has_template).collect()
}

/// FNV-1a, 64 bits: the same for every build and replica, which the standard library's hasher does not promise.
fn revision(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
