//! Pods of every kind, judged by the API server: what it takes without clients it has to take with them.

use juicefs_sidecar::outcome::Code;
use kube::Client;
use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::TestRunner,
};
use serde_json::Value;

use super::{
    control_plane,
    objects::create,
    pods::{Shown, pods},
    settings::{decide, patched, settings},
};

/// As many as take a few seconds.
const TRIED: usize = 400;

/// What the API server says against a pod; nothing is stored.
async fn complaint(client: &Client, namespace: &str, mut pod: Value) -> Option<String> {
    pod["metadata"]["namespace"] = namespace.into();
    create(client, pod, true).await.err()
}

#[tokio::test]
async fn the_api_server_takes_every_pod_with_its_clients_that_it_takes_without() {
    let Some(plane) = control_plane::shared() else { return };
    let client = plane.client().await;
    let namespace = plane.namespace("hostile-pods", &[]).await;
    let (all, mut runner) = ((pods(), settings()), TestRunner::deterministic());
    let (mut judged, mut failures) = (0, Vec::new());
    for _ in 0..TRIED {
        let (Shown(pod), setting) = all.new_tree(&mut runner).unwrap().current();
        let decision = decide(setting, &pod);
        if decision.code != Code::Injected || complaint(&client, &namespace, pod.clone()).await.is_some() {
            continue;
        }
        judged += 1;
        if let Some(complaint) = complaint(&client, &namespace, patched(&pod, &decision.patch)).await {
            failures.push(format!("{setting:?}: {complaint}\n{pod}"));
        }
    }
    assert!(failures.is_empty(), "{} of {judged}:\n{}", failures.len(), failures.join("\n"));
    assert!(judged > 60, "only {judged} pods were judged");
}
