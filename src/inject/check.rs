//! What a sidecar cannot give a pod, and what it gives with a warning.

use crate::{
    identifier::{LABEL_GRAMMAR, UID_GRAMMAR, is_label, is_uid},
    inject::{
        Engine, Family, Subject, Volumes,
        node::{self, Native},
        profile::Profile,
    },
    outcome::{Code, Refusal},
    pod::MOST_CONTAINERS,
    volume::{CLAIM_VOLUME, Resolved, SHARED_VOLUME},
};

/// Refuses names that become part of a path or a command and are none. The API server would, but only afterwards.
///
/// The same goes for what a mount is found again by: the name of its container, and its path.
pub(super) fn identifiers(
    subject: &Subject<'_>,
    resolved: &[Resolved],
    volumes: &Volumes<'_>,
) -> Result<(), Refusal> {
    if subject.identity.is_some_and(|identity| !is_uid(identity)) {
        return Err(Refusal::new(
            Code::Unreadable,
            "the UID of the request, or of the pod in a manifest",
            format!("is not a UID that Kubernetes gives ({UID_GRAMMAR})"),
            "send what the API server sends, or take the UID out of the manifest",
        ));
    }
    for volume in resolved.iter().flat_map(|one| one.pod_volumes.iter()) {
        if !is_label(&volume.name) {
            return Err(Refusal::new(
                Code::Unreadable,
                format!("spec.volumes[{}].name", volume.index),
                format!("is not a name that Kubernetes takes for a volume ({LABEL_GRAMMAR})"),
                "rename the volume",
            ));
        }
    }
    let spec = &subject.pod.spec;
    let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers))];
    for (list, containers) in lists {
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let mounts = container.volume_mounts.iter().flatten().enumerate();
            let mut mounts = mounts.filter(|(_, mount)| volumes.get(&mount.name).is_some()).peekable();
            if mounts.peek().is_none() {
                continue;
            }
            if !is_label(&container.name) {
                return Err(Refusal::new(
                    Code::Unreadable,
                    format!("spec.{list}[{index}].name"),
                    format!("is not a name that Kubernetes takes for a container ({LABEL_GRAMMAR})"),
                    "rename the container",
                ));
            }
            if let Some((number, _)) = mounts.find(|(_, mount)| mount.mount_path.is_empty()) {
                return Err(Refusal::new(
                    Code::Unreadable,
                    format!("spec.{list}[{index}].volumeMounts[{number}].mountPath"),
                    "is missing",
                    "say where the volume is to be mounted",
                ));
            }
        }
    }
    Ok(())
}

/// Refuses a pod that was copied from an injected one without its annotations: it would mount over the other's mount.
pub(super) fn is_no_copy(engine: &Engine<'_>, subject: &Subject<'_>) -> Result<(), Refusal> {
    let base = engine.process.mount_directory.trim_end_matches('/');
    let is_ours = |path: &str| {
        let directory = path.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
        directory.is_some_and(|rest| rest.ends_with("/mnt") && rest.matches('/').count() == 1)
    };
    let volumes = subject.pod.spec.volumes.as_deref().unwrap_or_default();
    let shared =
        volumes.iter().find(|volume| volume.host_path.as_ref().is_some_and(|source| is_ours(&source.path)));
    match shared {
        Some(volume) if volumes.iter().any(|volume| is_injected(&volume.name)) => Err(Refusal::new(
            Code::PodUnsupported,
            format!("spec.volumes \"{}\": hostPath", volume.name.0),
            "is the directory of another pod's JuiceFS client: this is a copy of an injected pod without its annotations",
            "copy them too (kubectl debug --keep-annotations), or copy the pod as it was before it was injected",
        )),
        _ => Ok(()),
    }
}

/// Whether a volume is called as those that come with a client are.
fn is_injected(name: &str) -> bool {
    name.starts_with(CLAIM_VOLUME) || name.starts_with(SHARED_VOLUME)
}

/// Refuses what a sidecar cannot give, before anything is planned.
pub(super) fn pod(
    engine: &Engine<'_>,
    subject: &Subject<'_>,
    profile: &Profile,
    native: &Native,
    sidecars: usize,
    volumes: &Volumes<'_>,
) -> Result<(), Refusal> {
    let pod = subject.pod;
    let refuse = |place: String, what: &str, remedy: &str| {
        Err(Refusal::new(Code::PodUnsupported, place, what, remedy))
    };
    if let Some(sign) = node::windows(engine, pod) {
        return refuse(
            sign.to_owned(),
            "a windows pod mounts a JuiceFS volume, and the client runs on linux only",
            "remove the volume or run the pod on linux",
        );
    }
    if pod.spec.host_users == Some(false) && profile.client_propagation.is_some() {
        return refuse(
            "spec.hostUsers".to_owned(),
            "a pod in its own user namespace cannot hold the privileged client",
            "remove hostUsers: false",
        );
    }
    if let Some(class) = pod.spec.runtime_class_name.as_deref().filter(|class| is_sandbox(class))
        && subject.family == Family::Node
    {
        return refuse(
            "spec.runtimeClassName".to_owned(),
            &format!(
                "runtime {class:?} puts the pod into a sandbox, out of which no mount of the client gets"
            ),
            "run the pod with the node's usual runtime, or in a namespace of serverless Kubernetes",
        );
    }
    let beside = if *native == Native::Yes {
        pod.spec.init_containers.as_deref()
    } else {
        Some(&*pod.spec.containers)
    };
    if beside.map_or(0, <[_]>::len) + sidecars > MOST_CONTAINERS {
        return refuse(
            "spec.volumes".to_owned(),
            "there are so many JuiceFS volumes that the pod would have more than 512 containers of a kind",
            "mount fewer volumes: one volume can serve many directories by subPath",
        );
    }
    let is_ours = |name: &str| volumes.get(name).is_some();
    for container in pod.spec.all_containers() {
        if let Some(device) = container.volume_devices.iter().flatten().find(|device| is_ours(&device.name)) {
            return refuse(
                format!("container \"{}\": volumeDevices \"{}\"", container.name, device.name),
                "a JuiceFS volume is a file system, not a block device",
                "use volumeMounts",
            );
        }
    }
    let (Native::No(why) | Native::OldNode(why)) = native else { return Ok(()) };
    for container in pod.spec.init_containers.iter().flatten() {
        if let Some(mount) = container.volume_mounts.iter().flatten().find(|mount| is_ours(&mount.name)) {
            return refuse(
                format!("init container \"{}\": volumeMounts \"{}\"", container.name, mount.name),
                &format!("without native sidecars no init container can use a JuiceFS volume, and {why}"),
                "move the work into an application container, or run on Kubernetes 1.29 or later",
            );
        }
    }
    Ok(())
}

/// Runtimes that give a pod a kernel of its own, by what their classes are called.
pub(super) fn is_sandbox(class: &str) -> bool {
    let class = class.to_ascii_lowercase();
    ["gvisor", "runsc", "kata", "firecracker"].iter().any(|name| class.contains(name))
}
