//! What decoding cannot see: values that fit their types and still cannot work.

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use super::{
    Agent, ConfigError, container,
    patch::{PatchItem, is_reserved},
    tree::Node,
};
use crate::notation::Quantity;

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
    for fault in [pull_policy(agent.image_pull_policy.as_deref()), resources(agent.resources.as_ref())] {
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
    for field in item.without_effect() {
        note(field, "has no effect in a sidecar");
    }
    if item.annotations.is_some() {
        note("annotations", "has an effect on VCI and CCI only");
    }
    for fault in item.resource_percentages.iter().flat_map(|percentages| &percentages.faults) {
        note("resourcePercentages", fault);
    }
    if unmounts_early(item) {
        note(
            "lifecycle.preStop",
            "runs umount when the pod's termination begins, under a still writing application",
        );
    }
    volumes(item, &mut note);
    Ok(notes)
}

/// Kubernetes runs every `preStop` of a pod at once, when its termination begins.
fn unmounts_early(item: &PatchItem) -> bool {
    let pre_stop = item.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let command = pre_stop.and_then(|handler| handler.exec.as_ref()?.command.as_ref());
    // Ordered exits wait for the application before they unmount; so does whoever sleeps first.
    command.is_some_and(|words| {
        let text = words.join(" ");
        text.find("umount").is_some_and(|at| !text.get(..at).is_some_and(|before| before.contains("sleep")))
    })
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
        ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => Ok(()),
        (operator @ ("In" | "NotIn"), false) => {
            Err((format!("operator {operator} has no values"), "list some values"))
        }
        (operator @ ("Exists" | "DoesNotExist"), true) => {
            Err((format!("operator {operator} takes no values"), "remove the values, or use In or NotIn"))
        }
        (operator, _) => {
            Err((format!("operator {operator:?} does not exist"), "use In, NotIn, Exists or DoesNotExist"))
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
