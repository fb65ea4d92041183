//! What accounts are granted, against what the API server's audit log says that they did.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use super::{
    super::{control_plane::ControlPlane, objects::parse},
    OURS,
};

/// One thing that an account may do, or did: verb, group/resource, and the object's name if it is confined to one.
type Act = (String, String, Option<String>);

/// What each account did or may do.
type Acts = BTreeMap<String, BTreeSet<Act>>;

const CONTENTS: &[&str] = &["snapshot.storage.k8s.io/volumesnapshotcontents"];
const SNAPSHOTS: &[&str] =
    &["snapshot.storage.k8s.io/volumesnapshotcontents", "snapshot.storage.k8s.io/volumesnapshots"];
const WRITTEN: &[&str] = &[
    "snapshot.storage.k8s.io/volumesnapshotcontents",
    "snapshot.storage.k8s.io/volumesnapshotcontents/status",
];

/// Rights that these tests do not use, and why they are granted all the same: account, verb, resources with their group.
const UNUSED: [(&str, &str, &[&str], &str); 12] = [
    (
        "juicefs-sidecar-webhook",
        "list",
        &[
            "/persistentvolumeclaims",
            "/persistentvolumes",
            "/nodes",
            "/namespaces",
            "storage.k8s.io/storageclasses",
        ],
        "API servers that do not stream lists",
    ),
    (
        "juicefs-sidecar-controller",
        "list",
        &["/persistentvolumeclaims", "/persistentvolumes", "storage.k8s.io/storageclasses"],
        "API servers that do not stream lists",
    ),
    (
        "juicefs-sidecar-controller",
        "delete",
        &["/secrets"],
        "the last ephemeral volume of a class, which another test has",
    ),
    (
        "juicefs-sidecar-controller",
        "patch",
        &["events.k8s.io/events", "/persistentvolumes", "/persistentvolumeclaims/status"],
        "an event that is told again, after half an hour; the rest is in the tests of provisioning, as what follows",
    ),
    ("juicefs-sidecar-controller", "create", &["/persistentvolumes"], "provisioning"),
    ("juicefs-sidecar-controller", "delete", &["/persistentvolumes"], "provisioning"),
    ("juicefs-sidecar-controller", "get", &["/nodes"], "provisioning for a node"),
    ("juicefs-sidecar-controller", "get", SNAPSHOTS, "snapshots, whose tests look at that"),
    ("juicefs-sidecar-controller", "list", CONTENTS, "likewise"),
    ("juicefs-sidecar-controller", "watch", CONTENTS, "likewise"),
    ("juicefs-sidecar-controller", "patch", WRITTEN, "likewise"),
    (
        "juicefs-sidecar-controller",
        "patch",
        &["/pods/status"],
        "an application that ends, which another test has",
    ),
];

/// Whether the controller has used every right of a group that it has, and lacked none.
pub(crate) fn all_of(plane: &ControlPlane, group: &str) {
    const ACCOUNT: &str = "juicefs-sidecar-controller";
    let (used, denied) = acts(plane);
    let is_of = |act: &&Act| act.1.split('/').next() == Some(group);
    let used: BTreeSet<_> = used[ACCOUNT].iter().map(|act| (act.0.clone(), act.1.clone(), None)).collect();
    let granted = granted().remove(ACCOUNT).unwrap_or_default();
    let mut idle = granted.iter().filter(is_of).filter(|act| !used.contains(*act));
    assert!(idle.next().is_none(), "{:?}", idle.collect::<Vec<_>>());
    let denied: Vec<_> = denied.iter().filter(|(_, act)| is_of(&act)).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

/// Compares what each shipped account may do with what it did, by the API server's audit log: nothing was missing, and
/// nothing is there that is not used.
pub(crate) fn compare(plane: &ControlPlane) {
    let (used, mut denied) = acts(plane);
    // An API server that has just started denies everything until it has read the roles.
    denied.retain(|(account, act)| !used.get(account).is_some_and(|used| used.contains(act)));
    assert!(denied.is_empty(), "rights are missing: {denied:#?}");
    let mut idle = BTreeSet::new();
    let mut excused = BTreeSet::new();
    for (account, granted) in granted() {
        let used = used.get(&account).unwrap_or_else(|| panic!("{account} did nothing"));
        for act in granted {
            let covers =
                |done: &&Act| done.0 == act.0 && done.1 == act.1 && (act.2.is_none() || done.2 == act.2);
            if used.iter().any(|done| covers(&done)) {
                continue;
            }
            let excuses = UNUSED.iter().filter(|(whose, verb, ..)| *whose == account && *verb == act.0);
            let excuse =
                excuses.flat_map(|(_, _, resources, _)| *resources).find(|resource| **resource == act.1);
            match excuse {
                Some(resource) => drop(excused.insert((account.clone(), act.0, *resource))),
                None => drop(idle.insert((account.clone(), act))),
            }
        }
    }
    assert!(idle.is_empty(), "rights that nobody used; take them away, or say in UNUSED why not: {idle:#?}");
    let mut needless = UNUSED.iter().flat_map(|(account, verb, resources, _)| {
        resources.iter().map(|resource| ((*account).to_owned(), (*verb).to_owned(), *resource))
    });
    let needless = needless.find(|excuse| !excused.contains(excuse));
    assert!(needless.is_none(), "UNUSED has what is used, or not granted: {needless:?}");
}

/// What each account did, and what it was not allowed to.
fn acts(plane: &ControlPlane) -> (Acts, BTreeSet<(String, Act)>) {
    let (mut used, mut denied) = (Acts::new(), BTreeSet::new());
    let prefix = format!("system:serviceaccount:{OURS}:");
    for line in fs::read_to_string(plane.state().join("log/audit.json")).unwrap().lines() {
        // The last line may be half written, or an API server that was killed may have left one so.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let Some(account) = user.strip_prefix(&prefix) else { continue };
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if text(&object["resource"]).is_empty() {
            continue;
        }
        let mut resource = format!("{}/{}", text(&object["apiGroup"]), text(&object["resource"]));
        if let Some(part) = object["subresource"].as_str() {
            resource.extend(["/", part]);
        }
        let act = (text(&event["verb"]), resource, object["name"].as_str().map(str::to_owned));
        let code = &event["responseStatus"]["code"];
        if *code == 403 {
            denied.insert((account.to_owned(), act));
            continue;
        }
        let used = used.entry(account.to_owned()).or_default();
        // What is applied and was not there needs the right to create it, too.
        if act.0 == "patch" && *code == 201 {
            used.insert(("create".to_owned(), act.1.clone(), None));
        }
        used.insert(act);
    }
    (used, denied)
}

/// What the shipped roles grant to each account.
fn granted() -> Acts {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config");
    let objects: Vec<_> = ["rbac-webhook.yaml", "rbac-controller.yaml"]
        .iter()
        .flat_map(|file| parse(&folder.join(file)))
        .collect();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut granted = Acts::new();
    for binding in objects.iter().filter(|object| object["roleRef"].is_object()) {
        let role = &binding["roleRef"];
        let is_bound =
            |object: &&Value| object["kind"] == role["kind"] && object["metadata"]["name"] == role["name"];
        let role = objects.iter().find(is_bound).expect("the role of a binding");
        let account = binding["subjects"][0]["name"].as_str().unwrap().to_owned();
        let acts = granted.entry(account).or_default();
        for rule in role["rules"].as_array().unwrap() {
            let names = list(&rule["resourceNames"]);
            let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
            for (group, resource) in list(&rule["apiGroups"]).iter().flat_map(|group| {
                list(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource))
            }) {
                for verb in list(&rule["verbs"]) {
                    for name in &names {
                        acts.insert((verb.clone(), format!("{group}/{resource}"), name.clone()));
                    }
                }
            }
        }
    }
    granted
}
