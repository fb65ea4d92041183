//! What there is to say about a plan that changes nothing in it.

use k8s_openapi::api::core::v1 as api;

use crate::{
    config::sleeps_for_sure,
    inject::{
        Engine,
        plan::{Client, Plan},
        profile::Shared,
    },
    pod::Pod,
    volume::Resolved,
};

impl Plan {
    /// Everything worth saying once all clients are planned.
    pub(super) fn advise(&mut self, pod: &Pod<'_>) {
        self.warn_about_hooks();
        self.warn_about_backups(pod);
    }

    /// Kubernetes runs every hook when the termination of a pod begins, and ends native sidecars after the application.
    fn warn_about_hooks(&mut self) {
        let pre_stop = |client: &Client| client.settings.lifecycle.as_ref()?.pre_stop.clone();
        let sleeps = |hook: api::LifecycleHandler| {
            let words = hook.exec.and_then(|exec| exec.command).unwrap_or_default();
            hook.sleep.is_some() || sleeps_for_sure(&words.join(" "))
        };
        if self.native && self.clients.iter().filter_map(pre_stop).any(sleeps) {
            self.warnings.push(
                "configmap lifecycle.preStop sleeps: every deletion takes that long, for nothing, since the client is a \
                 native sidecar and ends after the application by itself; leave it out"
                    .to_owned(),
            );
        }
    }

    /// Velero reads volumes through the pod: those of the node it leaves out, and in those that nobody mounts it finds
    /// nothing.
    fn warn_about_backups(&mut self, pod: &Pod<'_>) {
        let annotations = pod.metadata.annotations.as_ref();
        let Some(listed) = annotations.and_then(|annotations| annotations.velero_volumes.as_deref()) else {
            return;
        };
        let on_node = self.profile.shared == Shared::HostPath;
        let volumes = self.clients.iter().map(|client| (&client.resolved.pod_volumes.first().name, client));
        let mut listed = volumes.filter(|(name, _)| listed.split(',').any(|one| one.trim() == *name));
        let fate = |(name, client): (&String, &Client)| {
            let is = if client.shared != *name {
                "which no container mounts any more: Velero finds nothing there"
            } else if on_node {
                "which is a hostPath now: Velero leaves those out"
            } else {
                return None;
            };
            Some(format!(
                "annotation backup.velero.io/backup-volumes names {name:?}, {is}; back up the file system itself"
            ))
        };
        let warning = listed.find_map(fate);
        self.warnings.extend(warning);
    }
}

/// What a class says now that it did not say when it made a volume, which keeps what it was made with.
pub(super) fn class_changes(engine: &Engine<'_>, resolved: &Resolved) -> Option<String> {
    let (volume, class) = (&resolved.volume, engine.catalog.class(&resolved.claim.class)?);
    // Only dynamic volumes were made by a class, and they have its secret's name among their attributes or a sub path.
    if !volume.bound || !volume.name.starts_with("pvc-") {
        return None;
    }
    let has_template = |text: &str| text.contains("${");
    let options = &class.mount_options;
    let mut changed = Vec::new();
    if !options.iter().any(|text| has_template(text)) {
        let of_class = options.iter().flat_map(|text| text.split(',')).map(str::trim);
        if !of_class.eq(volume.mount_options.iter().flat_map(|text| text.split(',')).map(str::trim)) {
            changed.push("mountOptions".to_owned());
        }
    }
    let settings =
        class.parameters.iter().filter(|(key, value)| key.starts_with("juicefs/") && !has_template(value));
    let differs = settings.filter(|(key, value)| volume.attributes.get(key) != Some(*value));
    changed.extend(differs.map(|(key, _)| format!("parameters[{key:?}]")));
    (!changed.is_empty()).then(|| {
        format!(
            "storageclass {:?} was changed after persistentvolume {:?} was made, which keeps what it was made with: {}",
            class.metadata.name,
            volume.name,
            changed.join(", ")
        )
    })
}
