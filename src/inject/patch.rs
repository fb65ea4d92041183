//! From a plan to explicit operations on the pod, and the status annotation that remembers them.
//!
//! Operations name what they add and touch nothing else, so that fields nobody here knows stay as they are. A claim
//! is moved, not copied: whatever its source holds goes with it. That of an ephemeral volume stays where it is, since
//! Kubernetes names it after its volume.

mod metadata;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use serde::Serialize;
use serde_json::json;

use crate::{
    inject::{
        Subject, Volumes,
        neighbours::PodResource,
        operation::Patch,
        plan::{Client, Plan},
        profile::{MOUNT, Shared},
        pull_secrets,
        sidecar::Sidecar,
        status::{Before, LONGEST, MountBefore, ResourceBefore, STATUS, Status, StatusVolume, pod_of},
    },
    outcome::{Code, Refusal},
    pod::{Container, Pod, VolumeMount},
    volume::resolve::by_name,
};

/// The source of a volume that names its claim.
const CLAIM: &str = "persistentVolumeClaim";
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
    pull_secrets::add(plan, pod, &mut writer.operations, &mut writer.status.undo);
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

    /// Puts the shared directory in the claim's place, and moves the claim to a volume of its own.
    fn share(&mut self, client: &Client) {
        let volume = client.resolved.pod_volumes.first();
        let Some(claim) = client.resolved.claim.name() else { return self.share_beside(client) };
        let from = volume.index.to_string();
        let source = ["spec", "volumes", &from, CLAIM];
        if let Some(reference) = &client.reference {
            let to = self.add_volume(&BTreeMap::from([("name", reference)])).to_string();
            self.operations.relocate(&source, &["spec", "volumes", &to, CLAIM]);
        } else {
            self.operations.remove(&source);
        }
        let shared = self.share_source(&from, client);
        self.status.volumes.push(StatusVolume {
            reference: client.reference.clone().unwrap_or_default(),
            read_only: client.reference.is_none() && volume.read_only,
            source: CLAIM.to_owned(),
            claim: claim.to_owned(),
            ..status_of(client, shared)
        });
    }

    /// Adds a volume with the shared directory and leaves the user's where it is: Kubernetes names the claim of an
    /// ephemeral volume after the volume that holds it.
    fn share_beside(&mut self, client: &Client) {
        let index = self.add_volume(&BTreeMap::from([("name", &client.shared)])).to_string();
        let shared = self.share_source(&index, client);
        self.status.added_volumes.push(client.shared.clone());
        self.status.volumes.push(StatusVolume {
            source: "ephemeral".to_owned(),
            pod_volume: client.resolved.pod_volumes.first().name.clone(),
            ..status_of(client, shared)
        });
    }

    /// Adds the source of the shared directory to a volume of the pod; returns the source's field.
    fn share_source(&mut self, index: &str, client: &Client) -> &'static str {
        let path = |field| ["spec", "volumes", index, field];
        let shared = match (self.plan.profile.shared, &client.host_directory) {
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
        };
        if shared != "csi" {
            self.local.push(client.shared.clone());
        }
        shared
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
            if client.shared != volume.name {
                self.operations.replace(&at(&path, "name"), &client.shared);
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
}

/// What the status says of a client whichever way its directory is shared.
fn status_of(client: &Client, shared: &str) -> StatusVolume {
    StatusVolume {
        container: client.container.clone(),
        volume: client.shared.clone(),
        shared: shared.to_owned(),
        persistent_volume: client.resolved.volume.name.to_string(),
        directory: client.settings.directory.to_string(),
        ..StatusVolume::default()
    }
}

/// Whether a volume is the node's and holds nothing but copies: a cache that is written back to holds more.
fn may_be_lost(volume: &api::Volume, writes_back: bool) -> bool {
    match &volume.empty_dir {
        Some(source) => source.medium.as_deref() != Some("Memory") && !writes_back,
        None => volume.host_path.is_some(),
    }
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
