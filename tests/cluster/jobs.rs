//! Clients that would outlive their application are told that it has ended: by the webhook's and the controller's
//! programs as they are shipped; the kubelet's part is played here.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    control_plane::eventually,
    events::told,
    installation::{injected, pod, shared},
    objects::create,
};

const WORD: &str = "sidecar.juicefs.com/application-ended";

/// A node whose kubelet knows no native sidecars, for pods that tolerate it; nothing ever runs there.
async fn old_node(client: &Client) {
    let taint = json!({"key": "old", "effect": "NoSchedule"});
    let node = json!({"metadata": {"name": "jobs-old"}, "spec": {"unschedulable": true, "taints": [taint]}});
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&kube::api::PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let info = json!({"status": {"nodeInfo": {"kubeletVersion": "v1.28.15", "operatingSystem": "linux",
        "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
        "machineID": "", "osImage": "", "systemUUID": ""}}});
    nodes.patch_status("jobs-old", &PatchParams::default(), &Patch::Merge(&info)).await.unwrap();
}

fn job(name: &str, policy: &str) -> Value {
    let mut pod = pod(name, "logs");
    pod["spec"]["restartPolicy"] = policy.into();
    pod["spec"]["tolerations"] = json!([{"key": "old", "operator": "Exists"}]);
    pod
}

fn clients(pod: &Value) -> Vec<&Value> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    containers.iter().filter(|container| container["name"] != "app").collect()
}

/// What a kubelet says of a pod that runs, when the application has ended with this code.
async fn application_ends(pods: &Api<Pod>, pod: &Value, code: i32) {
    let status = |name: &Value, state: Value| json!({"name": name, "image": "x", "imageID": "x", "ready": false, "restartCount": 0, "state": state});
    let running = json!({"running": {"startedAt": "2026-11-22T00:00:00Z"}});
    let clients = clients(pod).into_iter().map(|client| status(&client["name"], running.clone()));
    let app = status(&json!("app"), json!({"terminated": {"exitCode": code, "containerID": "x://y"}}));
    let statuses: Vec<_> = clients.chain([app]).collect();
    let patch = json!({"status": {"phase": "Running", "containerStatuses": statuses}});
    let name = pod["metadata"]["name"].as_str().unwrap();
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn word(pods: &Api<Pod>, name: &str) -> Option<String> {
    pods.get(name).await.unwrap().metadata.annotations?.remove(WORD)
}

#[tokio::test]
async fn clients_are_told_when_their_application_has_ended_for_good() {
    let Some(installation) = shared().await else { return };
    let client = installation.plane.client().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "team-a");
    old_node(&client).await;
    eventually("the webhook to know of the old node", async || {
        let answer = create(&client, job("jobs-probe", "Never"), true).await.unwrap();
        (!clients(&answer).is_empty()).then_some(())
    })
    .await;
    let mut made = Vec::new();
    for (name, policy) in [("jobs-again", "OnFailure"), ("jobs-failed", "Never"), ("jobs-done", "OnFailure")]
    {
        let pod = create(&client, job(name, policy), false).await.unwrap();
        assert!(injected(&pod));
        made.push(pod);
    }
    let [again, failed, done] = made.as_slice() else { panic!("{made:?}") };
    // Every client reads the word from the one volume of it.
    let word_of = json!({"name": "jfs-word", "mountPath": "/run/juicefs-sidecar"});
    for client in clients(done) {
        let mounts = client["volumeMounts"].as_array().unwrap();
        assert!(mounts.contains(&word_of), "{mounts:?}");
    }
    // Those that come first are looked at first: the word that comes last says that all have been looked at.
    application_ends(&pods, again, 1).await;
    application_ends(&pods, failed, 1).await;
    application_ends(&pods, done, 0).await;
    eventually("the word", async || word(&pods, "jobs-done").await).await;
    assert_eq!(word(&pods, "jobs-failed").await.as_deref(), Some("true"));
    assert_eq!(word(&pods, "jobs-again").await, None, "it will be started again");
    let note = told(&client, "team-a", "ClientsEnded", "jobs-done").await;
    assert!(note.contains("jfs-mount"), "{note}");
    // One that always starts again has clients that need no word.
    let always = create(&client, job("jobs-always", "Always"), true).await.unwrap();
    let volumes = always["spec"]["volumes"].as_array().unwrap();
    assert!(!clients(&always).is_empty() && !volumes.iter().any(|volume| volume["name"] == "jfs-word"));
}
