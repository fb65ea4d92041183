//! Questions to the webhook and its answers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// What the API server sends for a pod that is to be created.
pub(crate) fn review_of(pod: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": pod["metadata"]["uid"],
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": pod["metadata"]["namespace"],
        "operation": "CREATE",
        "object": pod,
    }})
}

/// The patch in an answer, if there is one.
pub(crate) fn patch_of(answer: &Value) -> Option<json_patch::Patch> {
    let patch = STANDARD.decode(answer["response"]["patch"].as_str()?).unwrap();
    Some(serde_json::from_slice(&patch).unwrap())
}

/// An answer as people read it; its patch in full, or only what is done where.
pub(crate) fn describe(answer: &Value, in_full: bool) -> Value {
    let response = &answer["response"];
    let mut described = json!({
        "decision": response["auditAnnotations"]["decision"],
        "allowed": response["allowed"],
    });
    for key in ["status", "warnings"] {
        if !response[key].is_null() {
            described[key] = response[key].clone();
        }
    }
    if let Some(patch) = patch_of(answer) {
        described["patch"] = if in_full { json!(patch) } else { patch.iter().map(summary).collect() };
    }
    described
}

fn summary(operation: &json_patch::PatchOperation) -> Value {
    let operation = json!(operation);
    let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
    match operation["from"].as_str() {
        Some(from) => format!("{} {from} to {}", text("op"), text("path")).into(),
        None => format!("{} {}", text("op"), text("path")).into(),
    }
}
