//! The Secrets with which nodes pull the agent's image. A pod has one list of them for all its containers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    inject::{
        operation::Patch,
        plan::Plan,
        status::Undo,
        undo::{list, remove_if_there},
    },
    pod::Pod,
};

const FIELD: &str = "imagePullSecrets";

/// Adds those that the pod does not name itself.
pub(super) fn add(plan: &Plan, pod: &Pod<'_>, operations: &mut Patch, undo: &mut Undo) {
    let Some(agent) = &plan.agent else { return };
    let list = pod.spec.image_pull_secrets.as_ref();
    let mut present: BTreeSet<&str> = list.into_iter().flatten().map(|secret| &*secret.name).collect();
    let missing: Vec<&str> =
        agent.image_pull_secrets.iter().map(String::as_str).filter(|name| present.insert(*name)).collect();
    undo.image_pull_secrets.extend(missing.iter().map(|name| (*name).to_owned()));
    if list.is_none() && !missing.is_empty() {
        undo.absent.push(FIELD.to_owned());
    }
    append(&missing, list.is_some(), operations);
}

/// Adds what somebody took out of a pod, by what an injection would add, and takes out what an earlier one added alone.
pub(super) fn mend(pod: &Value, earlier: &Undo, undo: &Undo, operations: &mut Patch) {
    let (before, now) = (names(&earlier.image_pull_secrets), names(&undo.image_pull_secrets));
    take_out(pod, |name| before.contains(name) && !now.contains(name), operations);
    let present: BTreeSet<&str> = list(pod, FIELD).iter().filter_map(name_of).collect();
    let missing: Vec<&str> =
        undo.image_pull_secrets.iter().map(String::as_str).filter(|name| !present.contains(name)).collect();
    append(&missing, pod["spec"][FIELD].is_array(), operations);
}

/// Takes out what was added.
pub(super) fn remove(pod: &Value, undo: &Undo, operations: &mut Patch) {
    let ours = names(&undo.image_pull_secrets);
    let all_are_ours =
        || list(pod, FIELD).iter().all(|secret| name_of(secret).is_some_and(|name| ours.contains(name)));
    if undo.was_absent(FIELD) && all_are_ours() {
        remove_if_there(pod, &["spec", FIELD], operations);
    } else {
        take_out(pod, |name| ours.contains(name), operations);
    }
}

fn names(list: &[String]) -> BTreeSet<&str> {
    list.iter().map(String::as_str).collect()
}

fn name_of(secret: &Value) -> Option<&str> {
    secret["name"].as_str()
}

/// Puts these at the end of the list, which may have to be made.
fn append(names: &[&str], is_there: bool, operations: &mut Patch) {
    let secrets: Vec<_> = names.iter().map(|name| BTreeMap::from([("name", *name)])).collect();
    if is_there {
        for secret in &secrets {
            operations.add(&["spec", FIELD, "-"], secret);
        }
    } else if !secrets.is_empty() {
        operations.add(&["spec", FIELD], &secrets);
    }
}

fn take_out(pod: &Value, which: impl Fn(&str) -> bool, operations: &mut Patch) {
    let which = |secret: &Value| name_of(secret).is_some_and(&which);
    for (index, _) in list(pod, FIELD).iter().enumerate().rev().filter(|(_, secret)| which(secret)) {
        operations.remove(&["spec", FIELD, &index.to_string()]);
    }
}
