//! Pods created through the API: what is stored is what the engine says offline.

use std::{collections::BTreeSet, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::{admission::Endpoint, inject::Family};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use super::{
    control_plane::eventually,
    installation::{self, Installation, SERVERLESS, examples, injected, pod},
    neighbour::{LABEL, Neighbour, strip_restart_policy},
    objects::{create, parse},
};

/// A namespace that is not injected.
const PLAIN: &str = "default";

/// Says nothing, and hears everything.
fn nothing(_: &Value) -> Value {
    json!([])
}

/// What may differ between two pods that are the same: who and where they are.
fn essence(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    json!({"labels": metadata["labels"], "annotations": metadata["annotations"], "spec": pod["spec"]})
}

/// What the engine makes of a review offline, as the API server would store it.
async fn expected(
    installation: &Installation,
    mut review: Value,
    family: Family,
    identity: &Value,
) -> Result<Value, String> {
    // Each webhook's review has a UID of its own; the stored pod says which ours had.
    review["request"]["uid"] = identity.clone();
    let answer = installation.offline(&review, Endpoint::Inject(family)).await;
    if answer["response"]["allowed"] == false {
        return Err(answer["response"]["status"]["message"].as_str().unwrap().to_owned());
    }
    let mut pod = review["request"]["object"].take();
    if let Some(patch) = answer["response"]["patch"].as_str() {
        let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    as_stored(installation, pod).await
}

/// A pod with all that the API server adds, in a namespace where nobody changes it.
async fn as_stored(installation: &Installation, mut pod: Value) -> Result<Value, String> {
    pod["metadata"]["namespace"] = PLAIN.into();
    for key in ["ownerReferences", "managedFields"] {
        pod["metadata"].as_object_mut().unwrap().remove(key);
    }
    create(&installation.plane.client().await, pod, true).await
}

/// The identity in a pod's status, or one for pods without.
fn identity(pod: &Value) -> Value {
    let status = pod["metadata"]["annotations"]["sidecar.juicefs.com/status"].as_str().unwrap_or("{}");
    let status: Value = serde_json::from_str(status).unwrap();
    if status["identity"].is_null() {
        json!("00000000-0000-4000-8000-000000000000")
    } else {
        status["identity"].clone()
    }
}

/// A pod whose status says nothing of the request: manifests have none.
fn without_identity(mut pod: Value) -> Value {
    let status = &mut pod["metadata"]["annotations"]["sidecar.juicefs.com/status"];
    let mut facts: Value = serde_json::from_str(status.as_str().unwrap()).unwrap();
    for key in ["identity", "pod"] {
        assert!(facts.as_object_mut().unwrap().shift_remove(key).is_some(), "{facts}");
    }
    *status = facts.to_string().into();
    pod
}

#[tokio::test]
async fn recorded_pods_are_stored_as_the_engine_says_offline() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    // It is asked first, and so hears what ours hears.
    let listener = Neighbour::register(client.clone(), "a-listener", "recorded", "Never", nothing).await;

    let (mut stored, mut refused) = (0, 0);
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reviews");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".json") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut review: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if review["request"]["operation"] != "CREATE" {
            continue;
        }
        let mut pod = review["request"]["object"].take();
        pod["metadata"].as_object_mut().unwrap().remove("managedFields");
        pod["metadata"]["labels"][LABEL] = "recorded".into();
        let dry_run = review["request"]["dryRun"] == true;
        // What was expected of the pod before was created too.
        listener.take();
        let result = create(&client, pod, dry_run).await;
        let heard = listener.take().remove(0);
        let identity = result.as_ref().map_or(json!("00000000-0000-4000-8000-000000000000"), identity);
        let expected = expected(installation, heard, Family::Node, &identity).await;
        match (result, expected) {
            (Ok(pod), Ok(expected)) => {
                assert_same(&name, &essence(&pod), &essence(&expected));
                stored += usize::from(injected(&pod));
            }
            (Err(said), Err(expected)) => {
                assert!(said.contains(&expected), "{name}: {said}\nbut offline: {expected}");
                refused += 1;
            }
            (result, expected) => panic!("{name}: {result:?}\nbut offline: {expected:?}"),
        }
    }
    assert!(stored >= 9 && refused >= 1, "{stored} injected, {refused} refused");
}

#[tokio::test]
async fn the_quickstart_deployment_is_stored_as_the_engine_says_offline() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let listener = Neighbour::register(client.clone(), "a-listener-2", "quickstart", "Never", nothing).await;
    let mut deployment = parse(&examples().join("5-deployment.yaml")).remove(0);
    deployment["spec"]["template"]["metadata"]["labels"][LABEL] = "quickstart".into();
    create(&client, deployment, false).await.unwrap();

    let pods: Api<Pod> = Api::namespaced(client, "quickstart");
    let stored = eventually("both replicas", async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        (pods.len() == 2).then_some(pods)
    })
    .await;
    // Pods of one template are alike, but for the volume of their account, which is named anew for each.
    let heard = listener.take();
    for pod in stored {
        let pod = serde_json::to_value(pod).unwrap();
        assert!(injected(&pod));
        let account = volume_of_account(&pod);
        let review = heard.iter().find(|review| volume_of_account(&review["request"]["object"]) == account);
        let expected =
            expected(installation, review.unwrap().clone(), Family::Node, &identity(&pod)).await.unwrap();
        assert_same("quickstart", &essence(&pod), &essence(&expected));
    }
}

fn volume_of_account(pod: &Value) -> &str {
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let mut names = volumes.iter().map(|volume| volume["name"].as_str().unwrap());
    names.find(|name| name.starts_with("kube-api-access-")).unwrap()
}

fn assert_same(name: &str, actual: &Value, expected: &Value) {
    if actual != expected {
        let (expected, actual) = (format!("{expected:#}"), format!("{actual:#}"));
        let diff = similar::TextDiff::from_lines(&expected, &actual);
        panic!("{name}:\n{}", diff.unified_diff().header("offline", "stored"));
    }
}

/// Where nothing of the node is used, `inject` gives what the webhook gives.
#[tokio::test]
async fn pods_for_serverless_nodes_are_stored_as_every_offline_way_says() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let listener = Neighbour::register(client.clone(), "a-listener-3", "serverless", "Never", nothing).await;
    let mut pod = pod("serverless", SERVERLESS);
    pod["metadata"]["namespace"] = SERVERLESS.into();
    let stored = create(&client, pod, false).await.unwrap();
    assert!(injected(&stored));
    let volumes = stored["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{volumes:#?}");

    let heard = listener.take().remove(0);
    let given = installation.inject(&heard["request"]["object"]);
    let given = as_stored(installation, given).await.unwrap();
    assert_same("inject", &essence(&without_identity(stored.clone())), &essence(&given));
    let expected = expected(installation, heard, Family::Serverless, &identity(&stored)).await.unwrap();
    assert_same("review", &essence(&stored), &essence(&expected));
}

#[tokio::test]
async fn a_dry_run_is_injected_and_writes_nothing() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let pod = pod("dry", "logs");
    let answered = create(&client, pod, true).await.unwrap();
    assert!(injected(&answered), "{answered:#}");
    let pods: Api<Pod> = Api::namespaced(client, "team-a");
    assert!(pods.get_opt("dry").await.unwrap().is_none());
}

/// Puts a sidecar of its own before all others, unless it is there.
fn add_sidecar(pod: &Value) -> Value {
    let sidecar = json!({"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"});
    match pod["spec"]["initContainers"].as_array() {
        None => json!([{"op": "add", "path": "/spec/initContainers", "value": [sidecar]}]),
        Some(others) if others.iter().any(|other| other["name"] == "mesh") => json!([]),
        Some(_) => json!([{"op": "add", "path": "/spec/initContainers/0", "value": sidecar}]),
    }
}

#[tokio::test]
async fn a_neighbour_that_adds_a_sidecar_before_or_after_ours_is_lived_with() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    for (webhook, name) in [("a-mesh", "mesh-before"), ("z-mesh", "mesh-after")] {
        Neighbour::register(client.clone(), webhook, name, "IfNeeded", add_sidecar).await;
        let stored = create(&client, pod(name, "logs"), false).await.unwrap();
        assert!(injected(&stored));
        let containers = stored["spec"]["initContainers"].as_array().unwrap();
        let mut names: Vec<_> =
            containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
        assert!(containers.iter().all(|container| container["restartPolicy"] == "Always"));
        names.sort_unstable();
        assert_eq!(names, ["jfs-agent", "jfs-mount", "mesh"], "each of them once");
    }
}

#[tokio::test]
async fn what_a_later_neighbour_strips_is_put_back() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let untouched = create(&client, pod("not-stripped", "logs"), false).await.unwrap();
    let neighbour =
        Neighbour::register(client.clone(), "z-stripper", "stripped", "Never", strip_restart_policy).await;
    let stored = create(&client, pod("stripped", "logs"), false).await.unwrap();
    assert_eq!(neighbour.take().len(), 1, "it was asked");
    assert_eq!(stored["spec"]["initContainers"][0]["restartPolicy"], "Always");
    assert_eq!(
        stored["spec"]["initContainers"][0]["startupProbe"],
        untouched["spec"]["initContainers"][0]["startupProbe"]
    );
}

#[tokio::test]
async fn copies_of_a_pod_of_the_go_drivers_have_directories_of_their_own() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/go-driver-copy/input.yaml");
    let mut all = BTreeSet::from(["/var/lib/juicefs/volume/abcdef".to_owned()]);
    let mut original = parse(&input).remove(0);
    for (name, annotated) in [("go-copy-1", true), ("go-copy-2", true), ("go-copy-3", false)] {
        let metadata = original["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| key == "labels" || (annotated && key == "annotations"));
        metadata.extend([("name".to_owned(), name.into()), ("namespace".to_owned(), "team-a".into())]);
        // As `kubectl debug --copy-to` does: a copy of what is stored.
        original = create(&client, original, false).await.unwrap();
        let path = original["spec"]["volumes"][0]["hostPath"]["path"].as_str().unwrap().to_owned();
        let at = format!(" /jfs/{} ", path.rsplit_once('/').unwrap().1);
        let command = original["spec"]["initContainers"][1]["command"][2].as_str().unwrap();
        assert!(command.contains(&at), "{path}: {command}");
        assert!(all.insert(path), "{all:?}");
    }
}
