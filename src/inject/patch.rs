//! From a plan to explicit operations on the pod, and the status annotation that remembers them.
//!
//! Operations name what they add and touch nothing else, so that fields nobody here knows stay as they are. A claim
//! is moved, not copied: whatever its source holds goes with it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use serde::{Serialize, de::IgnoredAny};
use serde_json::json;

use crate::{
    inject::{
        Subject, Volumes,
        neighbours::PodResource,
        operation::Patch,
        plan::{Client, Plan},
        profile::{MOUNT, Shared, VCI_PROPAGATION, VCI_PROPAGATION_MOUNTS},
        sidecar::Sidecar,
        status::{
            Before, DEFAULT_CONTAINER, DONE, LONGEST, MountBefore, ResourceBefore, SAFE_TO_EVICT, STATUS,
            Status, StatusVolume, pod_of,
        },
    },
    outcome::{Code, Refusal},
    pod::{Container, Pod, VolumeMount},
    volume::resolve::by_name,
};

/// About as many bytes of text as one client takes.
const CLIENT_TEXT: usize = 2048;

/// The patch of a plan.
pub(crate) fn operations(
    plan: &Plan,
    subject: &Subject<'_>,
    sidecars: Vec<Sidecar>,
    revision: &str,
) -> Result<Patch, Refusal> {
    let Subject { pod, identity, namespace, .. } = *subject;
    let mut writer = Writer {
        plan,
        pod,
        shared: by_name(plan.clients.iter().map(|client| &client.resolved)),
        operations: Patch::with_capacity(CLIENT_TEXT * (plan.clients.len() + 1)),
        status: Status {
            profile: plan.profile.name.to_owned(),
            native: plan.native,
            identity: identity.map(str::to_owned),
            pod: identity.map(|_| pod_of(namespace, &pod.metadata)),
            config: revision.to_owned(),
            containers: plan.agent.iter().map(|agent| agent.container.clone()).collect(),
            ..Status::new(plan.mode)
        },
        volumes: pod.spec.volumes.as_ref().map_or(0, Vec::len),
        local: Vec::new(),
    };
    for client in &plan.clients {
        writer.share(client);
    }
    writer.application_mounts();
    let writes_back =
        plan.clients.iter().any(|client| client.settings.options.iter().any(|option| option == "writeback"));
    let mut containers = Vec::with_capacity(sidecars.len());
    for Sidecar { container, volumes } in sidecars {
        for volume in volumes {
            writer.add_volume(&volume);
            if may_be_lost(&volume, writes_back) {
                writer.local.push(volume.name.clone());
            }
            writer.status.added_volumes.push(volume.name);
        }
        containers.push(container);
    }
    writer.add_containers(&containers);
    writer.grace();
    writer.resources();
    if writer.metadata() > LONGEST {
        return Err(Refusal::new(
            Code::PodUnsupported,
            "the pod",
            format!(
                "has so many mounts of JuiceFS volumes that what was done to them does not fit into its annotation {STATUS}"
            ),
            "mount fewer volumes, or mount each in fewer places",
        ));
    }
    Ok(writer.operations)
}

struct Writer<'a> {
    plan: &'a Plan,
    pod: &'a Pod<'a>,
    /// The JuiceFS volumes, each with the place of its client.
    shared: Volumes<'a>,
    operations: Patch,
    status: Status,
    /// How many volumes the pod has so far.
    volumes: usize,
    /// Those that are the node's now and hold nothing that moving the pod would lose.
    local: Vec<String>,
}

impl Writer<'_> {
    fn add_volume<T: Serialize>(&mut self, volume: &T) -> usize {
        self.operations.add(&["spec", "volumes", "-"], volume);
        self.volumes += 1;
        self.volumes - 1
    }

    /// Moves the claim to a volume of its own and puts the shared directory in its place.
    fn share(&mut self, client: &Client) {
        let volume = client.resolved.pod_volumes.first();
        let claim = client.resolved.claim.name();
        let source = if claim.is_some() { "persistentVolumeClaim" } else { "ephemeral" };
        let from = volume.index.to_string();
        if let Some(reference) = &client.reference {
            let to = self.add_volume(&BTreeMap::from([("name", reference)])).to_string();
            self.operations.relocate(&["spec", "volumes", &from, source], &["spec", "volumes", &to, source]);
        } else {
            self.operations.remove(&["spec", "volumes", &from, source]);
        }
        let shared = self.share_source(&from, client);
        if shared != "csi" {
            self.local.push(volume.name.clone());
        }
        self.status.volumes.push(StatusVolume {
            container: client.container.clone(),
            volume: volume.name.clone(),
            reference: client.reference.clone().unwrap_or_default(),
            read_only: client.reference.is_none() && volume.read_only,
            source: source.to_owned(),
            shared: shared.to_owned(),
            claim: claim.unwrap_or_default().to_owned(),
            persistent_volume: client.resolved.volume.name.to_string(),
            directory: client.settings.directory.to_string(),
        });
    }

    /// Adds the source that takes the claim's place in the pod's volume; returns the source's field.
    fn share_source(&mut self, index: &str, client: &Client) -> &'static str {
        let path = |field| ["spec", "volumes", index, field];
        match (self.plan.profile.shared, &client.host_directory) {
            (Shared::HostPath, Some(directory)) => {
                let source = api::HostPathVolumeSource {
                    path: format!("{directory}/{MOUNT}"),
                    type_: Some("DirectoryOrCreate".to_owned()),
                };
                self.operations.add(&path("hostPath"), &source);
                "hostPath"
            }
            (Shared::Platform, _) => {
                self.operations.add(&path("csi"), &platform_source(client));
                "csi"
            }
            _ => {
                self.operations.add(&path("emptyDir"), &api::EmptyDirVolumeSource::default());
                "emptyDir"
            }
        }
    }

    fn application_mounts(&mut self) {
        let pod = self.pod;
        let init = pod.spec.init_containers.iter().flatten().enumerate();
        for (index, container) in init {
            self.mounts_of("initContainers", index, container);
        }
        for (index, container) in pod.spec.containers.iter().enumerate() {
            self.mounts_of("containers", index, container);
        }
    }

    fn mounts_of(&mut self, list: &str, index: usize, container: &Container<'_>) {
        for (number, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(&(client, volume)) = self.shared.get(&mount.name) else { continue };
            let (plan, index, number) = (self.plan, index.to_string(), number.to_string());
            let client = &plan.clients[client];
            let path = ["spec", list, &index, "volumeMounts", &number];
            let mut before = MountBefore {
                container: container.name.to_string(),
                path: mount.mount_path.to_string(),
                ..MountBefore::default()
            };
            if client.shared_volume() != volume.name {
                self.operations.replace(&at(&path, "name"), client.shared_volume());
                before.volume = Some(volume.name.clone());
            }
            if volume.read_only && mount.read_only != Some(true) {
                self.operations.add(&at(&path, "readOnly"), &true);
                before.read_only = Some(mount.read_only.map_or(Before::Absent, Before::Was));
            }
            if let Some(forced) = plan.profile.application_propagation
                && mount.mount_propagation.as_deref() != Some(forced)
                // Kubernetes takes one or the other; the client mounts before the application's container is made.
                && !mount.is_read_only_all_the_way()
            {
                self.operations.add(&at(&path, "mountPropagation"), forced);
                let was = mount.mount_propagation.as_ref();
                before.propagation = Some(was.map_or(Before::Absent, |text| Before::Was(text.to_string())));
            }
            if let Some(child) = plan.profile.child {
                self.below(child, mount, &path, &mut before);
            }
            let MountBefore { volume, read_only, propagation, sub_path, sub_path_expr, .. } = &before;
            let texts = [propagation, sub_path, sub_path_expr];
            if volume.is_some() || read_only.is_some() || texts.into_iter().any(Option::is_some) {
                self.status.undo.mounts.push(before);
            }
        }
    }

    /// Leads a mount of the application to where the mount is, and from there to where it led before.
    fn below(&mut self, child: &str, mount: &VolumeMount<'_>, path: &[&str; 5], before: &mut MountBefore) {
        let expression = mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty());
        let (field, was) = match expression {
            Some(_) => ("subPathExpr", &mount.sub_path_expr),
            None => ("subPath", &mount.sub_path),
        };
        let joined = match was.as_deref() {
            None | Some("") => child.to_owned(),
            Some(further) => format!("{child}/{further}"),
        };
        self.operations.add(&at(path, field), &joined);
        let was = Some(was.as_ref().map_or(Before::Absent, |text| Before::Was(text.to_string())));
        if expression.is_some() { before.sub_path_expr = was } else { before.sub_path = was }
    }

    /// Puts the clients where they start first: native ones before the init containers (or after those they need),
    /// others before the rest.
    fn add_containers(&mut self, containers: &[api::Container]) {
        let absent = self.plan.native && self.pod.spec.init_containers.is_none();
        if absent {
            self.operations.add(&["spec", "initContainers"], containers);
            self.status.undo.absent.push("initContainers".to_owned());
            return;
        }
        let list = if self.plan.native { "initContainers" } else { "containers" };
        for (index, container) in (self.plan.first..).zip(containers) {
            self.operations.add(&["spec", list, &index.to_string()], container);
        }
    }

    fn grace(&mut self) {
        if let Some(seconds) = self.plan.grace {
            self.operations.add(&["spec", "terminationGracePeriodSeconds"], &seconds);
            let was = self.pod.spec.termination_grace_period_seconds;
            self.status.undo.grace = Some(was.map_or(Before::Absent, Before::Was));
        }
    }

    /// Raises the resources of the pod as a whole.
    fn resources(&mut self) {
        let mut absent =
            self.pod.spec.resources.as_ref().is_some_and(|resources| resources.requests.is_none());
        for PodResource { field, resource, before, added, after } in &self.plan.resources {
            if *field == "requests" && std::mem::take(&mut absent) {
                self.operations.add(&["spec", "resources", field], &json!({}));
                self.status.undo.absent.push("requests".to_owned());
            }
            self.operations.add(&["spec", "resources", field, resource], &after.to_string());
            self.status.undo.resources.push(ResourceBefore {
                field: (*field).to_owned(),
                resource: resource.clone(),
                before: before.clone().map_or(Before::Absent, Before::Was),
                added: added.to_string(),
                after: after.to_string(),
            });
        }
    }

    /// Labels and annotations; returns how long the status is.
    fn metadata(&mut self) -> usize {
        let metadata = &self.pod.metadata;
        if !metadata.present {
            self.operations.add(&["metadata"], &json!({}));
            self.status.undo.absent.push("metadata".to_owned());
        }
        match &metadata.labels {
            None => {
                self.operations.add(&["metadata", "labels"], &BTreeMap::from([(DONE, "true")]));
                self.status.undo.absent.push("labels".to_owned());
            }
            Some(labels) => {
                self.status.undo.done = labels.done.as_ref().map(ToString::to_string);
                self.operations.add(&["metadata", "labels", DONE], "true");
            }
        }
        let mut annotations = self.annotations();
        if metadata.annotations.is_none() {
            self.status.undo.absent.push("annotations".to_owned());
        }
        let status = self.status.to_text();
        let length = status.len();
        annotations.insert(STATUS.to_owned(), status);
        if metadata.annotations.is_none() {
            self.operations.add(&["metadata", "annotations"], &annotations);
            return length;
        }
        for (key, value) in annotations {
            self.operations.add(&["metadata", "annotations", &key], &value);
        }
        length
    }

    /// The annotations beside the status, remembered for undoing.
    fn annotations(&mut self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::new();
        let present = self.pod.metadata.annotations.as_ref();
        let first = self.pod.spec.containers.first();
        if !self.plan.native
            && present.is_none_or(|annotations| annotations.default_container.is_none())
            && let Some(first) = first
        {
            annotations.insert(DEFAULT_CONTAINER.to_owned(), first.name.to_string());
            self.status.undo.annotations.push(DEFAULT_CONTAINER.to_owned());
        }
        self.let_autoscaler_move(&mut annotations);
        if self.plan.profile.annotates_pod() {
            self.platform_annotations(&mut annotations);
        }
        annotations
    }

    /// A claim does not keep the cluster autoscaler from moving a pod, and nor shall what takes its place.
    fn let_autoscaler_move(&mut self, annotations: &mut BTreeMap<String, String>) {
        let present =
            self.pod.metadata.annotations.as_ref().and_then(|present| present.safe_to_evict.as_deref());
        let mut names: Vec<&str> =
            present.into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
        names.retain(|name| !name.is_empty());
        for name in &self.local {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let names = names.join(",");
        match present {
            _ if self.local.is_empty() => return,
            Some(old) => {
                self.status.undo.replaced_annotations.push((SAFE_TO_EVICT.to_owned(), old.to_owned()));
            }
            None => self.status.undo.annotations.push(SAFE_TO_EVICT.to_owned()),
        }
        annotations.insert(SAFE_TO_EVICT.to_owned(), names);
    }

    fn platform_annotations(&mut self, annotations: &mut BTreeMap<String, String>) {
        let present = self.pod.metadata.annotations.as_ref();
        let extra = self.plan.clients.iter().flat_map(|client| &client.settings.annotations);
        annotations.extend(extra.map(|(key, value)| (key.clone(), value.clone())));
        if self.plan.profile.is_vci() {
            let old = present.and_then(|annotations| annotations.vci_propagation_mounts.as_deref());
            annotations.insert(VCI_PROPAGATION.to_owned(), VCI_PROPAGATION.into());
            annotations.insert(VCI_PROPAGATION_MOUNTS.to_owned(), vci_mounts(&self.plan.clients, old));
            let replaced = [
                (VCI_PROPAGATION, present.and_then(|annotations| annotations.vci_propagation.as_deref())),
                (VCI_PROPAGATION_MOUNTS, old),
            ];
            for (key, old) in replaced {
                if let Some(old) = old {
                    self.status.undo.replaced_annotations.push((key.to_owned(), old.to_owned()));
                }
            }
        }
        let replaced = |key: &String| self.status.undo.replaced_annotations.iter().any(|(old, _)| old == key);
        let added: Vec<String> = annotations.keys().filter(|key| !replaced(key)).cloned().collect();
        self.status.undo.annotations = added;
    }
}

/// Whether a volume is the node's and holds nothing but copies: a cache that is written back to holds more.
fn may_be_lost(volume: &api::Volume, writes_back: bool) -> bool {
    match &volume.empty_dir {
        Some(source) => source.medium.as_deref() != Some("Memory") && !writes_back,
        None => volume.host_path.is_some(),
    }
}

/// VCI's list of propagating mounts: ours first, then what was there, word for word.
fn vci_mounts(clients: &[Client], old: Option<&str>) -> String {
    let ours = clients
        .iter()
        .map(|client| json!({ "container": client.container, "mountPath": client.mount_point }).to_string());
    let is_list = |text: &&str| serde_json::from_str::<Vec<IgnoredAny>>(text).is_ok();
    let old = old.filter(is_list).and_then(|text| text.trim().strip_prefix('[')?.strip_suffix(']'));
    let old = old.map(str::trim).filter(|elements| !elements.is_empty());
    format!("[{}]", ours.chain(old.map(str::to_owned)).collect::<Vec<_>>().join(","))
}

/// What the platform's own driver is asked for.
fn platform_source(client: &Client) -> api::CSIVolumeSource {
    let mount_point = client.mount_point.trim_start_matches("/jfs/").to_owned();
    api::CSIVolumeSource {
        driver: "juicefs.csi.everest.io".to_owned(),
        fs_type: Some("gpath".to_owned()),
        volume_attributes: Some([("mountpoint".to_owned(), mount_point)].into()),
        ..api::CSIVolumeSource::default()
    }
}

fn at<'a>(path: &[&'a str; 5], field: &'a str) -> [&'a str; 6] {
    let [spec, list, index, mounts, number] = *path;
    [spec, list, index, mounts, number, field]
}
