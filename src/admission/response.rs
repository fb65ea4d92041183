//! Decisions as AdmissionReview responses, byte for byte what goes over the wire.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::inject::Decision;

/// Characters of one warning that the API server passes on.
const WARNING_LENGTH: usize = 256;
/// Characters of all warnings that the API server passes on.
const WARNINGS_LENGTH: usize = 4096;
/// Characters of a refusal's message; a Status has no limit, but terminals and events do.
const MESSAGE_LENGTH: usize = 8192;

/// Bytes of a review beside its patch, commonly.
const ENVELOPE: usize = 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    // Both or neither: a type without a patch is refused by the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audit_annotations: AuditAnnotations,
}

#[derive(Serialize)]
struct Status {
    #[serde(rename = "status")]
    outcome: &'static str,
    code: u16,
    reason: &'static str,
    message: String,
}

/// The API server puts the webhook's name before each key.
#[derive(Serialize)]
struct AuditAnnotations {
    decision: &'static str,
}

/// The response review for a decision that is not our own failure.
pub fn render(
    api_version: &'static str,
    uid: &str,
    decision: &Decision,
) -> Result<Vec<u8>, serde_json::Error> {
    let kind = decision.code.kind();
    let patch = if kind.allowed() && !decision.patch.is_empty() {
        Some(STANDARD.encode(decision.patch.to_json()))
    } else {
        None
    };
    let status = (!kind.allowed()).then(|| Status {
        outcome: "Failure",
        code: kind.status_code(),
        reason: kind.status_reason(),
        message: single_line(&decision.message, MESSAGE_LENGTH),
    });
    let response = Response {
        uid,
        allowed: kind.allowed(),
        status,
        patch_type: patch.as_ref().map(|_| "JSONPatch"),
        patch,
        warnings: bounded(&decision.warnings),
        audit_annotations: AuditAnnotations { decision: decision.code.as_str() },
    };
    let mut text = Vec::with_capacity(response.patch.as_ref().map_or(0, String::len) + ENVELOPE);
    serde_json::to_writer(&mut text, &Review { kind: "AdmissionReview", api_version, response })?;
    Ok(text)
}

/// Warnings as the API server passes them on; what has no room is counted, not lost in silence.
fn bounded(warnings: &[String]) -> Vec<String> {
    const LAST: usize = 64;
    let mut room = WARNINGS_LENGTH - LAST;
    let mut kept = Vec::with_capacity(warnings.len().min(16));
    for (index, warning) in warnings.iter().enumerate() {
        let line = single_line(warning, WARNING_LENGTH);
        let Some(left) = room.checked_sub(line.chars().count()) else {
            kept.push(format!("{} more warnings", warnings.len() - index));
            break;
        };
        room = left;
        kept.push(line);
    }
    kept
}

/// One line of at most `limit` characters: control characters become spaces, the rest an ellipsis.
pub fn single_line(text: &str, limit: usize) -> String {
    let clean = |character: char| if character.is_control() { ' ' } else { character };
    if text.chars().nth(limit).is_none() {
        return text.chars().map(clean).collect();
    }
    text.chars().take(limit.saturating_sub(1)).map(clean).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::outcome::{Code, Refusal};

    fn rendered(decision: &Decision) -> Value {
        serde_json::from_slice(&render("admission.k8s.io/v1", "u-1", decision).unwrap()).unwrap()
    }

    #[test]
    fn nothing_to_do_carries_neither_patch_nor_status() {
        assert_eq!(
            rendered(&Decision::new(Code::NoJuicefsVolume, "no volume")),
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {
                "uid": "u-1", "allowed": true, "auditAnnotations": {"decision": "no-juicefs-volume"}}})
        );
    }

    #[test]
    fn a_patch_goes_out_as_base64_with_its_type() {
        let operations = json!([{"op": "add", "path": "/a", "value": 1}]);
        let mut decision = Decision::new(Code::Injected, "");
        decision.patch.add(&["a"], &1);
        let response = &rendered(&decision)["response"];
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&patch).unwrap(), operations);
    }

    #[test]
    fn a_refusal_carries_its_status_and_never_a_patch() {
        let refusal = Refusal::new(Code::SecretMissing, "persistentvolume \"x\"", "no secret", "create\nit");
        let mut decision = Decision::from(refusal);
        decision.patch.remove(&["a"]);
        let response = &rendered(&decision)["response"];
        assert_eq!(response["allowed"], false);
        assert_eq!(
            response["status"],
            json!({"status": "Failure", "code": 422, "reason": "Invalid",
                   "message": "persistentvolume \"x\": no secret; create it"})
        );
        assert!(response.get("patch").is_none() && response.get("patchType").is_none());
    }

    #[test]
    fn warnings_fit_what_the_api_server_passes_on() {
        let long = "ä".repeat(300);
        let lines = bounded(&[long.clone(), "two\nlines\t".into()]);
        assert_eq!(lines[0].chars().count(), 256);
        assert!(lines[0].ends_with('…'));
        assert_eq!(lines[1], "two lines ");

        let many = bounded(&vec![long; 40]);
        assert!(many.iter().map(|line| line.chars().count()).sum::<usize>() <= WARNINGS_LENGTH);
        assert_eq!(many.last().unwrap(), "25 more warnings");
    }
}
