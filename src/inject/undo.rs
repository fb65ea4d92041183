//! Taking away what was put in, by name: other webhooks and people may have changed the pod since.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    inject::{
        operation::Patch,
        pull_secrets,
        status::{Before, DONE, MountBefore, ResourceBefore, STATUS, Status},
    },
    notation::Quantity,
};

/// The two lists of containers that are ever changed.
pub(crate) const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// The operations that restore a pod from its status.
pub(crate) fn undo(pod: &Value, status: &Status) -> Patch {
    let mut operations = Patch::default();
    restore_mounts(pod, status, &mut operations);
    remove_containers(pod, status, &mut operations);
    restore_volumes(pod, status, &mut operations);
    pull_secrets::remove(pod, &status.undo, &mut operations);
    restore_grace(pod, status, &mut operations);
    restore_resources(pod, status, &mut operations);
    restore_metadata(pod, status, &mut operations);
    operations
}

/// A client that nothing says how to take out: one of another injector, or of ours in a pod that lost its annotation.
pub(crate) fn unmarked_client(pod: &Value) -> Option<&str> {
    let is_client = |container: &&Value| {
        let words =
            ["command", "args"].iter().flat_map(|field| container[*field].as_array().into_iter().flatten());
        let mut words = words.filter_map(Value::as_str);
        words.any(|word| word.contains("/mount.juicefs") || word.ends_with("jfs-agent"))
    };
    let containers = CONTAINER_LISTS.iter().flat_map(|list| self::list(pod, list));
    containers.filter(is_client).find_map(|container| container["name"].as_str())
}

/// The elements of a list in the pod's spec, none if it is absent.
pub(crate) fn list<'a>(pod: &'a Value, name: &str) -> &'a [Value] {
    pod["spec"][name].as_array().map_or(&[], Vec::as_slice)
}

/// The index of the first element with each name. A status may name as many as an annotation holds, so nothing here
/// looks through a list for each of them.
pub(crate) fn positions<'a>(list: &'a [Value], key: &str) -> BTreeMap<&'a str, usize> {
    let named = list.iter().enumerate().rev();
    named.filter_map(|(index, element)| Some((element[key].as_str()?, index))).collect()
}

/// Where each mount of a pod is, by container and path.
type Mounts<'a> = BTreeMap<(&'a str, &'a str), (&'static str, usize, usize)>;

fn mounts(pod: &Value) -> Mounts<'_> {
    let mut found = Mounts::new();
    for name in CONTAINER_LISTS {
        for (index, container) in list(pod, name).iter().enumerate() {
            let Some(of) = container["name"].as_str() else { continue };
            for (number, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
                if let Some(path) = mount["mountPath"].as_str() {
                    found.entry((of, path)).or_insert((name, index, number));
                }
            }
        }
    }
    found
}

fn restore_mounts(pod: &Value, status: &Status, operations: &mut Patch) {
    if status.undo.mounts.is_empty() {
        return;
    }
    let mounts = mounts(pod);
    for before in &status.undo.mounts {
        if let Some(place) = mounts.get(&(before.container.as_str(), before.path.as_str())) {
            restore_mount(pod, before, *place, operations);
        }
    }
}

fn restore_mount(
    pod: &Value,
    before: &MountBefore,
    (name, container, mount): (&str, usize, usize),
    operations: &mut Patch,
) {
    let (container, mount) = (container.to_string(), mount.to_string());
    let at = |field| ["spec", name, &container, "volumeMounts", &mount, field];
    if let Some(volume) = &before.volume {
        operations.add(&at("name"), volume);
    }
    match &before.read_only {
        Some(Before::Was(value)) => operations.add(&at("readOnly"), value),
        Some(Before::Absent) => remove_if_there(pod, &at("readOnly"), operations),
        None => {}
    }
    let texts = [
        ("mountPropagation", &before.propagation),
        ("subPath", &before.sub_path),
        ("subPathExpr", &before.sub_path_expr),
    ];
    for (field, before) in texts {
        match before {
            Some(Before::Was(value)) => operations.add(&at(field), value),
            Some(Before::Absent) => remove_if_there(pod, &at(field), operations),
            None => {}
        }
    }
}

fn remove_containers(pod: &Value, status: &Status, operations: &mut Patch) {
    let ours: BTreeSet<&str> = status.containers().collect();
    for name in CONTAINER_LISTS {
        let containers = list(pod, name);
        let ours = |container: &Value| container["name"].as_str().is_some_and(|name| ours.contains(name));
        let removed = containers.iter().filter(|container| ours(container)).count();
        if name == "initContainers" && status.undo.was_absent(name) && removed == containers.len() {
            remove_if_there(pod, &["spec", name], operations);
            continue;
        }
        for (index, _) in containers.iter().enumerate().rev().filter(|(_, container)| ours(container)) {
            operations.remove(&["spec", name, &index.to_string()]);
        }
    }
}

fn restore_volumes(pod: &Value, status: &Status, operations: &mut Patch) {
    let volumes = list(pod, "volumes");
    let positions = positions(volumes, "name");
    let position = |name: &String| positions.get(name.as_str()).copied();
    let mut gone: BTreeSet<usize> = status.added_volumes.iter().filter_map(position).collect();
    // One that was added beside the user's is gone with the others that were.
    for volume in status.volumes.iter().filter(|volume| volume.pod_volume.is_empty()) {
        let reference = position(&volume.reference).filter(|_| !volume.reference.is_empty());
        gone.extend(reference);
        let Some(index) = position(&volume.volume) else { continue };
        let to = index.to_string();
        let source = ["spec", "volumes", &to, &volume.source];
        remove_if_there(pod, &["spec", "volumes", &to, &volume.shared], operations);
        if !volumes[index][&volume.source].is_null() {
            continue;
        }
        match reference.filter(|&reference| !volumes[reference][&volume.source].is_null()) {
            Some(from) => {
                operations.relocate(&["spec", "volumes", &from.to_string(), &volume.source], &source);
            }
            None if volume.read_only => {
                operations.add(&source, &json!({ "claimName": volume.claim, "readOnly": true }));
            }
            None => operations.add(&source, &json!({ "claimName": volume.claim })),
        }
    }
    for index in gone.into_iter().rev() {
        operations.remove(&["spec", "volumes", &index.to_string()]);
    }
}

fn restore_grace(pod: &Value, status: &Status, operations: &mut Patch) {
    let path = ["spec", "terminationGracePeriodSeconds"];
    match status.undo.grace {
        Some(Before::Was(seconds)) => operations.add(&path, &seconds),
        Some(Before::Absent) => remove_if_there(pod, &path, operations),
        None => {}
    }
}

/// Takes our share out of the pod's own resources, and puts back the very text where nobody changed the sum.
fn restore_resources(pod: &Value, status: &Status, operations: &mut Patch) {
    let ours = |key: &String| {
        status
            .undo
            .resources
            .iter()
            .any(|one| one.field == "requests" && one.resource == *key && one.before == Before::Absent)
    };
    let requests = pod["spec"]["resources"]["requests"].as_object();
    let whole =
        status.undo.was_absent("requests") && requests.is_some_and(|requests| requests.keys().all(ours));
    if whole {
        operations.remove(&["spec", "resources", "requests"]);
    }
    for ResourceBefore { field, resource, before, added, after } in &status.undo.resources {
        let path = ["spec", "resources", field, resource];
        let Some(present) = quantity(&pod["spec"]["resources"][field][resource]) else { continue };
        if field == "requests" && whole {
            continue;
        }
        let (added, after) = (added.parse::<Quantity>(), after.parse::<Quantity>());
        match before {
            Before::Was(value) if after == Ok(present) => operations.add(&path, value),
            Before::Absent if after == Ok(present) => operations.remove(&path),
            _ => {
                if let Some(rest) =
                    added.ok().map(|added| present.minus(added)).filter(|rest| !rest.is_negative())
                {
                    operations.add(&path, &rest.to_string());
                }
            }
        }
    }
}

/// A quantity in an object: a text or a number.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn restore_metadata(pod: &Value, status: &Status, operations: &mut Patch) {
    let undo = &status.undo;
    match &undo.done {
        Some(value) => operations.add(&["metadata", "labels", DONE], value),
        None => {
            remove_keys(pod, "labels", &BTreeSet::from([DONE]), status.undo.was_absent("labels"), operations);
        }
    }
    let mut added: BTreeSet<&str> = undo.annotations.iter().map(String::as_str).collect();
    added.insert(STATUS);
    let done = BTreeSet::from([DONE]);
    remove_keys(pod, "annotations", &added, status.undo.was_absent("annotations"), operations);
    for (key, value) in &undo.replaced_annotations {
        operations.add(&["metadata", "annotations", key], value);
    }
    let emptied = |name: &str, keys: &BTreeSet<&str>| {
        pod["metadata"][name].as_object().is_none_or(|map| map.keys().all(|key| keys.contains(key.as_str())))
    };
    let only_ours = pod["metadata"].as_object().is_some_and(|metadata| {
        metadata.keys().all(|key| key == "labels" || key == "annotations")
            && emptied("labels", &done)
            && emptied("annotations", &added)
    });
    if status.undo.was_absent("metadata") && only_ours {
        operations.remove(&["metadata"]);
    }
}

/// Removes keys of a metadata map, and the map itself if it was made for them.
fn remove_keys(pod: &Value, map: &str, keys: &BTreeSet<&str>, whole: bool, operations: &mut Patch) {
    let Some(present) = pod["metadata"][map].as_object() else { return };
    if whole && present.keys().all(|key| keys.contains(key.as_str())) {
        operations.remove(&["metadata", map]);
        return;
    }
    for key in keys.iter().filter(|key| present.contains_key(**key)) {
        operations.remove(&["metadata", map, key]);
    }
}

pub(super) fn remove_if_there(pod: &Value, path: &[&str], operations: &mut Patch) {
    let found = path.iter().try_fold(pod, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    });
    if found.is_some() {
        operations.remove(path);
    }
}
