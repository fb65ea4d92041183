//! What a sidecar cannot give a pod, and what it gives with a warning.

use crate::{
    identifier::{LABEL_GRAMMAR, UID_GRAMMAR, is_label, is_uid},
    inject::{Subject, profile::Profile},
    outcome::{Code, Refusal},
    volume::Resolved,
};

/// Refuses names that become part of a path or a command and are none. The API server would, but only afterwards.
pub(super) fn identifiers(subject: &Subject<'_>, resolved: &[Resolved]) -> Result<(), Refusal> {
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
    Ok(())
}

/// Refuses what a sidecar cannot give, before anything is planned.
pub(super) fn pod(
    subject: &Subject<'_>,
    profile: &Profile,
    native: bool,
    resolved: &[Resolved],
) -> Result<(), Refusal> {
    let pod = subject.pod;
    let refuse = |place: String, what: &str, remedy: &str| {
        Err(Refusal::new(Code::PodUnsupported, place, what, remedy))
    };
    if pod.spec.os.as_ref().is_some_and(|os| &*os.name == "windows") {
        return refuse(
            "spec.os.name".to_owned(),
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
    let is_ours =
        |name: &str| resolved.iter().any(|one| one.pod_volumes.iter().any(|volume| volume.name == name));
    for container in pod.spec.all_containers() {
        if let Some(device) = container.volume_devices.iter().flatten().find(|device| is_ours(&device.name)) {
            return refuse(
                format!("container \"{}\": volumeDevices \"{}\"", container.name, device.name),
                "a JuiceFS volume is a file system, not a block device",
                "use volumeMounts",
            );
        }
    }
    for container in pod.spec.init_containers.iter().flatten().filter(|_| !native) {
        if let Some(mount) = container.volume_mounts.iter().flatten().find(|mount| is_ours(&mount.name)) {
            return refuse(
                format!("init container \"{}\": volumeMounts \"{}\"", container.name, mount.name),
                "without native sidecars no init container can use a JuiceFS volume",
                "move the work into an application container, or run on Kubernetes 1.29 or later",
            );
        }
    }
    Ok(())
}
