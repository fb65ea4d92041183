//! What is looked at in a pod.

use std::collections::BTreeSet;

use juicefs_sidecar::notation::Quantity;
use serde_json::{Map, Value, json};

/// The elements of a list of the pod's spec.
pub(crate) fn list<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    pod["spec"][field].as_array().into_iter().flatten()
}

pub(crate) fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap()
}

/// Whether a text is a DNS label, which names of containers and volumes have to be.
pub(crate) fn is_label(name: &str) -> bool {
    let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.starts_with(inner)
        && name.ends_with(inner)
        && name.chars().all(|character| inner(character) || character == '-')
}

/// Compares two objects but for some of their fields.
fn assert_equal_but_for(before: &Value, after: &Value, fields: &[&str], place: &str) {
    let rest = |value: &Value| -> Map<String, Value> {
        let object = value.as_object().unwrap().iter();
        object
            .filter(|(key, _)| !fields.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    assert_eq!(rest(before), rest(after), "{place}");
}

/// A mount may lead through a directory that ours is in, and nowhere else than before from there.
fn assert_leads_on(before: &Value, after: &Value) {
    let path = |mount: &Value| {
        let text = |field: &str| mount[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        assert!(text("subPath").is_none() || text("subPathExpr").is_none(), "{mount}");
        (text("subPathExpr").is_some(), text("subPathExpr").or(text("subPath")))
    };
    let ((old_kind, old), (kind, new)) = (path(before), path(after));
    let below = old.as_ref().map_or("mnt".to_owned(), |old| format!("mnt/{old}"));
    assert!(kind == old_kind && (new == old || new == Some(below)), "{before} became {after}");
}

/// Everything but what an injection is about has to be as it was; said without the help of `uninject`.
pub(crate) fn assert_untouched(before: &Value, after: &Value) {
    assert_equal_but_for(before, after, &["metadata", "spec"], "the pod");
    assert_equal_but_for(&before["metadata"], &after["metadata"], &["labels", "annotations"], "metadata");
    for map in ["labels", "annotations"] {
        for (key, value) in before["metadata"][map].as_object().into_iter().flatten() {
            assert_eq!(after["metadata"][map].get(key), Some(value), "metadata.{map}");
        }
    }
    assert_eq!(
        before["spec"].get("resources").is_some(),
        after["spec"].get("resources").is_some(),
        "spec.resources"
    );
    let lists = ["volumes", "containers", "initContainers", "terminationGracePeriodSeconds", "resources"];
    assert_equal_but_for(&before["spec"], &after["spec"], &lists, "spec");
    for kind in ["containers", "initContainers"] {
        let mut rest = list(after, kind);
        for container in list(before, kind) {
            // In the same order, too.
            let same = rest
                .find(|candidate| name(candidate) == name(container))
                .unwrap_or_else(|| panic!("{} is gone", name(container)));
            assert_equal_but_for(container, same, &["volumeMounts"], name(container));
            let mounts =
                |container: &Value| container["volumeMounts"].as_array().cloned().unwrap_or_default();
            let (old, new) = (mounts(container), mounts(same));
            assert_eq!(old.len(), new.len(), "mounts of {}", name(container));
            for (old, new) in old.iter().zip(&new) {
                let fields = ["name", "readOnly", "mountPropagation", "subPath", "subPathExpr"];
                assert_equal_but_for(old, new, &fields, "a mount");
                assert_leads_on(old, new);
            }
        }
    }
    let mut rest = list(after, "volumes");
    for volume in list(before, "volumes") {
        let same = rest
            .find(|candidate| name(candidate) == name(volume))
            .unwrap_or_else(|| panic!("{} is gone", name(volume)));
        if volume.get("persistentVolumeClaim").is_none() && volume.get("ephemeral").is_none() {
            assert_eq!(volume, same);
        }
    }
}

/// What the API server asks of a pod with a client in it, and would only say afterwards.
pub(crate) fn assert_consistent(pod: &Value) {
    let quantity = |value: &Value| -> Option<Quantity> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (!value.is_null()).then(|| text.parse().unwrap())
    };
    let containers = || list(pod, "initContainers").chain(list(pod, "containers"));
    for container in containers() {
        let mut paths = BTreeSet::new();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            assert!(paths.insert(mount["mountPath"].as_str()), "two mounts at {}", mount["mountPath"]);
            let propagates = !matches!(mount["mountPropagation"].as_str(), None | Some("None"));
            let all_the_way = matches!(mount["recursiveReadOnly"].as_str(), Some("Enabled" | "IfPossible"));
            assert!(!(propagates && all_the_way), "{mount}");
        }
    }
    for (resource, request) in pod["spec"]["resources"]["requests"].as_object().into_iter().flatten() {
        let of = |container: &Value, field: &str| quantity(&container["resources"][field][resource]);
        let sidecar = |container: &&Value| container["restartPolicy"] == "Always";
        let running = list(pod, "containers").chain(list(pod, "initContainers").filter(sidecar));
        let sum = running
            .filter_map(|one| of(one, "requests").or_else(|| of(one, "limits")))
            .reduce(Quantity::plus);
        assert!(sum <= quantity(request), "{resource}: {sum:?} of containers, {request} of the pod");
        let limit = quantity(&pod["spec"]["resources"]["limits"][resource]);
        assert!(
            limit.is_none_or(|limit| quantity(request) <= Some(limit)),
            "{resource}: {request} above the limit"
        );
        for container in list(pod, "containers") {
            assert!(
                limit.is_none_or(|limit| of(container, "limits") <= Some(limit)),
                "{resource} of {container}"
            );
        }
    }
}

/// To Kubernetes a field that is `null` is one that is not there.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// What the API server makes of a pod before it asks again or stores it: defaults filled in, nulls gone.
pub(crate) fn defaulted(value: &Value) -> Value {
    fn or(value: &mut Value, field: &str, default: Value) {
        if value.get(field).is_none() {
            value[field] = default;
        }
    }
    // Fields that are not pointers in the API server's types are not written when they are empty.
    fn omit(value: &mut Value, field: &str, empty: &Value) {
        if value.get(field) == Some(empty) {
            value.as_object_mut().unwrap().shift_remove(field);
        }
    }
    let mut pod = without_nulls(value);
    for kind in ["containers", "initContainers"] {
        for container in pod["spec"][kind].as_array_mut().into_iter().flatten() {
            or(container, "terminationMessagePath", "/dev/termination-log".into());
            or(container, "terminationMessagePolicy", "File".into());
            or(container, "imagePullPolicy", "IfNotPresent".into());
            or(container, "resources", json!({}));
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                or(port, "protocol", "TCP".into());
            }
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                if let Some(probe) = container.get_mut(probe) {
                    for (field, default) in [
                        ("timeoutSeconds", 1),
                        ("periodSeconds", 10),
                        ("successThreshold", 1),
                        ("failureThreshold", 3),
                    ] {
                        or(probe, field, default.into());
                    }
                }
            }
            for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
                omit(variable, "value", &json!(""));
            }
            for mount in container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten()
            {
                omit(mount, "readOnly", &json!(false));
            }
            let mount = json!({"name": "kube-api-access-x", "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
            or(container, "volumeMounts", json!([]));
            container["volumeMounts"].as_array_mut().unwrap().push(mount);
        }
    }
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if let Some(secret) = volume.get_mut("secret") {
            or(secret, "defaultMode", 420.into());
        }
        if let Some(limit) = volume.pointer_mut("/emptyDir/sizeLimit") {
            // The shortest form of the same amount.
            *limit = json!(limit.as_str().unwrap().replace("1024Mi", "1Gi"));
        }
        if let Some(path) = volume.get_mut("hostPath") {
            or(path, "type", "".into());
        }
    }
    let token = json!({"name": "kube-api-access-x", "projected": {"sources": [], "defaultMode": 420}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(token);
    for (field, default) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
    ] {
        or(&mut pod["spec"], field, default);
    }
    pod
}
