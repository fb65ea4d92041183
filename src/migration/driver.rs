//! What the driver's controller was told by flags and environment, and what becomes of each.

use super::{
    Change, Effect, Facts,
    objects::{Kind, Program},
};
use crate::{config::Process, controller::MANAGER, identifier::is_name};

const AREA: &str = "driver";
/// The container of the standard provisioner, where the driver's own is switched off.
const STANDARD_PROVISIONER: &str = "csi-provisioner";
/// The namespace where the driver is unless its owner chose another.
pub const USUAL_NAMESPACE: &str = "kube-system";

/// A variable of the driver, and what becomes of it.
struct Variable {
    name: &'static str,
    becomes: Becomes,
}

enum Becomes {
    /// Understood under the same name; the value of the chart that sets it.
    Kept(&'static str),
    /// Nothing; what is instead.
    Nothing(&'static str),
    /// What Kubernetes tells the container.
    Plumbing,
}

use Becomes::{Kept, Nothing, Plumbing};

const VARIABLES: &[Variable] = &[
    Variable { name: "JUICEFS_CE_MOUNT_IMAGE", becomes: Kept("defaultMountImage.ce") },
    Variable { name: "JUICEFS_EE_MOUNT_IMAGE", becomes: Kept("defaultMountImage.ee") },
    Variable { name: "JUICEFS_MOUNT_IMAGE", becomes: Kept("controller.envs") },
    Variable { name: "JUICEFS_MOUNT_PATH", becomes: Kept("jfsMountDir") },
    Variable { name: "JUICEFS_IMMUTABLE", becomes: Kept("immutable") },
    Variable { name: "JFS_NO_UPDATE_CONFIG", becomes: Kept("controller.envs") },
    Variable { name: "PROVISION_WORKER_THREADS", becomes: Kept("controller.provisionWorkerThreads") },
    Variable { name: "KUBE_QPS", becomes: Kept("controller.envs") },
    Variable { name: "KUBE_BURST", becomes: Kept("controller.envs") },
    Variable { name: "ENABLE_APISERVER_LIST_CACHE", becomes: Kept("controller.envs") },
    Variable {
        name: "STORAGE_CLASS_SHARE_MOUNT",
        becomes: Nothing(
            "pods saw the whole file system with it, and see the directory of their volume from now on",
        ),
    },
    Variable {
        name: "FS_SHARE_MOUNT",
        becomes: Nothing(
            "pods saw the whole file system with it, and see the directory of their volume from now on",
        ),
    },
    Variable {
        name: "JUICEFS_CSI_WEB_PORT",
        becomes: Nothing("metrics are on port 9445, with other names (docs/metrics.md)"),
    },
    Variable {
        name: "JUICEFS_ALLOW_UNSAFE_PVC_MOUNT_POD_ANNOTATIONS",
        becomes: Nothing("allowUnsafePVCAnnotations in the ConfigMap does it for sidecars"),
    },
    Variable { name: "JUICEFS_CONFIG_PATH", becomes: Nothing("it is for mount pods") },
    Variable { name: "JUICEFS_CSI_NODE_DS_NAME", becomes: Nothing("it is for mount pods") },
    Variable { name: "ENABLE_NODE_SELECTOR", becomes: Nothing("it is for mount pods") },
    Variable { name: "DRIVER_NAME", becomes: Plumbing },
    Variable { name: "JUICEFS_MOUNT_NAMESPACE", becomes: Plumbing },
    Variable { name: "JUICEFS_CONFIG_NAME", becomes: Plumbing },
    Variable { name: "SYS_NAMESPACE", becomes: Plumbing },
    Variable { name: "CSI_ENDPOINT", becomes: Plumbing },
    Variable { name: "ADDRESS", becomes: Plumbing },
];

/// Where the driver's controller is.
pub(super) fn namespace<'a>(facts: &'a Facts<'_>) -> &'a str {
    // It becomes part of commands, and manifests may say anything.
    let found = facts.objects.drivers.first().map(Program::namespace);
    found.filter(|namespace| is_name(namespace)).unwrap_or(USUAL_NAMESPACE)
}

/// Whether the driver's claims are provisioned under a Lease of somebody else, so that nobody waits for the other.
pub(super) fn has_standard_provisioner(facts: &Facts<'_>) -> bool {
    facts.objects.drivers.iter().any(|driver| {
        driver.has_container(STANDARD_PROVISIONER) && driver.flag("provisioner").is_none_or(|on| on != "true")
    })
}

/// Whether a program of ours was told to leave provisioning alone.
pub(super) fn leaves_provisioning(program: &Program) -> bool {
    program.flag("provisioner") == Some("false")
}

pub(super) fn changes(facts: &Facts<'_>) -> Vec<Change> {
    let mut changes: Vec<Change> =
        facts.objects.drivers.iter().flat_map(|driver| of_one(facts, driver)).collect();
    for plugin in &facts.objects.node_plugins {
        let what = "its node plugin stays for pods that have no client beside them";
        changes.push(Change::new(Effect::Same, AREA, plugin, what));
    }
    changes
}

fn of_one(facts: &Facts<'_>, driver: &Program) -> Vec<Change> {
    let title = driver.title();
    let mut changes = Vec::new();
    let name = &facts.engine.process.driver;
    let theirs = driver.variable("DRIVER_NAME").unwrap_or("csi.juicefs.com");
    if theirs != name {
        changes.push(
            Change::new(
                Effect::Blocks,
                AREA,
                &title,
                format!("DRIVER_NAME: its volumes are of {theirs}, and this report is about those of {name}"),
            )
            .remedy(format!("install with driverName={theirs}, and ask again with --driver-name {theirs}")),
        );
    }
    if has_standard_provisioner(facts) {
        let what = "csi-provisioner makes its volumes: it knows no pathPattern, which classes that have one get from now on, \
                    and it waits for nobody's Lease";
        let remedy = "while it runs, install with controller.provisioner=false";
        changes.push(Change::new(Effect::Changed, AREA, &title, what).remedy(remedy));
    } else {
        let what = format!(
            "claims get their volumes as before; of the two the one provisions that holds the Lease {name}"
        );
        changes.push(Change::new(Effect::Same, AREA, &title, what));
    }
    if driver.flag("cache-client-conf") == Some("true") {
        let what = "--cache-client-conf: the client configuration of enterprise file systems is not renewed in user \
                    secrets any more; an initconfig that is there goes on being used";
        changes
            .push(Change::new(Effect::Changed, AREA, &title, what).remedy(
                "take initconfig out of the user secret where clients shall ask the console instead",
            ));
    }
    let variables = driver.containers.iter().flat_map(|container| container.env.iter().flatten());
    for variable in variables.filter(|variable| variable.value_from.is_none()) {
        let value = variable.value.as_deref().unwrap_or_default();
        if !value.is_empty() {
            changes.extend(of_variable(facts, &title, &variable.name, value));
        }
    }
    changes
}

fn of_variable(facts: &Facts<'_>, title: &str, name: &str, value: &str) -> Option<Change> {
    let known = VARIABLES.iter().find(|variable| variable.name == name);
    let setting =
        match known.map(|variable| &variable.becomes) {
            Some(Plumbing) => return None,
            Some(Nothing(_)) if matches!(value, "false" | "0") => return None,
            Some(Nothing(instead)) => {
                return Some(Change::new(
                    Effect::Changed,
                    AREA,
                    title,
                    format!("{name}: is not read: {instead}"),
                ));
            }
            Some(Kept(setting)) => setting,
            None => {
                let what = format!("{name}: is not read by juicefs-sidecar");
                return Some(Change::new(Effect::Changed, AREA, title, what).remedy(
                    "where a proxy or a client needs it, controller.envs or the secret's envs has it",
                ));
            }
        };
    // Names, numbers and paths; whatever else it is, is not shown, for it may become part of a command.
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@".contains(letter);
    let value = if value.chars().all(is_plain) { value } else { "…" };
    let is_ours = facts.objects.ours.iter().any(|ours| ours.variable(name) == Some(value));
    if is_ours || is_usual(facts.engine.process, name, value) {
        let what = format!("{name}={value}: juicefs-sidecar has the same");
        return Some(Change::new(Effect::Same, AREA, title, what));
    }
    let mut remedy = format!("--set {setting}={value}");
    if *setting == "controller.envs" {
        remedy = format!("a variable of the same name in controller.envs: {name}={value}");
    }
    let what = format!("{name}={value}: understood under the same name, if juicefs-sidecar is given it");
    Some(Change::new(Effect::Changed, AREA, title, what).remedy(remedy))
}

/// Whether juicefs-sidecar does the same without being told.
fn is_usual(process: &Process, name: &str, value: &str) -> bool {
    match name {
        "JUICEFS_CE_MOUNT_IMAGE" => value == process.community_image,
        "JUICEFS_EE_MOUNT_IMAGE" => value == process.enterprise_image,
        "JUICEFS_MOUNT_PATH" => value.trim_end_matches('/') == process.mount_directory,
        "JUICEFS_IMMUTABLE" | "ENABLE_APISERVER_LIST_CACHE" => value == "false",
        _ => false,
    }
}

/// Whether juicefs-sidecar has, or will have, the driver's configuration.
pub(super) fn config_maps(facts: &Facts<'_>) -> Option<Change> {
    const AREA: &str = "configuration";
    let (theirs, ours) = both_configurations(facts);
    let (theirs, ours) = (theirs?, ours?);
    let objects = format!("{}/, {}/", namespace(facts), facts.namespace);
    if theirs == ours {
        return Some(Change::new(Effect::Same, AREA, "", format!("{MANAGER} has the driver's ConfigMap")));
    }
    let what = format!(
        "the ConfigMaps of the driver and of {MANAGER} differ; this report is about the second ({objects})"
    );
    Some(Change::new(Effect::Changed, AREA, "", what).remedy("compare them"))
}

/// The text of the driver's configuration, and of ours.
pub(super) fn both_configurations<'a>(facts: &'a Facts<'_>) -> (Option<&'a str>, Option<&'a str>) {
    let of = |namespace: &str| {
        let mut all = facts.objects.config_maps.iter();
        all.find(|one| one.namespace == namespace).map(|one| one.text.as_str())
    };
    let theirs = namespace(facts);
    if !facts.objects.is_seen(Kind::ConfigMaps) || theirs == facts.namespace {
        return (None, None);
    }
    (of(theirs), of(facts.namespace))
}
