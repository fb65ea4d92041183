//! Every golden case, judged by the API server: what it takes before injection it has to take after.

use std::{fs, path::Path};

use kube::Client;
use serde_json::Value;

use super::{
    control_plane,
    objects::{create, parse},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Before and after of a case. A recorded review's patch is in its answer in full.
struct Case {
    name: String,
    before: Vec<Value>,
    after: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(root().join("tests/golden")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !folder.join("case.yaml").exists() {
            continue;
        }
        let description = parse(&folder.join("case.yaml")).remove(0);
        let case = match description["review"].as_str() {
            Some(review) => recorded(name, &folder, review),
            None if folder.join("output.yaml").exists() => Some(Case {
                name,
                before: parse(&folder.join("input.yaml")),
                after: parse(&folder.join("output.yaml")),
            }),
            None => None,
        };
        cases.extend(case);
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn recorded(name: String, folder: &Path, review: &str) -> Option<Case> {
    let answer = parse(&folder.join("answer.yaml")).remove(0);
    let patch: json_patch::Patch = serde_json::from_value(answer.get("patch")?.clone()).unwrap();
    let review = fs::read(root().join("tests/reviews").join(review)).unwrap();
    let mut review: Value = serde_json::from_slice(&review).unwrap();
    let before = review["request"]["object"].take();
    let mut after = before.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    Some(Case { name, before: vec![before], after: vec![after] })
}

/// The pod that a case results in.
pub(crate) fn result(case: &str) -> Value {
    parse(&root().join("tests/golden").join(case).join("output.yaml")).remove(0)
}

/// What the API server says against creating this, in a namespace of the test's; nothing is stored.
async fn complaint(client: &Client, namespace: &str, mut document: Value) -> Option<String> {
    if let Some(items) = document["items"].as_array_mut() {
        for item in std::mem::take(items) {
            if let Some(complaint) = Box::pin(complaint(client, namespace, item)).await {
                return Some(complaint);
            }
        }
        return None;
    }
    document["metadata"]["namespace"] = namespace.into();
    create(client, document, true).await.err()
}

#[tokio::test]
async fn the_api_server_takes_every_result_whose_input_it_takes() {
    let Some(plane) = control_plane::shared() else { return };
    let client = plane.client().await;
    let namespace = plane.namespace("golden", &[]).await;
    let mut failures = Vec::new();
    let mut judged = 0;
    for case in cases() {
        for (before, after) in case.before.into_iter().zip(case.after) {
            let input = complaint(&client, &namespace, before).await;
            let output = complaint(&client, &namespace, after).await;
            // Inputs may have faults of their own, which stay; all that is wrong is in one message.
            if let Some(output) = output.filter(|output| input.as_ref() != Some(output)) {
                failures.push(format!("{}: {output}\nbefore: {input:?}", case.name));
            }
            judged += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(judged > 150, "only {judged} results were found");
}
