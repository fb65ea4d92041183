//! What the API server would say about the client's container, said where the configuration is read.
//!
//! Otherwise every pod's owner hears of it, about a container that somebody else wrote.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1 as api,
    apimachinery::pkg::{api::resource::Quantity as ApiQuantity, util::intstr::IntOrString},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    cache::{CacheDirectoryPatch, CacheSource},
    check::Fault,
    patch::PatchItem,
};
use crate::{
    identifier::{LABEL_GRAMMAR, NAME_GRAMMAR, is_label, is_name},
    notation::Quantity,
};

type Checked = Result<(), Fault>;

/// Where the clients' own mounts are.
const CLIENT_DIRECTORY: &str = "/jfs";
/// A file that is mounted into clients.
const UPDATEDB: &str = "/etc/updatedb.conf";
/// Fields of a pod that a variable can hold, beside single labels and annotations.
const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The first fault of an item that would keep every pod from being created.
pub(super) fn check(item: &PatchItem) -> Checked {
    image("ceMountImage", item.ce_mount_image.as_deref())?;
    image("eeMountImage", item.ee_mount_image.as_deref())?;
    for (position, variable) in item.env.iter().flatten().enumerate() {
        value_from(&format!("env[{position}].valueFrom"), variable.value_from.as_ref())?;
    }
    probe("livenessProbe", item.liveness_probe.as_ref())?;
    probe("readinessProbe", item.readiness_probe.as_ref())?;
    probe("startupProbe", item.startup_probe.as_ref())?;
    if let Some(lifecycle) = &item.lifecycle {
        hook("lifecycle.postStart", lifecycle.post_start.as_ref())?;
        hook("lifecycle.preStop", lifecycle.pre_stop.as_ref())?;
    }
    for (position, volume) in item.volumes.iter().flatten().enumerate() {
        self::volume(&format!("volumes[{position}]"), volume)?;
    }
    mounts(item.volume_mounts.as_deref().unwrap_or_default())?;
    for (position, device) in item.volume_devices.iter().flatten().enumerate() {
        if device.device_path.is_empty() {
            let field = format!("volumeDevices[{position}].devicePath");
            return fault(field, "is missing", "say where the device is to be");
        }
    }
    for directory in item.cache_dirs.iter().flatten() {
        cache_directory(directory)?;
    }
    item.resources.as_ref().map_or(Ok(()), resources)
}

fn fault(field: impl Into<String>, what: impl Into<String>, remedy: &'static str) -> Checked {
    Err(Fault(field.into(), what.into(), remedy))
}

fn image(field: &str, image: Option<&str>) -> Checked {
    match image {
        Some(image) if image.trim() != image => {
            fault(field, format!("{image:?} begins or ends with white space"), "take it out")
        }
        _ => Ok(()),
    }
}

/// How many of a structure's fields are set, some aside.
fn set_fields<T: Serialize>(value: &T, aside: &[&str]) -> Vec<String> {
    let fields = serde_json::to_value(value).unwrap_or_default();
    let Value::Object(fields) = fields else { return Vec::new() };
    fields.into_iter().map(|(key, _)| key).filter(|key| !aside.contains(&key.as_str())).collect()
}

fn exactly_one(field: &str, set: &[String], of: &str) -> Checked {
    match set {
        [_] => Ok(()),
        [] => fault(field, format!("has none of {of}"), "give one"),
        several => fault(field, format!("has {}", several.join(" and ")), "keep one of them"),
    }
}

fn value_from(field: &str, source: Option<&api::EnvVarSource>) -> Checked {
    let Some(source) = source else { return Ok(()) };
    exactly_one(
        field,
        &set_fields(source, &[]),
        "fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
    )?;
    if let Some(reference) = &source.field_ref {
        let path = reference.field_path.as_str();
        let keyed =
            ["metadata.labels['", "metadata.annotations['"].iter().any(|start| path.starts_with(start));
        if !keyed && !POD_FIELDS.contains(&path) {
            let what = format!("{path:?} is not a field of a pod that a variable can hold");
            return fault(
                format!("{field}.fieldRef.fieldPath"),
                what,
                "use one such as metadata.name or spec.nodeName",
            );
        }
    }
    let keys = [
        ("configMapKeyRef", source.config_map_key_ref.as_ref().map(|reference| &reference.key)),
        ("secretKeyRef", source.secret_key_ref.as_ref().map(|reference| &reference.key)),
    ];
    for (reference, key) in keys {
        if key.is_some_and(String::is_empty) {
            return fault(format!("{field}.{reference}.key"), "is missing", "name the key");
        }
    }
    Ok(())
}

fn probe(field: &str, probe: Option<&api::Probe>) -> Checked {
    const NUMBERS: [&str; 6] = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
        "terminationGracePeriodSeconds",
    ];
    let Some(probe) = probe else { return Ok(()) };
    exactly_one(field, &set_fields(probe, &NUMBERS), "exec, httpGet, tcpSocket and grpc")?;
    exec(field, probe.exec.as_ref())?;
    port(&format!("{field}.httpGet.port"), probe.http_get.as_ref().map(|action| &action.port))?;
    port(&format!("{field}.tcpSocket.port"), probe.tcp_socket.as_ref().map(|action| &action.port))?;
    let grpc = probe.grpc.as_ref().map(|action| IntOrString::Int(action.port));
    port(&format!("{field}.grpc.port"), grpc.as_ref())?;
    let grace = probe.termination_grace_period_seconds;
    let numbers = [
        probe.initial_delay_seconds.map(i64::from),
        probe.timeout_seconds.map(i64::from),
        probe.period_seconds.map(i64::from),
        probe.success_threshold.map(i64::from),
        probe.failure_threshold.map(i64::from),
        grace,
    ];
    for (name, number) in NUMBERS.into_iter().zip(numbers) {
        if number.is_some_and(|number| number < 0) {
            return fault(
                format!("{field}.{name}"),
                "is less than zero",
                "give a number of seconds or times",
            );
        }
    }
    if field != "readinessProbe" && probe.success_threshold.is_some_and(|times| times > 1) {
        return fault(format!("{field}.successThreshold"), "has to be 1 in this probe", "leave it out");
    }
    match grace {
        Some(_) if field == "readinessProbe" => fault(
            format!("{field}.terminationGracePeriodSeconds"),
            "ends nothing in this probe",
            "leave it out",
        ),
        Some(0) => fault(
            format!("{field}.terminationGracePeriodSeconds"),
            "is zero",
            "give at least 1, or leave it out",
        ),
        _ => Ok(()),
    }
}

fn hook(field: &str, hook: Option<&api::LifecycleHandler>) -> Checked {
    let Some(hook) = hook else { return Ok(()) };
    exactly_one(field, &set_fields(hook, &[]), "exec, httpGet, tcpSocket and sleep")?;
    exec(field, hook.exec.as_ref())?;
    port(&format!("{field}.httpGet.port"), hook.http_get.as_ref().map(|action| &action.port))?;
    port(&format!("{field}.tcpSocket.port"), hook.tcp_socket.as_ref().map(|action| &action.port))?;
    match &hook.sleep {
        Some(sleep) if sleep.seconds < 0 => {
            fault(format!("{field}.sleep.seconds"), "is less than zero", "give a number of seconds")
        }
        _ => Ok(()),
    }
}

fn exec(field: &str, action: Option<&api::ExecAction>) -> Checked {
    match action {
        Some(action) if action.command.as_ref().is_none_or(Vec::is_empty) => {
            fault(format!("{field}.exec.command"), "is missing", "give the words of a command")
        }
        _ => Ok(()),
    }
}

fn port(field: &str, port: Option<&IntOrString>) -> Checked {
    let is_valid = match port {
        None => true,
        Some(IntOrString::Int(number)) => (1..=65535).contains(number),
        Some(IntOrString::String(name)) => (1..=15).contains(&name.len()) && is_label(name),
    };
    if is_valid {
        Ok(())
    } else {
        fault(field, "is not a port", "give a number from 1 to 65535, or a port's name")
    }
}

fn cache_directory(directory: &CacheDirectoryPatch) -> Checked {
    let path = directory.path.trim_end_matches('/');
    match &directory.source {
        CacheSource::Claim(name) if !name.contains("${") && !is_name(name) => {
            let what = format!("{name:?} is not a name that Kubernetes takes ({NAME_GRAMMAR})");
            fault("cacheDirs.name", what, "name a claim")
        }
        CacheSource::HostPath
            if path == CLIENT_DIRECTORY || path == UPDATEDB || path.starts_with("/jfs/") =>
        {
            let what = format!("{path:?} is where the client itself has something mounted");
            fault("cacheDirs.path", what, "choose another directory")
        }
        _ => Ok(()),
    }
}

fn volume(field: &str, volume: &api::Volume) -> Checked {
    if !is_label(&volume.name) {
        let what =
            format!("{:?} is not a name that Kubernetes takes for a volume ({LABEL_GRAMMAR})", volume.name);
        return fault(format!("{field}.name"), what, "rename the volume");
    }
    exactly_one(field, &set_fields(volume, &["name"]), "the sources of a volume, such as hostPath and secret")
}

fn mounts(mounts: &[api::VolumeMount]) -> Checked {
    let mut paths = BTreeSet::new();
    for (position, mount) in mounts.iter().enumerate() {
        let field = format!("volumeMounts[{position}]");
        let path = mount.mount_path.trim_end_matches('/');
        if mount.mount_path.is_empty() {
            return fault(
                format!("{field}.mountPath"),
                "is missing",
                "say where the volume is to be mounted",
            );
        }
        if path.contains(':') {
            return fault(format!("{field}.mountPath"), "has a colon in it", "choose another directory");
        }
        if path == CLIENT_DIRECTORY || path.is_empty() {
            let what = format!("{:?} is where the client itself has something mounted", mount.mount_path);
            return fault(format!("{field}.mountPath"), what, "choose another directory");
        }
        if !paths.insert(path) {
            let what = format!("{:?} is given twice", mount.mount_path);
            return fault(format!("{field}.mountPath"), what, "mount one volume at a path");
        }
        let sub_paths = [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)];
        for (name, sub_path) in sub_paths {
            let text = sub_path.as_deref().unwrap_or_default();
            if text.starts_with('/') || text.split('/').any(|part| part == "..") {
                let what = format!("{text:?} leaves the volume");
                return fault(
                    format!("{field}.{name}"),
                    what,
                    "write a path from the volume's root, without \"..\"",
                );
            }
        }
        if sub_paths.iter().all(|(_, text)| text.as_ref().is_some_and(|text| !text.is_empty())) {
            return fault(field, "has subPath and subPathExpr", "keep one of them");
        }
        match mount.mount_propagation.as_deref() {
            None | Some("" | "None" | "HostToContainer" | "Bidirectional") => {}
            Some(other) => {
                let what = format!("{other:?} is no propagation");
                return fault(
                    format!("{field}.mountPropagation"),
                    what,
                    "use None, HostToContainer or Bidirectional",
                );
            }
        }
    }
    Ok(())
}

fn resources(resources: &api::ResourceRequirements) -> Checked {
    if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return fault(
            "resources.claims",
            "names resource claims, which the application's pod does not have",
            "leave it out",
        );
    }
    let empty = BTreeMap::new();
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    for (list, resource) in
        requests.keys().map(|key| ("requests", key)).chain(limits.keys().map(|key| ("limits", key)))
    {
        if !is_resource(resource) {
            let what = format!("{resource:?} is not a resource of a container");
            return fault(
                format!("resources.{list}"),
                what,
                "use cpu, memory, ephemeral-storage, or a name with its domain",
            );
        }
    }
    let amount = |amounts: &BTreeMap<String, ApiQuantity>, resource: &str| -> Option<Quantity> {
        amounts.get(resource)?.0.parse().ok()
    };
    for resource in requests.keys() {
        let (request, limit) = (amount(requests, resource), amount(limits, resource));
        // Of CPU and memory one of the two gives way.
        let is_fixed = resource.contains('/') || resource.starts_with("hugepages-");
        let what = match limit {
            _ if matches!(resource.as_str(), "cpu" | "memory") => continue,
            None if is_fixed => "is requested without a limit",
            Some(_) if is_fixed && request != limit => "has a request that is not its limit",
            Some(_) if request > limit => "has a request above its limit",
            _ => continue,
        };
        return fault(format!("resources.requests.{resource}"), what, "make request and limit the same");
    }
    Ok(())
}

fn is_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || name.starts_with("hugepages-")
        || name.contains('/')
}

#[cfg(test)]
mod tests;
