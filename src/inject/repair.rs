//! Mending a pod that carries our sidecars: what another webhook damaged is put right, what it added stays.
//!
//! The pod is restored from its status and planned again; only then is what should be there compared with what is.
//! Images and resources are not compared: registries are mirrored and limits are tuned by others with good reason.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::inject::{
    names::METRICS_PORT_NAMES,
    operation::Patch,
    pull_secrets,
    status::{DEFAULT_CONTAINER, DONE, ResourceBefore, SAFE_TO_EVICT, STATUS, Status},
    undo::{CONTAINER_LISTS, list, positions, quantity},
};

/// Fields of our containers that must hold at least what was planned.
const FIELDS: [&str; 6] =
    ["restartPolicy", "command", "securityContext", "lifecycle", "startupProbe", "terminationMessagePolicy"];
/// Lists in our containers and the key that tells their elements apart.
const KEYED_LISTS: [(&str, &str); 3] =
    [("env", "name"), ("volumeMounts", "mountPath"), ("ports", "containerPort")];

/// Fields of the application's mounts that are changed.
const MOUNT_FIELDS: [&str; 5] = ["name", "readOnly", "mountPropagation", "subPath", "subPathExpr"];

/// The operations that lead from `actual` to a pod with everything of `desired` that is ours.
///
/// What an earlier injection put there, by `earlier`, and this one would not, goes.
pub(crate) fn mend(actual: &Value, desired: &Value, earlier: &Status, status: &Status) -> Patch {
    let mut operations = Patch::default();
    mend_metadata(actual, desired, status, &mut operations);
    let grace = |pod: &Value| pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    if let Some(needed) = grace(desired)
        && grace(actual).is_none_or(|present| present < needed)
    {
        operations.add(&["spec", "terminationGracePeriodSeconds"], &needed);
    }
    mend_resources(actual, desired, status, &mut operations);
    pull_secrets::mend(actual, &earlier.undo, &status.undo, &mut operations);
    mend_volumes(actual, desired, (earlier, status), &mut operations);
    mend_application_mounts(actual, desired, status, &mut operations);
    let planned = positions(list(desired, "volumes"), "name");
    let references = earlier.volumes.iter().map(|volume| &volume.reference);
    let ours = references.chain(&earlier.added_volumes).map(String::as_str);
    let stale: BTreeSet<&str> = ours.filter(|name| !planned.contains_key(name)).collect();
    mend_containers(actual, desired, (earlier, &stale), status, &mut operations);
    // Done last, for others name volumes by their index.
    for (index, volume) in list(actual, "volumes").iter().enumerate().rev() {
        if volume["name"].as_str().is_some_and(|name| stale.contains(name)) {
            operations.remove(&["spec", "volumes", &index.to_string()]);
        }
    }
    operations
}

fn mend_metadata(actual: &Value, desired: &Value, status: &Status, operations: &mut Patch) {
    if actual["metadata"]["labels"][DONE] != "true" {
        if actual["metadata"]["labels"].is_object() {
            operations.add(&["metadata", "labels", DONE], "true");
        } else {
            operations.add(&["metadata", "labels"], &serde_json::json!({ DONE: "true" }));
        }
    }
    let replaced = status.undo.replaced_annotations.iter().map(|(key, _)| key.as_str());
    let added = status.undo.annotations.iter().map(String::as_str);
    for key in added.chain(replaced).chain([DEFAULT_CONTAINER, STATUS]) {
        let wanted = &desired["metadata"]["annotations"][key];
        let present = &actual["metadata"]["annotations"][key];
        let is_enough = match key {
            STATUS => says_as_much(present, status),
            SAFE_TO_EVICT => lists_as_much(present, wanted),
            _ => false,
        };
        if !wanted.is_null() && present != wanted && !is_enough {
            operations.add(&["metadata", "annotations", key], wanted);
        }
    }
}

/// Whether a status annotation says all that `wanted` does. Which lists of the pod were absent before is its own
/// knowledge: others may have filled them since.
fn says_as_much(present: &Value, wanted: &Status) -> bool {
    let present = present.as_str().and_then(|text| Status::parse(text).ok());
    present.is_some_and(|mut present| {
        present.undo.absent.clone_from(&wanted.undo.absent);
        present == *wanted
    })
}

/// The API server refuses pods that ask for less as a whole than their containers do together.
fn mend_resources(actual: &Value, desired: &Value, status: &Status, operations: &mut Patch) {
    let (desired, actual) = (&desired["spec"]["resources"], &actual["spec"]["resources"]);
    for field in ["limits", "requests"] {
        let mut ours = status.undo.resources.iter().filter(|one| one.field == field).peekable();
        if ours.peek().is_some() && !actual[field].is_object() {
            operations.add(&["spec", "resources", field], &desired[field]);
            continue;
        }
        for ResourceBefore { resource, .. } in ours {
            if quantity(&desired[field][resource]) != quantity(&actual[field][resource]) {
                operations.add(&["spec", "resources", field, resource], &desired[field][resource]);
            }
        }
    }
}

/// Whether a list of names has all that `wanted` has; others may have added theirs.
fn lists_as_much(present: &Value, wanted: &Value) -> bool {
    let names = |list: &Value| {
        list.as_str().unwrap_or_default().split(',').map(str::trim).map(str::to_owned).collect()
    };
    let (present, wanted): (BTreeSet<String>, BTreeSet<String>) = (names(present), names(wanted));
    wanted.is_subset(&present)
}

fn mend_volumes(
    actual: &Value,
    desired: &Value,
    (earlier, status): (&Status, &Status),
    operations: &mut Patch,
) {
    let shared = status.volumes.iter().flat_map(|volume| [&volume.volume, &volume.reference]);
    // Whatever was replaced before may have become the user's own again.
    let replaced = earlier.volumes.iter().map(|volume| &volume.volume);
    let mut seen = BTreeSet::new();
    let (desired, actual) = (list(desired, "volumes"), list(actual, "volumes"));
    let (planned, present) = (positions(desired, "name"), positions(actual, "name"));
    for name in shared.chain(&status.added_volumes).chain(replaced).filter(|name| seen.insert(*name)) {
        let Some(&wanted) = planned.get(name.as_str()) else { continue };
        let wanted = &desired[wanted];
        match present.get(name.as_str()) {
            None => operations.add(&["spec", "volumes", "-"], wanted),
            Some(&index) if !holds(&actual[index], wanted) => {
                operations.replace(&["spec", "volumes", &index.to_string()], wanted);
            }
            Some(_) => {}
        }
    }
}

fn mend_application_mounts(actual: &Value, desired: &Value, status: &Status, operations: &mut Patch) {
    let ours: BTreeSet<&str> = status.containers().collect();
    for name in CONTAINER_LISTS {
        let positions = positions(list(desired, name), "name");
        for (index, container) in list(actual, name).iter().enumerate() {
            let theirs = container["name"].as_str().filter(|name| !ours.contains(name));
            let Some(&planned) = theirs.and_then(|name| positions.get(name)) else { continue };
            let planned = list(desired, name)[planned]["volumeMounts"].as_array();
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            for (number, (mount, wanted)) in mounts.zip(planned.into_iter().flatten()).enumerate() {
                for field in MOUNT_FIELDS {
                    if !wanted[field].is_null() && mount[field] != wanted[field] {
                        let (index, number) = (index.to_string(), number.to_string());
                        let path = ["spec", name, &index, "volumeMounts", &number, field];
                        operations.add(&path, &wanted[field]);
                    }
                }
            }
        }
    }
}

/// Puts our containers into the right list, where they were planned, in order, with the fields they need.
fn mend_containers(
    actual: &Value,
    desired: &Value,
    (earlier, stale): (&Status, &BTreeSet<&str>),
    status: &Status,
    operations: &mut Patch,
) {
    let (wanted_list, other_list) =
        if status.native { ("initContainers", "containers") } else { ("containers", "initContainers") };
    let ours: BTreeSet<&str> = status.containers().collect();
    let all: BTreeSet<&str> = earlier.containers().chain(status.containers()).collect();
    let gone = |container: &Value| {
        container["name"].as_str().is_some_and(|name| all.contains(name) && !ours.contains(name))
    };
    for (index, container) in list(actual, other_list).iter().enumerate().rev() {
        if container["name"].as_str().is_some_and(|name| all.contains(name)) {
            operations.remove(&["spec", other_list, &index.to_string()]);
        }
    }
    for (index, _) in list(actual, wanted_list).iter().enumerate().rev().filter(|(_, one)| gone(one)) {
        operations.remove(&["spec", wanted_list, &index.to_string()]);
    }
    if !actual["spec"][wanted_list].is_array() {
        operations.add(&["spec", wanted_list], &Value::Array(Vec::new()));
    }
    let mut order: Vec<&str> = list(actual, wanted_list)
        .iter()
        .filter(|container| !gone(container))
        .map(|container| container["name"].as_str().unwrap_or_default())
        .collect();
    let planned = list(desired, wanted_list);
    let (wanted_at, present_at) = (positions(planned, "name"), positions(list(actual, wanted_list), "name"));
    let first = status.containers().next().and_then(|name| wanted_at.get(name)).copied().unwrap_or(0);
    for (index, name) in (first..).zip(status.containers()) {
        let Some(&wanted) = wanted_at.get(name) else { continue };
        let wanted = &planned[wanted];
        let to = index.to_string();
        match order.iter().position(|present| *present == name) {
            None => {
                operations.add(&["spec", wanted_list, &to], wanted);
                order.insert(index, name);
            }
            Some(from) => {
                if from != index {
                    operations
                        .relocate(&["spec", wanted_list, &from.to_string()], &["spec", wanted_list, &to]);
                    order.remove(from);
                    order.insert(index, name);
                }
                if let Some(&present) = present_at.get(name) {
                    let present = &list(actual, wanted_list)[present];
                    mend_container(present, wanted, stale, &["spec", wanted_list, &to], operations);
                }
            }
        }
    }
}

/// Takes away metrics ports that were declared before the pod was what it is now. To be done last: other operations
/// name ports by their index.
fn drop_stale_ports(actual: &Value, wanted: &Value, path: &[&str; 3], operations: &mut Patch) {
    let Some(present) = actual["ports"].as_array() else { return };
    let wanted = wanted["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let is_stale = |port: &Value| {
        METRICS_PORT_NAMES.iter().any(|name| port["name"] == *name)
            && !wanted.iter().any(|wanted| wanted["containerPort"] == port["containerPort"])
    };
    let [spec, list, index] = *path;
    if wanted.is_empty() && !present.is_empty() && present.iter().all(is_stale) {
        operations.remove(&[spec, list, index, "ports"]);
        return;
    }
    for (number, _) in present.iter().enumerate().rev().filter(|(_, port)| is_stale(port)) {
        operations.remove(&[spec, list, index, "ports", &number.to_string()]);
    }
}

fn mend_container(
    actual: &Value,
    wanted: &Value,
    stale: &BTreeSet<&str>,
    path: &[&str; 3],
    operations: &mut Patch,
) {
    let [spec, list, index] = *path;
    for field in FIELDS {
        if !wanted[field].is_null() && !holds(&actual[field], &wanted[field]) {
            operations.add(&[spec, list, index, field], &wanted[field]);
        }
    }
    for (field, key) in KEYED_LISTS {
        let Some(elements) = wanted[field].as_array() else { continue };
        let Some(present) = actual[field].as_array() else {
            operations.add(&[spec, list, index, field], &wanted[field]);
            continue;
        };
        for (number, element) in elements.iter().enumerate() {
            // A variable may be given twice: the second is compared with the second.
            let earlier = elements.iter().take(number).filter(|other| other[key] == element[key]).count();
            let mut alike =
                present.iter().enumerate().filter(|(_, candidate)| candidate[key] == element[key]);
            match alike.nth(earlier).map(|(at, _)| at) {
                None => operations.add(&[spec, list, index, field, "-"], element),
                Some(at) if !holds(&present[at], element) => {
                    operations.replace(&[spec, list, index, field, &at.to_string()], element);
                }
                Some(_) => {}
            }
        }
    }
    drop_stale(
        actual,
        wanted,
        "env",
        "name",
        &|variable| credentials_of(variable).is_some(),
        path,
        operations,
    );
    let is_shared = |mount: &Value| {
        stale.contains(mount["name"].as_str().unwrap_or_default())
            || mount["mountPath"].as_str().is_some_and(|at| at == "/jfs" || at.starts_with("/jfs/"))
    };
    drop_stale(actual, wanted, "volumeMounts", "mountPath", &is_shared, path, operations);
    drop_stale_ports(actual, wanted, path, operations);
}

/// The injected secret that a variable is from.
fn credentials_of(variable: &Value) -> Option<&str> {
    let name = variable["valueFrom"]["secretKeyRef"]["name"].as_str();
    name.filter(|name| name.ends_with("-jfs-secret") || name.ends_with("-jfs-class-secret"))
}

/// Takes away elements of a list that only an earlier injection can have put there. Done after the list was mended,
/// for others name elements by their index.
fn drop_stale(
    actual: &Value,
    wanted: &Value,
    field: &str,
    key: &str,
    is_ours: &dyn Fn(&Value) -> bool,
    path: &[&str; 3],
    operations: &mut Patch,
) {
    let [spec, list, index] = *path;
    let wanted: Vec<&Value> = wanted[field].as_array().into_iter().flatten().map(|one| &one[key]).collect();
    let present = actual[field].as_array().map_or(&[][..], Vec::as_slice);
    for (number, element) in present.iter().enumerate().rev() {
        if is_ours(element) && !wanted.contains(&&element[key]) {
            operations.remove(&[spec, list, index, field, &number.to_string()]);
        }
    }
}

/// Quantities, which the API server may have written in another form.
const QUANTITIES: [&str; 2] = ["sizeLimit", "resources"];

/// Whether `actual` has everything `wanted` has; the API server's defaults may have been added.
fn holds(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            let mut compared = wanted.iter().filter(|(key, _)| !QUANTITIES.contains(&key.as_str()));
            compared.all(|(key, value)| match actual.get(key) {
                Some(actual) => holds(actual, value),
                None => is_left_out(key, value),
            })
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len()
                && actual.iter().zip(wanted).all(|(actual, wanted)| holds(actual, wanted))
        }
        (actual, wanted) => actual == wanted,
    }
}

/// Whether the API server does not write a field with this value. In its types such a field is not a pointer.
fn is_left_out(key: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(false) => key == "readOnly",
        Value::Number(number) => key == "initialDelaySeconds" && number.as_i64() == Some(0),
        _ => false,
    }
}
