//! Pods that are over and cannot go are set free by pods of ours on their nodes, and those may be nothing else; the
//! kubelet's part is played here, and by a real one in `tests/node`.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    control_plane::{self, ControlPlane, eventually},
    events::told,
    installation::{injected, pod, shared},
    manifests::{JANITOR, NAMESPACE},
    objects::create,
};

const JANITORS: &str = "juicefs-sidecar-janitor";
const NODE: &str = "janitor-node";

fn install(plane: &ControlPlane) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(JANITOR);
    let output = plane.kubectl().args(["apply", "-k"]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A pod with a client, on a node.
async fn placed(client: &Client, name: &str) -> Value {
    let mut pod = pod(name, "logs");
    pod["metadata"]["annotations"]["sidecar.juicefs.com/mode"] = "resilient".into();
    pod["spec"]["nodeName"] = NODE.into();
    let made = create(client, pod, false).await.unwrap();
    assert!(injected(&made));
    made
}

/// Says of a pod, as its kubelet would, how its clients are and how its application is.
async fn say(client: &Client, pod: &Value, phase: &str, clients: &Value, application: &Value) {
    let statuses = |list: &str, state: &Value| -> Vec<Value> {
        let containers = pod["spec"][list].as_array().unwrap();
        containers
            .iter()
            .map(|one| {
                json!({"name": one["name"], "image": "x", "imageID": "x", "ready": false, "restartCount": 0, "state": state})
            })
            .collect()
    };
    let status = json!({"status": {"phase": phase, "initContainerStatuses": statuses("initContainers", clients),
        "containerStatuses": statuses("containers", application)}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), "team-a");
    let name = pod["metadata"]["name"].as_str().unwrap();
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// Deletes a pod of which nothing runs any more then; its UID.
async fn over(client: &Client, pod: &Value) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "team-a");
    pods.delete(pod["metadata"]["name"].as_str().unwrap(), &DeleteParams::default()).await.unwrap();
    let ended = json!({"terminated": {"exitCode": 137, "containerID": "x://y"}});
    say(client, pod, "Failed", &ended, &ended).await;
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// What a kubelet says of a pod that detaches mounts, once it is there; the pod.
async fn ends(client: &Client, uid: &str, status: &Value) -> Value {
    let pods: Api<Pod> = Api::namespaced(client.clone(), JANITORS);
    let name = format!("release-{uid}");
    let pod = eventually("the pod that detaches mounts", async || pods.get_opt(&name).await.unwrap()).await;
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&json!({ "status": status })))
        .await
        .unwrap();
    eventually("that pod to be removed", async || {
        let left = pods.get_opt(&name).await.unwrap();
        left.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()).then_some(())
    })
    .await;
    serde_json::to_value(pod).unwrap()
}

/// Changes that would make the pod more than it is, and what the refusal says.
fn changes() -> Vec<(&'static str, Value, &'static str)> {
    let container = |more: Value| {
        let mut one = json!({"name": "more", "image": "x"});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    vec![
        ("/containers/1", container(json!({})), "one container"),
        ("/initContainers", json!([container(json!({}))]), "one container"),
        ("/containers/0/image", json!("busybox"), "its image"),
        ("/containers/0/command", json!(["/bin/sh", "-c", "--directory=/volumes", "x"]), "jfs-agent release"),
        ("/containers/0/args", json!(["x"]), "jfs-agent release"),
        ("/containers/0/env", json!([{"name": "A", "value": "b"}]), "jfs-agent release"),
        ("/containers/0/lifecycle", json!({"postStart": {"exec": {"command": ["x"]}}}), "jfs-agent release"),
        ("/containers/0/securityContext", json!({"privileged": true}), "no privilege"),
        ("/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"]), "no privilege"),
        ("/containers/0/securityContext/readOnlyRootFilesystem", json!(false), "no privilege"),
        ("/hostPID", json!(true), "no privilege"),
        ("/hostNetwork", json!(true), "no privilege"),
        ("/automountServiceAccountToken", json!(true), "no token"),
        ("/activeDeadlineSeconds", json!(86400), "no token"),
        ("/volumes/0/hostPath/path", json!("/"), "emptyDir directories"),
        ("/volumes/0/hostPath/path", json!("/var/lib/kubelet/pods/a/volumes/b"), "emptyDir directories"),
        ("/volumes/0/hostPath/path", json!("/var/lib"), "emptyDir directories"),
        ("/containers/0/volumeMounts/0/subPath", json!("kubernetes.io~secret"), "emptyDir directories"),
        (
            "/volumes/0/hostPath/path",
            json!("/var/lib/kubelet/pods/a/volume-subpaths"),
            "emptyDir directories",
        ),
        ("/containers/0/volumeMounts/0/mountPropagation", json!("HostToContainer"), "emptyDir directories"),
    ]
}

/// Sets a value in a pod's specification, whether it was there or not.
fn set(spec: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Array(list) => list.push(value),
        parent => parent[key] = value,
    }
}

/// Whether the controller's account may make a pod with this specification there; what is said if not.
async fn may(client: &Client, name: &str, spec: &Value) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), JANITORS);
    let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry_run, &pod).await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn pods_that_cannot_go_are_set_free_by_pods_that_may_do_nothing_else() {
    let Some(installation) = shared().await else { return };
    let plane = installation.plane;
    let client = plane.client().await;
    install(plane);
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"metadata": {"name": NODE}, "spec": {"unschedulable": true}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();

    let freed = over(&client, &placed(&client, "freed").await).await;
    let kept = over(&client, &placed(&client, "kept").await).await;
    let made = ends(&client, &freed, &json!({"phase": "Succeeded"})).await;
    let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "release", "image": "x", "imageID": "x",
        "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": "data: busy", "containerID": "x://y"}}}]});
    ends(&client, &kept, &failed).await;
    let note = told(&client, "team-a", "MountDetached", "freed").await;
    assert!(note.contains("the mount was detached"), "{note}");
    let note = told(&client, "team-a", "MountNotDetached", "kept").await;
    let by_hand = format!("umount -l /var/lib/kubelet/pods/{kept}/volumes/kubernetes.io~empty-dir/v/mnt");
    assert!(note.contains("data: busy") && note.contains(NODE) && note.contains(&by_hand), "{note}");

    // A pod with a container that cannot be started, which is over before anything has come of it.
    let turned = placed(&client, "turned").await;
    let message = "failed to prepare subPath for volumeMount \"v\" of container \"app\"";
    let waiting = json!({"waiting": {"reason": "CreateContainerConfigError", "message": message}});
    say(&client, &turned, "Running", &json!({"running": {}}), &waiting).await;
    let of_sub_paths = format!("{}-v", turned["metadata"]["uid"].as_str().unwrap());
    let janitors: Api<Pod> = Api::namespaced(client.clone(), JANITORS);
    let first = format!("release-{of_sub_paths}");
    let made_first =
        eventually("the pod for its subPath", async || janitors.get_opt(&first).await.unwrap()).await;
    let container = serde_json::to_value(&made_first.spec.unwrap().containers[0]).unwrap();
    assert_eq!(container["volumeMounts"][0]["subPath"], "v");
    assert!(container["command"].to_string().contains("--mountpoint=app/0"), "{container}");
    let turned = over(&client, &turned).await;
    ends(&client, &turned, &json!({"phase": "Succeeded"})).await;
    ends(&client, &of_sub_paths, &json!({"phase": "Succeeded"})).await;

    let mut spec = made["spec"].clone();
    assert_eq!(spec["nodeName"], NODE);
    // It is not the real one's.
    spec.as_object_mut().unwrap().remove("nodeName");
    let account = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
    let controller = control_plane::client(&account).await;
    assert_eq!(may(&controller, "as-it-is", &spec).await, Ok(()));
    let mut tidy = spec.clone();
    set(&mut tidy, "/volumes/0/hostPath/path", json!("/var/lib/juicefs"));
    set(&mut tidy, "/containers/0/volumeMounts/0/subPath", json!("volume"));
    assert_eq!(may(&controller, "tidy", &tidy).await, Ok(()));
    let mut sub_paths = spec.clone();
    set(&mut sub_paths, "/volumes/0/hostPath/path", json!("/var/lib/kubelet/pods/a/volume-subpaths"));
    set(&mut sub_paths, "/containers/0/volumeMounts/0/subPath", json!("v"));
    assert_eq!(may(&controller, "sub-paths", &sub_paths).await, Ok(()));
    for (path, value, reason) in changes() {
        let mut other = spec.clone();
        set(&mut other, path, value.clone());
        let said = may(&controller, "other", &other).await.expect_err(path);
        assert!(said.contains("juicefs-sidecar-janitor") && said.contains(reason), "{path} {value}: {said}");
    }
}
