//! The settings of one volume's client: every source, merged, with where each value came from.

mod choice;

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1 as api;

use super::{
    attributes::{self, Origin},
    cache::{self, CacheDirectory},
    options,
    resolved::{EPHEMERAL_DIRECTORY, Resolved},
    resources,
    secret::{Edition, UserSecret},
};
use crate::{
    config::{Config, Merged, Picked, Process, Target, Templates},
    map::Map,
    notation::{ExitOrder, Mode, OnCrash},
    outcome::{Code, Refusal},
    pod::Pod,
};

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// Built in for pods that cannot have resilient mode, and why they cannot.
    Fallback(String),
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
    /// Another field of the ConfigMap.
    Setting(&'static str),
    /// A label of the pod's namespace.
    Namespace(&'static str),
    /// An annotation or field of the pod.
    Pod(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("built-in default"),
            Self::Fallback(why) => {
                write!(formatter, "built-in default where resilient mode cannot be: {why}")
            }
            Self::Process => formatter.write_str("process flag or environment"),
            Self::Volume(key) => write!(formatter, "persistentvolume {key}"),
            Self::Class(key) => write!(formatter, "storageclass {key}"),
            Self::Claim(key) => write!(formatter, "claim annotation {key}"),
            Self::Secret(key) => write!(formatter, "user secret key {key}"),
            Self::Config(item, field) => write!(formatter, "configmap mountPodPatch[{item}].{field}"),
            Self::Setting(field) => write!(formatter, "configmap {field}"),
            Self::Namespace(key) => write!(formatter, "namespace label {key}"),
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
    /// Whether the volume is mounted read-only, by its access modes or an option.
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
    pub annotations: BTreeMap<String, String>,
    /// Cache directories, in the order their volumes are numbered.
    pub cache: Vec<CacheDirectory>,
    /// `juicefs/host-path`: host directories mounted at the same path (node profile only).
    pub host_paths: Vec<String>,
    /// `hostNetwork` of the patches: no declared port, metrics on any free one.
    pub host_network: bool,
    /// How the exit is ordered where native sidecars are missing; `None` when nobody configured it.
    pub exit_order: Option<ExitOrder>,
    /// What becomes of the mount when its client crashes, in resilient mode.
    pub on_crash: OnCrash,
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

impl fmt::Display for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(volume) = &self.ephemeral else { return formatter.write_str(&self.path) };
        let separator = if self.path.is_empty() { "" } else { "/" };
        write!(formatter, "{}{separator}{EPHEMERAL_DIRECTORY}<pod UID>-{volume}", self.path)
    }
}

/// Seconds a client gets to flush unless configured.
pub const DEFAULT_FLUSH_SECONDS: u32 = 30;

/// Everything the settings of one volume's client come from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The claim and the volume behind it.
    pub resolved: &'a Resolved,
    /// The user secret; its edition and file system name matter here.
    pub secret: &'a UserSecret,
    /// The ConfigMap.
    pub config: &'a Config,
    /// Flags and environment.
    pub process: &'a Process,
    /// The pod, for shares of its resources and its annotation.
    pub pod: &'a Pod<'a>,
    /// Labels of the node, as far as the pod says where it will run.
    pub node_labels: Option<&'a Map>,
    /// Where the client mounts, in its own container.
    pub mount_point: &'a str,
    /// Whether directories of the node may be mounted: in the node profile only.
    pub host_directories: bool,
    /// Kind of sidecar: in resilient mode the client is not root, and has no cache where root has one.
    pub mode: Mode,
    /// Whether annotations for the client reach the pod: on VCI and CCI only.
    pub annotates_pod: bool,
    /// Whether [`Settings::provenance`] is wanted.
    pub explain: bool,
}

/// The inputs, looked up and merged as far as every setting needs it, and what there is to say on the way.
pub(super) struct Sources<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) patch: Merged<'a>,
    pub(super) templates: Templates<'a>,
    /// Whether the access modes allow nothing but reading.
    pub(super) only_reads: bool,
    pub(super) warnings: Vec<String>,
    provenance: Vec<Provenance>,
}

/// Merges every source into the settings of one volume's client.
///
/// Built-in defaults < process < volume (or class) < claim annotations < ConfigMap, but for exit order and crashes,
/// which the ConfigMap only gives a default for and the pod has the last word on.
pub fn settle(inputs: &Inputs<'_>) -> Result<Settings, Refusal> {
    let mut sources = Sources::gather(inputs);
    sources.check_attributes()?;
    let image = sources.image();
    let (resources, memory) = resources::settle(&mut sources)?;
    let mut options = options::settle(&mut sources, memory)?;
    let cache = cache::settle(&mut sources, &mut options.list)?;
    for option in &options.list {
        sources.explain("option", option.origin, || option.text.clone().into_owned());
    }
    let host_paths = cache::host_paths(&mut sources, &cache)?;
    let (volumes, volume_mounts, volume_devices) = sources.volumes();
    Ok(Settings {
        image,
        image_pull_policy: sources.picked(sources.patch.image_pull_policy),
        resources,
        directory: options.directory,
        read_only: options.read_only,
        env: sources.picked(sources.patch.env).unwrap_or_default(),
        lifecycle: sources.hook(sources.patch.lifecycle)?,
        liveness_probe: sources.hook(sources.patch.liveness_probe)?,
        readiness_probe: sources.hook(sources.patch.readiness_probe)?,
        startup_probe: sources.hook(sources.patch.startup_probe)?,
        volumes,
        volume_mounts,
        volume_devices,
        annotations: sources.annotations(),
        cache,
        host_paths,
        host_network: sources.picked(sources.patch.host_network).unwrap_or(false),
        exit_order: sources.exit_order()?,
        on_crash: sources.on_crash()?,
        flush_seconds: sources.flush_seconds(options.read_only),
        options: options.list.into_iter().map(|option| option.text.into_owned()).collect(),
        warnings: sources.warnings,
        provenance: sources.provenance,
    })
}

impl<'a> Sources<'a> {
    pub(super) fn gather(inputs: &'a Inputs<'a>) -> Self {
        let resolved = inputs.resolved;
        let claim = &resolved.claim;
        let target = Target {
            claim: claim.name(),
            class: &claim.class,
            labels: &claim.labels,
            node: inputs.node_labels,
        };
        let mut patch = inputs.config.merge(&target);
        Self {
            inputs,
            templates: Templates {
                mount_point: inputs.mount_point,
                volume_id: &resolved.volume.handle,
                volume_name: &inputs.secret.name,
                sub_path: resolved.volume.attributes.get(attributes::SUB_PATH).map_or("", |path| path),
            },
            only_reads: resolved.volume.only_reads,
            warnings: std::mem::take(&mut patch.warnings),
            provenance: Vec::new(),
            patch,
        }
    }

    /// Notes where a setting came from, if anybody wants to know.
    pub(super) fn explain(
        &mut self,
        setting: &'static str,
        origin: Origin<'_>,
        value: impl FnOnce() -> String,
    ) {
        if self.inputs.explain {
            let source = origin.source(self.inputs.resolved.volume.bound);
            self.provenance.push(Provenance { setting, value: value(), source });
        }
    }

    /// The object most settings are on, for messages about several of them.
    pub(super) fn subject(&self) -> String {
        let resolved = self.inputs.resolved;
        if resolved.volume.bound {
            format!("persistentvolume {:?}", resolved.volume.name)
        } else {
            format!("storageclass {:?}", resolved.claim.class)
        }
    }

    /// A copy of a field of the ConfigMap, templates filled in.
    fn picked<T>(&mut self, picked: Option<Picked<'a, T>>) -> Option<T>
    where
        T: Clone + serde::Serialize + serde::de::DeserializeOwned,
    {
        let picked = picked?;
        let value = picked.filled(&self.templates);
        self.explain(picked.field.as_str(), Origin::picked(&picked), || as_text(&value));
        Some(value)
    }

    /// A hook or probe of the ConfigMap. What it runs may be a shell's script, so nothing may come into it that a
    /// shell would act on: sub paths and handles are not the administrator's alone.
    fn hook<T>(&mut self, picked: Option<Picked<'a, T>>) -> Result<Option<T>, Refusal>
    where
        T: Clone + serde::Serialize + serde::de::DeserializeOwned,
    {
        if let Some(hook) = picked.filter(|hook| hook.templated)
            && let Some(template) = unsafe_template(hook.value, &self.templates)
        {
            return Err(Refusal::new(
                Code::SettingInvalid,
                format!("{}: configmap mountPodPatch[{}].{}", self.subject(), hook.item, hook.field),
                format!("{template} stands for a text here that means something to a shell"),
                "give the volume a handle and a directory of letters, digits and -_./:=,@%+^ only, or leave the \
                 template out of the command",
            ));
        }
        Ok(self.picked(picked))
    }

    fn image(&mut self) -> String {
        let process = self.inputs.process;
        let (picked, default, built_in) = match self.inputs.secret.edition {
            Edition::Community => {
                let default = &process.community_image;
                (self.patch.community_image, default, Process::COMMUNITY_IMAGE)
            }
            Edition::Enterprise => {
                let default = &process.enterprise_image;
                (self.patch.enterprise_image, default, Process::ENTERPRISE_IMAGE)
            }
        };
        let (image, origin) = if let Some(picked) = picked {
            (self.templates.fill(picked.value).into_owned(), Origin::picked(&picked))
        } else if let Some(attribute) = self.attribute(attributes::IMAGE) {
            (attribute.value.trim().to_owned(), attribute.origin())
        } else {
            (default.clone(), if default == built_in { Origin::Default } else { Origin::Process })
        };
        self.explain("image", origin, || image.clone());
        image
    }

    /// Volumes of the ConfigMap with their mounts and devices. As in the Go driver they are for nodes only: a volume
    /// that is right for those need not exist for virtual ones.
    fn volumes(&mut self) -> (Vec<api::Volume>, Vec<api::VolumeMount>, Vec<api::VolumeDevice>) {
        if !self.inputs.host_directories {
            if let Some(first) = self.patch.volumes.first() {
                let item = first.item;
                self.warnings.push(format!(
                    "configmap mountPodPatch[{item}].volumes: has no effect on serverless nodes"
                ));
            }
            return Default::default();
        }
        let templates = self.templates;
        let volumes: Vec<_> = self.patch.volumes.iter().map(|picked| picked.filled(&templates)).collect();
        let mounts = self.patch.volume_mounts.iter().map(|picked| picked.filled(&templates)).collect();
        let devices = self.patch.volume_devices.iter().map(|picked| picked.filled(&templates)).collect();
        for (index, volume) in volumes.iter().enumerate() {
            if let Some(origin) = self.patch.volumes.get(index).map(Origin::picked) {
                self.explain("volume", origin, || volume.name.clone());
            }
        }
        (volumes, mounts, devices)
    }

    fn annotations(&mut self) -> BTreeMap<String, String> {
        if let Some(annotations) = self.picked(self.patch.annotations) {
            return annotations;
        }
        let Some(attribute) = self.attribute(attributes::ANNOTATIONS) else { return BTreeMap::new() };
        self.explain("annotations", attribute.origin(), || attribute.value.to_owned());
        attributes::string_map(attribute.value).unwrap_or_default()
    }

    fn flush_seconds(&mut self, read_only: bool) -> u32 {
        let (seconds, origin) = match self.patch.termination_grace_period_seconds {
            _ if read_only => (0, Origin::Default),
            Some(picked) => (*picked.value, Origin::picked(&picked)),
            None => (DEFAULT_FLUSH_SECONDS, Origin::Default),
        };
        self.explain("flushSeconds", origin, || seconds.to_string());
        seconds
    }
}

/// A template in the command of a hook or probe whose value must not get there.
fn unsafe_template<T: serde::Serialize>(hook: &T, templates: &Templates<'_>) -> Option<&'static str> {
    let hook = serde_json::to_value(hook).ok()?;
    let commands = ["/exec/command", "/postStart/exec/command", "/preStop/exec/command"];
    let words = commands.iter().filter_map(|place| hook.pointer(place)?.as_array()).flatten();
    words.filter_map(serde_json::Value::as_str).find_map(|word| templates.meant_for_no_shell(word))
}

/// Short for scalars, JSON for the rest.
fn as_text<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
