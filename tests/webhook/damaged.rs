//! Recorded reviews, damaged: whatever comes, the answer is a review for that request, or plain text and HTTP 400.

use juicefs_sidecar::admission::answer;
use serde_json::Value;

use super::recorded::{self, ENDPOINTS, reviews};

/// What a byte is replaced by: everything with a meaning in JSON, and what may not be in it at all.
const REPLACEMENTS: &[u8] = b"\"{}[],:\\-0eE\x00\xff";

#[test]
fn a_damaged_review_is_answered_or_refused() {
    let state = recorded::state();
    let mut refused = 0;
    for (name, body) in reviews().into_iter().filter(|(_, body)| body.len() < 5000) {
        let truncated = (0..body.len()).step_by(23).map(|end| body[..end].to_vec());
        let replaced = (0..body.len()).step_by(31).map(|index| {
            let mut body = body.clone();
            body[index] = REPLACEMENTS[index % REPLACEMENTS.len()];
            body
        });
        for damaged in truncated.chain(replaced) {
            for endpoint in ENDPOINTS {
                let answer = answer(&damaged, endpoint, &state.engine());
                if answer.is_review() {
                    let review: Value = serde_json::from_slice(&answer.body).unwrap();
                    let asked: Result<Value, _> = serde_json::from_slice(&damaged);
                    let uid = asked.ok().map(|asked| asked["request"]["uid"].clone());
                    // Bytes that are not UTF-8 are passed over where nobody reads them.
                    assert!(uid.is_none_or(|uid| uid == review["response"]["uid"]), "{name}");
                } else {
                    assert_eq!(answer.status, 400, "{name}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 500, "most damage leaves no JSON: {refused}");
}

#[test]
fn nesting_without_end_does_not_overflow_the_stack() {
    let state = recorded::state();
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    for field in ["unknown", "metadata", "spec"] {
        for labels in ["{}", r#"{"done.sidecar.juicefs.com/inject":"true"}"#] {
            let body = format!(
                r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","operation":"CREATE",
                "kind":{{"group":"","version":"v1","kind":"Pod"}},"object":{{"metadata":{{"labels":{labels}}},"{field}":{deep}}}}}}}"#
            );
            let answer = answer(body.as_bytes(), ENDPOINTS[0], &state.engine());
            assert!(answer.is_review(), "{field}: {}", String::from_utf8_lossy(&answer.body));
        }
    }
}
