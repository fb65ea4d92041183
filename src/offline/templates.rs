//! Where pods are in objects: Kubernetes' own kinds, those of others that hold ordinary pod templates, and what only
//! looks like it.

use std::str::FromStr;

use serde_json::Value;

use super::{Object, objects::escape};
use crate::slip;

/// The place of a pod, or of several, in the objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplatePath {
    group: String,
    kind: String,
    /// A JSON pointer in which `*` stands for every element.
    path: String,
}

/// How a template path is written.
pub const GRAMMAR: &str =
    "write KIND.GROUP=POINTER, such as Rollout.argoproj.io=/spec/template; * stands for every element";

impl FromStr for TemplatePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(kind, path)| {
            let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
            (!kind.is_empty() && path.starts_with('/')).then(|| Self {
                group: group.to_owned(),
                kind: kind.to_owned(),
                path: path.to_owned(),
            })
        });
        parsed.ok_or_else(|| GRAMMAR.to_owned())
    }
}

/// Kinds of others whose objects hold pod templates that are used as they are.
const OTHERS: [(&str, &str, &str); 20] = [
    ("apps.kruise.io", "CloneSet", "/spec/template"),
    ("apps.kruise.io", "DaemonSet", "/spec/template"),
    ("apps.kruise.io", "StatefulSet", "/spec/template"),
    ("apps.openshift.io", "DeploymentConfig", "/spec/template"),
    ("argoproj.io", "Rollout", "/spec/template"),
    ("batch.volcano.sh", "Job", "/spec/tasks/*/template"),
    ("jobset.x-k8s.io", "JobSet", "/spec/replicatedJobs/*/template/spec/template"),
    ("kubeflow.org", "JAXJob", "/spec/jaxReplicaSpecs/*/template"),
    ("kubeflow.org", "MPIJob", "/spec/mpiReplicaSpecs/*/template"),
    ("kubeflow.org", "PaddleJob", "/spec/paddleReplicaSpecs/*/template"),
    ("kubeflow.org", "PyTorchJob", "/spec/pytorchReplicaSpecs/*/template"),
    ("kubeflow.org", "TFJob", "/spec/tfReplicaSpecs/*/template"),
    ("kubeflow.org", "XGBoostJob", "/spec/xgbReplicaSpecs/*/template"),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet", "/spec/leaderWorkerTemplate/leaderTemplate"),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet", "/spec/leaderWorkerTemplate/workerTemplate"),
    ("ray.io", "RayCluster", "/spec/headGroupSpec/template"),
    ("ray.io", "RayCluster", "/spec/workerGroupSpecs/*/template"),
    ("ray.io", "RayJob", "/spec/rayClusterSpec/headGroupSpec/template"),
    ("ray.io", "RayJob", "/spec/rayClusterSpec/workerGroupSpecs/*/template"),
    ("", "PodTemplate", "/template"),
];

/// JSON pointers from an object's root to its pods, none if it is of no known kind.
pub(super) fn pods(object: &Object<'_>, configured: &[TemplatePath]) -> Vec<String> {
    let (group, kind) = (object.group(), &*object.kind);
    let own = match (group, kind) {
        ("", "Pod") => Some(""),
        ("", "ReplicationController")
        | ("apps" | "extensions", "Deployment" | "ReplicaSet" | "DaemonSet")
        | ("apps", "StatefulSet")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    };
    let others = OTHERS.iter().filter(|(of, name, _)| *of == group && *name == kind).map(|(.., path)| *path);
    let configured =
        configured.iter().filter(|one| one.group == group && one.kind == kind).map(|one| one.path.as_str());
    let mut found: Vec<String> = Vec::new();
    for path in own.into_iter().chain(others).chain(configured) {
        expand(object.value, path, String::new(), &mut found);
    }
    found.dedup();
    found
}

/// The places that a pattern names in a value and that hold something.
fn expand(value: &Value, pattern: &str, at: String, found: &mut Vec<String>) {
    let Some(rest) = pattern.strip_prefix('/') else {
        if !value.is_null() {
            found.push(at);
        }
        return;
    };
    let (token, rest) = rest.find('/').map_or((rest, ""), |end| rest.split_at(end));
    match value {
        Value::Object(map) if token == "*" => {
            for (key, value) in map {
                expand(value, rest, format!("{at}/{}", escape(key)), found);
            }
        }
        Value::Array(list) if token == "*" => {
            for (index, value) in list.iter().enumerate() {
                expand(value, rest, format!("{at}/{index}"), found);
            }
        }
        value => {
            if let Some(inner) = value.pointer(&format!("/{token}")) {
                expand(inner, rest, format!("{at}/{token}"), found);
            }
        }
    }
}

/// What to say of an object that is no workload here and yet has containers and claims in it.
pub(super) fn remark(object: &Object<'_>) -> Option<String> {
    if !holds_claims(object.value) {
        return None;
    }
    let kinds = [
        "Pod",
        "Deployment",
        "ReplicaSet",
        "DaemonSet",
        "StatefulSet",
        "Job",
        "CronJob",
        "ReplicationController",
    ];
    let is_own = ["", "apps", "batch", "extensions"].contains(&object.group());
    Some(match slip::meant(&object.kind, &kinds, slip::CLOSE).filter(|_| is_own) {
        Some(kind) if kind == object.kind => {
            "has containers where no pod template is, and none where one should be; printed as it is".to_owned()
        }
        Some(kind) => format!("kind {:?} does not exist; did you mean {kind}? printed as it is", object.kind),
        None => "not a kind that is changed here (--template-path says where its pods are); its pods are injected by the \
                 webhook when they are created"
            .to_owned(),
    })
}

/// Whether there are containers, and claims beside them, anywhere in a value.
fn holds_claims(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            let claims = |volume: &Value| {
                volume.get("persistentVolumeClaim").or_else(|| volume.get("ephemeral")).is_some()
            };
            let has_claims =
                map.get("volumes").and_then(Value::as_array).is_some_and(|all| all.iter().any(claims));
            let runs = ["containers", "container", "templates"].iter().any(|key| map.contains_key(*key));
            (has_claims && runs) || map.values().any(holds_claims)
        }
        Value::Array(list) => list.iter().any(holds_claims),
        _ => false,
    }
}
