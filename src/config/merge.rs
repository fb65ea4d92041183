//! The items a claim gets, laid over one another. Nothing is copied until it is used.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Config,
    cache::CacheDirectoryPatch,
    field::Field,
    patch::{PatchItem, ResourcePercentages},
    select::Target,
    template::Templates,
};
use crate::notation::{ExitOrder, OnCrash};

/// A value and the item of `mountPodPatch` it is from.
#[derive(Debug)]
pub struct Picked<'c, T: ?Sized> {
    /// Counted from 0.
    pub item: usize,
    /// The field of the item.
    pub field: Field,
    /// The value, templates and all.
    pub value: &'c T,
    /// Whether a template stands in it.
    pub(crate) templated: bool,
}

impl<T: ?Sized> Clone for Picked<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Picked<'_, T> {}

impl<T: Clone + Serialize + DeserializeOwned> Picked<'_, T> {
    /// A copy with templates filled in.
    #[must_use]
    pub fn filled(&self, templates: &Templates<'_>) -> T {
        if self.templated { templates.fill_all(self.value) } else { self.value.clone() }
    }
}

/// What the items make of each field, the last one deciding.
#[derive(Debug, Default)]
pub struct Merged<'c> {
    /// Image of the community client.
    pub community_image: Option<Picked<'c, String>>,
    /// Image of the enterprise client.
    pub enterprise_image: Option<Picked<'c, String>>,
    /// Pull policy of the image.
    pub image_pull_policy: Option<Picked<'c, String>>,
    /// Resources as a whole.
    pub resources: Option<Picked<'c, api::ResourceRequirements>>,
    /// Resources as shares.
    pub resource_percentages: Option<Picked<'c, ResourcePercentages>>,
    /// Mount options.
    pub mount_options: Option<Picked<'c, Vec<String>>>,
    /// Environment.
    pub env: Option<Picked<'c, Vec<api::EnvVar>>>,
    /// Cache directories.
    pub cache_dirs: Option<Picked<'c, Vec<CacheDirectoryPatch>>>,
    /// Liveness probe.
    pub liveness_probe: Option<Picked<'c, api::Probe>>,
    /// Readiness probe.
    pub readiness_probe: Option<Picked<'c, api::Probe>>,
    /// Startup probe.
    pub startup_probe: Option<Picked<'c, api::Probe>>,
    /// Lifecycle hooks.
    pub lifecycle: Option<Picked<'c, api::Lifecycle>>,
    /// Whether no port is declared.
    pub host_network: Option<Picked<'c, bool>>,
    /// The flush budget.
    pub termination_grace_period_seconds: Option<Picked<'c, u32>>,
    /// The order of exits.
    pub exit_order: Option<Picked<'c, ExitOrder>>,
    /// What becomes of a mount whose client crashes.
    pub on_crash: Option<Picked<'c, OnCrash>>,
    /// Annotations for VCI and CCI.
    pub annotations: Option<Picked<'c, BTreeMap<String, String>>>,
    /// Volumes of all items.
    pub volumes: Vec<Picked<'c, api::Volume>>,
    /// Mounts of those volumes.
    pub volume_mounts: Vec<Picked<'c, api::VolumeMount>>,
    /// Devices from those volumes.
    pub volume_devices: Vec<Picked<'c, api::VolumeDevice>>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

impl Config {
    /// Lays the items that match over one another, in their order.
    ///
    /// Fields replace one another as a whole; volumes add up, as long as their names are new.
    #[must_use]
    pub fn merge(&self, target: &Target<'_>) -> Merged<'_> {
        let mut merged = Merged::default();
        for (index, item) in self.patches.iter().enumerate().filter(|(_, item)| item.selects(target)) {
            merged.lay_over(index, item);
        }
        merged
    }
}

impl<'c> Merged<'c> {
    fn lay_over(&mut self, index: usize, item: &'c PatchItem) {
        let not_empty = |text: &&String| !text.is_empty();
        let pick = Picker { index, item };
        pick.fill_slot(
            &mut self.community_image,
            Field::CommunityImage,
            item.ce_mount_image.as_ref().filter(not_empty),
        );
        pick.fill_slot(
            &mut self.enterprise_image,
            Field::EnterpriseImage,
            item.ee_mount_image.as_ref().filter(not_empty),
        );
        pick.fill_slot(
            &mut self.image_pull_policy,
            Field::ImagePullPolicy,
            item.image_pull_policy.as_ref().filter(not_empty),
        );
        pick.fill_slot(&mut self.resources, Field::Resources, item.resources.as_ref());
        pick.fill_slot(
            &mut self.resource_percentages,
            Field::ResourcePercentages,
            item.resource_percentages.as_ref(),
        );
        pick.fill_slot(&mut self.mount_options, Field::MountOptions, item.mount_options.as_ref());
        pick.fill_slot(&mut self.env, Field::Env, item.env.as_ref());
        pick.fill_slot(&mut self.cache_dirs, Field::CacheDirs, item.cache_dirs.as_ref());
        pick.fill_slot(&mut self.liveness_probe, Field::LivenessProbe, item.liveness_probe.as_ref());
        pick.fill_slot(&mut self.readiness_probe, Field::ReadinessProbe, item.readiness_probe.as_ref());
        pick.fill_slot(&mut self.startup_probe, Field::StartupProbe, item.startup_probe.as_ref());
        pick.fill_slot(&mut self.lifecycle, Field::Lifecycle, item.lifecycle.as_ref());
        pick.fill_slot(&mut self.host_network, Field::HostNetwork, item.host_network.as_ref());
        let seconds = item.termination_grace_period_seconds.as_ref();
        pick.fill_slot(
            &mut self.termination_grace_period_seconds,
            Field::TerminationGracePeriodSeconds,
            seconds,
        );
        pick.fill_slot(&mut self.exit_order, Field::ExitOrder, item.exit_order.as_ref());
        pick.fill_slot(&mut self.on_crash, Field::OnCrash, item.on_crash.as_ref());
        pick.fill_slot(&mut self.annotations, Field::Annotations, item.annotations.as_ref());
        self.add_volumes(&pick);
    }

    fn add_volumes(&mut self, pick: &Picker<'c>) {
        let first = self.volumes.len();
        for volume in pick.item.usable_volumes() {
            if self.volumes.iter().any(|earlier| earlier.value.name == volume.name) {
                self.warnings.push(format!(
                    "configmap mountPodPatch[{}].volumes: another volume is called {:?} already, ignored",
                    pick.index, volume.name
                ));
            } else {
                self.volumes.push(pick.one(Field::Volumes, volume));
            }
        }
        let accepted = self.volumes.get(first..).unwrap_or_default();
        let is_accepted = |name: &str| accepted.iter().any(|volume| volume.value.name == name);
        let mounts = pick.item.volume_mounts.iter().flatten().filter(|mount| is_accepted(&mount.name));
        self.volume_mounts.extend(mounts.map(|mount| pick.one(Field::VolumeMounts, mount)));
        let devices = pick.item.volume_devices.iter().flatten().filter(|device| is_accepted(&device.name));
        self.volume_devices.extend(devices.map(|device| pick.one(Field::VolumeDevices, device)));
    }
}

/// One item, while it is laid over the others.
struct Picker<'c> {
    index: usize,
    item: &'c PatchItem,
}

impl<'c> Picker<'c> {
    fn one<T>(&self, field: Field, value: &'c T) -> Picked<'c, T> {
        Picked { item: self.index, field, value, templated: self.item.templated.contains(&field) }
    }

    fn fill_slot<T>(&self, slot: &mut Option<Picked<'c, T>>, field: Field, value: Option<&'c T>) {
        if let Some(value) = value {
            *slot = Some(self.one(field, value));
        }
    }
}
