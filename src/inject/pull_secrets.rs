//! The Secrets with which nodes pull the agent's image. A pod has one list of them for all its containers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

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
    let mut present: Vec<&str> =
        pod.spec.image_pull_secrets.iter().flatten().map(|secret| &*secret.name).collect();
    let mut missing: Vec<BTreeMap<&str, &str>> = Vec::new();
    for name in &agent.image_pull_secrets {
        if !present.contains(&name.as_str()) {
            present.push(name);
            missing.push(BTreeMap::from([("name", name.as_str())]));
            undo.image_pull_secrets.push(name.clone());
        }
    }
    if missing.is_empty() {
        return;
    }
    if pod.spec.image_pull_secrets.is_none() {
        operations.add(&["spec", FIELD], &missing);
        undo.absent.push(FIELD.to_owned());
        return;
    }
    for secret in missing {
        operations.add(&["spec", FIELD, "-"], &secret);
    }
}

/// Adds what somebody took out of a pod, by what an injection would add, and takes out what an earlier one added alone.
pub(super) fn mend(pod: &Value, earlier: &Undo, undo: &Undo, operations: &mut Patch) {
    let present: BTreeSet<&str> =
        list(pod, FIELD).iter().filter_map(|secret| secret["name"].as_str()).collect();
    let stale = |name: &str| {
        let is = |names: &[String]| names.iter().any(|one| one == name);
        is(&earlier.image_pull_secrets) && !is(&undo.image_pull_secrets)
    };
    for (index, secret) in list(pod, FIELD).iter().enumerate().rev() {
        if secret["name"].as_str().is_some_and(stale) {
            operations.remove(&["spec", FIELD, &index.to_string()]);
        }
    }
    let missing = undo.image_pull_secrets.iter().filter(|name| !present.contains(name.as_str()));
    let missing: Vec<Value> = missing.map(|name| json!({ "name": name })).collect();
    if pod["spec"][FIELD].is_array() {
        for secret in &missing {
            operations.add(&["spec", FIELD, "-"], secret);
        }
    } else if !missing.is_empty() {
        operations.add(&["spec", FIELD], &missing);
    }
}

/// Takes out what was added.
pub(super) fn remove(pod: &Value, undo: &Undo, operations: &mut Patch) {
    let secrets = list(pod, FIELD);
    let ours = |secret: &Value| {
        secret["name"].as_str().is_some_and(|name| undo.image_pull_secrets.iter().any(|ours| ours == name))
    };
    if undo.was_absent(FIELD) && secrets.iter().all(ours) {
        remove_if_there(pod, &["spec", FIELD], operations);
        return;
    }
    for (index, _) in secrets.iter().enumerate().rev().filter(|(_, secret)| ours(secret)) {
        operations.remove(&["spec", FIELD, &index.to_string()]);
    }
}
