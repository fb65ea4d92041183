//! What decoding cannot see: values that fit their types and still cannot work.

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use super::{
    Agent, ConfigError, container, hooks,
    patch::{PatchItem, is_reserved},
    tree::Node,
};
use crate::{identifier::is_name, notation::Quantity};

/// A field below the item, what is wrong with its value, and what to do about it.
pub(super) struct Fault(pub(super) String, pub(super) String, pub(super) &'static str);

impl Fault {
    /// The error, with the line of the field if it is written there.
    fn below(self, place: &str, node: Option<&Node>) -> ConfigError {
        let Self(field, what, remedy) = self;
        let line = node.map(|node| {
            let written = field.split(['.', '[']).next().and_then(|name| node.field(name));
            written.unwrap_or(node).line
        });
        ConfigError { line, field: format!("{place}.{field}"), what, remedy: remedy.into() }
    }
}

/// Refuses what no agent could be made from.
pub(super) fn agent(agent: &Agent, node: Option<&Node>) -> Result<(), ConfigError> {
    let policy = pull_policy(agent.image_pull_policy.as_deref());
    for fault in [policy, pull_secrets(agent), resources(agent.resources.as_ref())] {
        fault.map_err(|fault| fault.below("agent", node))?;
    }
    Ok(())
}

/// Refuses what could never work; notes what will be left out.
pub(super) fn check(index: usize, item: &PatchItem, node: Option<&Node>) -> Result<Vec<String>, ConfigError> {
    let policy = pull_policy(item.image_pull_policy.as_deref());
    let resources = resources(item.resources.as_ref());
    for fault in [selectors(item), env(item), policy, resources, container::check(item)] {
        fault.map_err(|fault| fault.below(&format!("mountPodPatch[{index}]"), node))?;
    }
    let mut notes = Vec::new();
    let mut note = |field: &str, what: &str| notes.push(format!("mountPodPatch[{index}].{field}: {what}"));
    for (field, instead) in item.without_effect() {
        note(field, &format!("has no effect in a sidecar: {instead}"));
    }
    if item.annotations.is_some() {
        note("annotations", "has an effect on VCI and CCI only");
    }
    for fault in item.resource_percentages.iter().flat_map(|percentages| &percentages.faults) {
        note("resourcePercentages", fault);
    }
    unknown_operators(item, &mut note);
    hooks::check(item, &mut note);
    volumes(item, &mut note);
    Ok(notes)
}

fn selectors(item: &PatchItem) -> Result<(), Fault> {
    let claim = item.pvc_selector.iter().flat_map(|selector| &selector.match_expressions);
    let node = item.node_selector.iter().flat_map(|selector| &selector.match_expressions);
    for (selector, requirements) in
        claim.map(|list| ("pvcSelector", list)).chain(node.map(|list| ("nodeSelector", list)))
    {
        for (position, requirement) in requirements.iter().enumerate() {
            requirement_fault(requirement).map_err(|(what, remedy)| {
                Fault(format!("{selector}.matchExpressions[{position}]"), what, remedy)
            })?;
        }
    }
    Ok(())
}

fn requirement_fault(requirement: &LabelSelectorRequirement) -> Result<(), (String, &'static str)> {
    if requirement.key.is_empty() {
        return Err(("key is empty".into(), "name a label"));
    }
    let has_values = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
    match (requirement.operator.as_str(), has_values) {
        (operator @ ("In" | "NotIn"), false) => {
            Err((format!("operator {operator} has no values"), "list some values"))
        }
        (operator @ ("Exists" | "DoesNotExist"), true) => {
            Err((format!("operator {operator} takes no values"), "remove the values, or use In or NotIn"))
        }
        // An operator that does not exist matches nothing, as in the Go driver, which is a note.
        _ => Ok(()),
    }
}

/// What matches nothing, and would be a mistake anywhere but here.
fn unknown_operators(item: &PatchItem, note: &mut impl FnMut(&str, &str)) {
    let claim = item.pvc_selector.iter().flat_map(|selector| &selector.match_expressions);
    let node = item.node_selector.iter().flat_map(|selector| &selector.match_expressions);
    let lists = claim.map(|list| ("pvcSelector", list)).chain(node.map(|list| ("nodeSelector", list)));
    for (selector, requirement) in lists.flat_map(|(name, list)| list.iter().map(move |one| (name, one))) {
        let operator = requirement.operator.as_str();
        if !matches!(operator, "In" | "NotIn" | "Exists" | "DoesNotExist") {
            note(
                &format!("{selector}.matchExpressions"),
                &format!(
                    "operator {operator:?} does not exist, so the item matches nothing; use In, NotIn, Exists or DoesNotExist"
                ),
            );
        }
    }
}

fn env(item: &PatchItem) -> Result<(), Fault> {
    for (position, variable) in item.env.iter().flatten().enumerate() {
        // Kubernetes takes any printable ASCII but the equals sign.
        let name = &variable.name;
        if name.is_empty() || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
            let what = format!("{name:?} cannot be the name of an environment variable");
            return Err(Fault(format!("env[{position}].name"), what, "use letters, digits and underscores"));
        }
        if variable.value.as_ref().is_some_and(|value| !value.is_empty()) && variable.value_from.is_some() {
            let what = format!("{name} has both value and valueFrom");
            return Err(Fault(format!("env[{position}]"), what, "keep one of them"));
        }
    }
    Ok(())
}

fn pull_policy(policy: Option<&str>) -> Result<(), Fault> {
    match policy {
        None | Some("" | "Always" | "IfNotPresent" | "Never") => Ok(()),
        Some(other) => Err(Fault(
            "imagePullPolicy".into(),
            format!("{other:?} is not a pull policy"),
            "use Always, IfNotPresent or Never",
        )),
    }
}

fn pull_secrets(agent: &Agent) -> Result<(), Fault> {
    let names = agent.image_pull_secrets.iter().map(|secret| secret.name.as_str());
    match names.enumerate().find(|(_, name)| !is_name(name)) {
        None => Ok(()),
        Some((index, name)) => Err(Fault(
            format!("imagePullSecrets[{index}].name"),
            format!("{name:?} is not the name of a Secret"),
            "write the name of a Secret that is in the namespace of every pod in resilient mode",
        )),
    }
}

fn resources(resources: Option<&ResourceRequirements>) -> Result<(), Fault> {
    let requests = resources.iter().flat_map(|resources| &resources.requests).map(|map| ("requests", map));
    let limits = resources.iter().flat_map(|resources| &resources.limits).map(|map| ("limits", map));
    for (field, amounts) in requests.chain(limits) {
        for (resource, amount) in amounts {
            if amount.0.parse().is_ok_and(Quantity::is_negative) {
                let what = format!("{:?} is less than zero", amount.0);
                return Err(Fault(
                    format!("resources.{field}.{resource}"),
                    what,
                    "write an amount, or leave it out",
                ));
            }
        }
    }
    Ok(())
}

/// The Go driver leaves the same ones out without a word; its own documentation has an example of it.
fn volumes(item: &PatchItem, note: &mut impl FnMut(&str, &str)) {
    for volume in item.volumes.iter().flatten().filter(|volume| is_reserved(&volume.name)) {
        note(
            "volumes",
            &format!("the name {:?} is reserved for the client's own volumes, ignored", volume.name),
        );
    }
    let mounts = item.volume_mounts.iter().flatten().map(|mount| ("volumeMounts", &mount.name));
    let devices = item.volume_devices.iter().flatten().map(|device| ("volumeDevices", &device.name));
    let users: Vec<_> = mounts.chain(devices).collect();
    for (field, name) in &users {
        if !item.usable_volumes().any(|volume| volume.name == **name) {
            note(field, &format!("{name:?} is not a volume of the same item, ignored"));
        }
    }
    for volume in item.usable_volumes() {
        if !users.iter().any(|(_, name)| **name == volume.name) {
            note("volumes", &format!("{:?} is neither mounted nor used as a device", volume.name));
        }
    }
}
