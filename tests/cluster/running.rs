//! `status` and `upgrade` over a real API server. No kubelet runs here: what it says of pods is said by the tests; on a
//! real node `tests/node` has both.

use std::{
    fs,
    process::{Command, Output},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    control_plane::eventually,
    installation::{self, Installation, pod},
    objects::{create, storage},
};

/// Volumes are the cluster's, so the name is nobody else's.
const CLAIM: &str = "shown";
const NEW: &str = "juicedata/mount:ce-v9.9.9";

fn sidecar(installation: &Installation, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.args(words).arg("--kubeconfig").arg(installation.plane.admin()).output().unwrap()
}

fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// An injected pod of a namespace of its own, resilient or classic.
async fn injected(client: &Client, namespace: &str, name: &str, mode: &str) -> Value {
    let mut pod = pod(name, CLAIM);
    pod["metadata"]["namespace"] = namespace.into();
    pod["metadata"]["annotations"]["sidecar.juicefs.com/mode"] = mode.into();
    create(client, pod, false).await.unwrap()
}

/// Says of a pod's containers what a kubelet would.
async fn report(pods: &Api<Pod>, name: &str, restarts: i32, started: bool, last: &Value) {
    let pod = pods.get(name).await.unwrap();
    let containers = pod.spec.unwrap().init_containers.unwrap();
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            let agent = container.name == "jfs-agent";
            let (restarts, started) = if agent { (0, true) } else { (restarts, started) };
            json!({"name": container.name, "image": container.image, "imageID": "x", "ready": started,
                "started": started, "restartCount": restarts, "state": {"running": {}}, "lastState": last})
        })
        .collect();
    let status = json!({"status": {"phase": "Running", "initContainerStatuses": statuses}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn image(pods: &Api<Pod>, name: &str) -> String {
    let containers = pods.get(name).await.unwrap().spec.unwrap().init_containers.unwrap();
    containers.into_iter().find(|container| container.name == "jfs-mount").unwrap().image.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_shown_and_upgraded_one_after_the_other() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let namespace =
        installation.plane.namespace("running", &[("juicefs.com/enable-injection", "true")]).await;
    for object in storage(&namespace, CLAIM) {
        create(&client, object, false).await.unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    for (name, mode) in [("one", "resilient"), ("two", "resilient"), ("old-fashioned", "classic")] {
        injected(&client, &namespace, name, mode).await;
        report(&pods, name, 0, name != "two", &json!({})).await;
    }
    let old = image(&pods, "one").await;
    let from = old.rsplit_once(':').unwrap().0;

    // One of them has not served yet.
    let (table, _, code) = said(&sidecar(installation, &["status", "-n", &namespace]));
    assert_eq!(code, 1, "{table}");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAMESPACE", "POD", "CLAIM", "CONTAINER", "MODE", "STATE", "RESTARTS", "IMAGE"]);
    let line = |words: [&str; 8]| lines.iter().any(|line| line[..] == words);
    assert!(line([&namespace, "one", CLAIM, "jfs-mount", "resilient", "serving", "0", &old]), "{table}");
    assert!(line([&namespace, "two", CLAIM, "jfs-mount", "resilient", "starting", "0", &old]), "{table}");
    assert!(
        line([&namespace, "old-fashioned", CLAIM, "jfs-mount", "classic", "serving", "0", &old]),
        "{table}"
    );
    report(&pods, "two", 0, true, &json!({})).await;
    let (json, _, code) = said(&sidecar(installation, &["status", "-n", &namespace, "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json.as_array().map(Vec::len)), (0, Some(3)), "{json}");
    assert_eq!(json[1]["clients"][0]["state"], "serving");

    // Under the name of a plugin kubectl finds it.
    let plugins = installation.plane.state().join("plugins");
    fs::create_dir(&plugins).unwrap();
    let plugin = plugins.join("kubectl-juicefs_sidecar");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_juicefs-sidecar"), plugin).unwrap();
    let path = format!("{}:{}", plugins.display(), std::env::var("PATH").unwrap());
    let mut kubectl = Command::new(installation.plane.kubectl().get_program());
    kubectl.args(["kubectl", "juicefs-sidecar", "status", "one", "-n", &namespace, "-o", "json"]);
    kubectl.env("PATH", path).env("KUBECONFIG", installation.plane.admin());
    let (json, err, code) = said(&kubectl.output().unwrap());
    assert_eq!((code, json.contains("jfs-agent")), (0, true), "{json}{err}");

    // Nothing is changed that is not asked for.
    let words = ["upgrade", "--image", NEW, "--from", from, "-n", &namespace];
    let (out, err, code) = said(&sidecar(installation, &[&words[..], &["--dry-run"]].concat()));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains(&format!("1/2 {namespace}/one jfs-mount: would be changed")), "{out}");
    assert!(err.contains(&format!("{namespace}/old-fashioned: classic")), "{err}");
    assert_eq!(image(&pods, "one").await, old);

    // The kubelet starts the first anew, and its client has handed over; that of the second has not.
    let (output, ()) = tokio::join!(
        tokio::task::spawn_blocking({
            let words = words.map(str::to_owned);
            move || {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let installation =
                    tokio::runtime::Handle::current().block_on(installation::shared()).unwrap();
                sidecar(installation, &words)
            }
        }),
        async {
            for (name, code) in [("one", 0), ("two", 1)] {
                eventually("the image to be changed", async || {
                    (image(&pods, name).await == NEW).then_some(())
                })
                .await;
                if name == "one" {
                    assert_eq!(image(&pods, "two").await, old, "one after the other");
                }
                let last = json!({"terminated": {"exitCode": code, "reason": "Error"}});
                report(&pods, name, 1, true, &last).await;
            }
        }
    );
    let (out, err, code) = said(&output.unwrap());
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains(&format!("1/2 {namespace}/one jfs-mount: serves after ")), "{out}");
    assert!(
        err.contains(&format!(
            "2/2 {namespace}/two jfs-mount: serves, but the last client did not hand over"
        ))
    );
    assert!(
        err.contains(&format!("to go back: juicefs-sidecar upgrade --image {old} --from juicedata/mount")),
        "{err}"
    );

    // Nothing is left to be done.
    let (out, err, code) = said(&sidecar(installation, &words));
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains(&format!("2 had {NEW} already")), "{err}");
}
