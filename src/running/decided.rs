//! A pod of a cluster as it was before it was injected, and how what it carries differs from what it would get now.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    inject::{self, STATUS, status::Status},
    notation::Quantity,
    outcome::Refusal,
};

/// What the API server and its plugins add to a pod, and what says where and how it runs.
const ADDED: [&str; 5] =
    ["/status", "/metadata/uid", "/metadata/managedFields", "/metadata/resourceVersion", "/spec/nodeName"];
/// Fields of a container that say how it runs. Mounts are not among them: others add theirs.
const COMPARED: [&str; 9] = [
    "image",
    "command",
    "args",
    "env",
    "ports",
    "resources",
    "securityContext",
    "restartPolicy",
    "startupProbe",
];

/// The pod as whoever created it gave it, as far as that can be told.
///
/// # Errors
/// It carries clients, and nothing says how to take them out.
pub fn original(pod: &Value) -> Result<Value, Refusal> {
    let mut original = pod.clone();
    if let Some(patch) = inject::uninject(pod)? {
        patch.apply(&mut original).map_err(|error| {
            Refusal::new(
                crate::outcome::Code::Internal,
                "the pod",
                format!("cannot be seen without its clients: {error}"),
                "report this",
            )
        })?;
    }
    for pointer in ADDED {
        if let Some((parent, field)) = pointer.rsplit_once('/')
            && let Some(parent) = original.pointer_mut(parent).and_then(Value::as_object_mut)
        {
            parent.remove(field);
        }
    }
    Ok(original)
}

/// What tells a pod's directories from those of others, as it was decided with.
#[must_use]
pub fn identity(pod: &Value) -> Option<String> {
    status(pod)
        .and_then(|status| status.identity)
        .or_else(|| Some(pod["metadata"]["uid"].as_str()?.to_owned()))
}

/// The revision of the ConfigMap that the clients of a pod were made with; empty for none.
#[must_use]
pub fn configuration(pod: &Value) -> Option<String> {
    status(pod).map(|status| status.config)
}

/// The names of the containers that are ours.
#[must_use]
pub fn containers(pod: &Value) -> Vec<String> {
    let Some(status) = status(pod) else { return Vec::new() };
    let clients = status.volumes.into_iter().map(|volume| volume.container);
    status.containers.into_iter().chain(clients).collect()
}

fn status(pod: &Value) -> Option<Status> {
    Status::parse(pod["metadata"]["annotations"][STATUS].as_str()?).ok()
}

/// Where the containers that are ours in the one pod are not as in the other, as field paths.
#[must_use]
pub fn differences(running: &Value, decided: &Value) -> Vec<String> {
    let names: BTreeSet<String> = containers(running).into_iter().chain(containers(decided)).collect();
    let mut found = Vec::new();
    for name in names {
        match (container(running, &name), container(decided, &name)) {
            (Some(running), Some(decided)) => {
                for field in COMPARED {
                    // What is not decided is the API server's default.
                    if let Some(decided) = decided.get(field) {
                        compare(&running[field], decided, &format!("{name}.{field}"), &mut found);
                    }
                }
            }
            (Some(_), None) => found.push(format!("{name}: would not be there")),
            (None, Some(_)) => found.push(format!("{name}: is not there")),
            (None, None) => {}
        }
    }
    found
}

fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let lists = ["initContainers", "containers"];
    let mut all = lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten());
    all.find(|container| container["name"] == name)
}

fn compare(running: &Value, decided: &Value, path: &str, found: &mut Vec<String>) {
    match (running, decided) {
        (Value::Object(running), Value::Object(decided)) => {
            for (key, decided) in decided {
                compare(running.get(key).unwrap_or(&Value::Null), decided, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(running), Value::Array(decided)) if running.len() == decided.len() => {
            for (index, (running, decided)) in running.iter().zip(decided).enumerate() {
                let name = decided["name"].as_str().map_or_else(|| index.to_string(), str::to_owned);
                compare(running, decided, &format!("{path}[{name}]"), found);
            }
        }
        _ if same(running, decided) => {}
        _ => found.push(path.to_owned()),
    }
}

/// Quantities are the same however they are written.
fn same(running: &Value, decided: &Value) -> bool {
    let quantity = |value: &Value| value.as_str()?.parse::<Quantity>().ok();
    running == decided || quantity(running).is_some_and(|one| quantity(decided) == Some(one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(container: &Value) -> Value {
        let status = json!({"version": 1, "mode": "classic", "profile": "node", "native": true, "undo": {},
            "volumes": [{"container": "jfs-mount", "volume": "v", "source": "persistentVolumeClaim",
                "shared": "emptyDir", "claim": "data"}]});
        json!({"metadata": {"uid": "u", "annotations": {STATUS: status.to_string()}},
            "spec": {"initContainers": [container], "containers": []}})
    }

    #[test]
    fn what_differs_is_named_and_defaults_and_spelling_do_not() {
        let decided = json!({"name": "jfs-mount", "image": "a:1", "env": [{"name": "X", "value": "1"}],
            "resources": {"requests": {"cpu": "1000m"}}});
        let mut running = decided.clone();
        running["resources"]["requests"]["cpu"] = "1".into();
        running["terminationMessagePath"] = "/dev/termination-log".into();
        assert_eq!(differences(&pod(&running), &pod(&decided)), [""; 0]);
        running["image"] = "a:0".into();
        running["env"][0]["value"] = "2".into();
        running["resources"]["requests"]["cpu"] = "2".into();
        assert_eq!(
            differences(&pod(&running), &pod(&decided)),
            ["jfs-mount.image", "jfs-mount.env[X].value", "jfs-mount.resources.requests.cpu"]
        );
        running["name"] = "other".into();
        assert_eq!(differences(&pod(&running), &pod(&decided)), ["jfs-mount: is not there"]);
    }
}
