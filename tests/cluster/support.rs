//! `support` over a real API server, with secrets planted wherever somebody might write one.

use std::{
    collections::BTreeMap, fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command, sync::Arc, thread,
};

use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use juicefs_sidecar::tls::{pem, server_config};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Secret},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Builder};
use tokio_rustls::TlsAcceptor;

use super::{
    control_plane::{ControlPlane, eventually},
    installation::{self, Replica, injected, service},
    manifests::{self, NAMESPACE},
    neighbour::Tls,
    objects::{create, storage},
};

const TEAM: &str = "supported";
const NODE: &str = "node-of-logs";
/// In every secret that is planted.
const PLANTED: &str = "hunter2";

/// In place of a kubelet: answers for the log of any container. Logs have whatever programs print.
fn kubelet(plane: &ControlPlane) -> u16 {
    let read = |name: &str| fs::read(plane.state().join("pki").join(name)).unwrap();
    // The API server's own certificate is for this address, too, and of the authority that it believes.
    let identity = pem::identity(&read("apiserver.crt"), &read("apiserver.key")).unwrap();
    let tls = TlsAcceptor::from(Arc::new(server_config(identity, None).unwrap()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = "mounted at /jfs\nmeta redis://:hunter2-of-log@10.0.0.1/1\n\
        --secret-key hunter2-of-flag\nSECRET_KEY=hunter2-of-variable\nknown hunter2-of-user end of log\n";
    let router = Router::new().fallback(move || async move { log });
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            axum::serve(Tls { listener: TcpListener::from_std(listener).unwrap(), tls }, router)
                .await
                .unwrap();
        });
    });
    port
}

/// What is planted in a namespace of applications, in our ConfigMap and in our Deployment.
async fn plant(plane: &ControlPlane, client: &Client) {
    plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
    let [mut secret, mut volume, mut claim] = storage(TEAM, "data");
    secret["stringData"] = json!({"name": "myjfs", "metaurl": "redis://:hunter2-of-user@10.0.0.1/1",
        "storage": "s3", "bucket": "https://b.example.com", "access-key": "AKhunter2", "secret-key": "SKhunter2",
        "format-options": "trash-days=1,session-token=hunter2-token", "envs": "{\"X_KEY\": \"hunter2-of-envs\"}"});
    volume["spec"]["mountOptions"] = json!(["cache-size=11", "session-token=hunter2-of-options"]);
    volume["spec"]["csi"]["volumeAttributes"] =
        json!({"juicefs/clean-cache": "true", "password": "hunter2-of-attribute"});
    claim["metadata"]["annotations"] = json!({"team.example.com/note": "hunter2-of-note",
        "juicefs.com/remark": "see https://me:hunter2-of-remark@wiki.example.com/x"});
    for object in [secret, volume, claim] {
        create(client, object, false).await.unwrap();
    }
    create(
        client,
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "supported"},
            "provisioner": "csi.juicefs.com", "mountOptions": ["token=hunter2-of-class"],
            "parameters": {"csi.storage.k8s.io/node-publish-secret-name": "data",
                "csi.storage.k8s.io/node-publish-secret-namespace": TEAM, "secretkey": "hunter2-of-parameter"}}),
        false,
    )
    .await
    .unwrap();
    let config = "mountPodPatch:\n  - env: [{name: AWS_SECRET_ACCESS_KEY, value: hunter2-of-config}]\n    mountOptions: [secret-key=hunter2-of-patch]\n";
    create(
        client,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "juicefs-csi-driver-config", "namespace": NAMESPACE},
            "data": {"config.yaml": config}}),
        false,
    )
    .await
    .unwrap();
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "webhook",
        "env": [{"name": "PROXY", "value": "http://u:hunter2-of-proxy@proxy:3128"}]}]}}}});
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    deployments
        .patch("juicefs-sidecar-webhook", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    create(
        client,
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "told", "namespace": TEAM},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "x", "reportingInstance": "x",
            "action": "x", "reason": "FailedMount", "type": "Warning",
            "regarding": {"kind": "Pod", "namespace": TEAM, "name": "app"},
            "note": "cannot connect to mysql://u:hunter2-of-event@(db:3306)/jfs"}),
        false,
    )
    .await
    .unwrap();
}

/// A node of ours.
async fn node(client: &Client, port: u16) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    create(client, node, false).await.unwrap();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {"kubeletVersion": "v1.36.0", "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "6.1",
            "osImage": "", "containerRuntimeVersion": "", "kubeProxyVersion": "", "operatingSystem": "linux",
            "architecture": "amd64"}}});
    let nodes = Api::<Node>::all(client.clone());
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// A pod on that node, whose client serves or does not.
async fn pod(client: &Client, name: &str, serves: bool) {
    let wanted = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": TEAM, "annotations": {
            "team.example.com/token": "hunter2-of-annotation",
            "kubectl.kubernetes.io/last-applied-configuration": "{\"env\": \"hunter2-of-last\"}"}},
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "app", "image": "app:1", "args": ["--token", "hunter2-of-args"],
                "env": [{"name": "DATABASE", "value": "hunter2-of-env"}],
                "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    eventually("pods to be injected", async || {
        create(client, wanted.clone(), true).await.ok().filter(injected)
    })
    .await;
    create(client, wanted, false).await.unwrap();
    let status = json!({"status": {"phase": "Pending", "initContainerStatuses": [
        {"name": "jfs-mount", "image": "x", "imageID": "x", "ready": serves, "started": serves, "restartCount": 1,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "message": "password=hunter2-of-state"}}}],
        "containerStatuses": [{"name": "app", "image": "x", "imageID": "x", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "PodInitializing"}}}]}});
    let pods = Api::<Pod>::namespaced(client.clone(), TEAM);
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(file).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name =
            entry.path().unwrap().strip_prefix("juicefs-sidecar-support").unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

fn support(plane: &ControlPlane, file: &Path, pods: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.args(["support", "-o"]).arg(file).arg("--kubeconfig").arg(plane.admin());
    command.args(pods.iter().flat_map(|pod| ["--pod", pod]));
    let output = command.output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_has_what_is_asked_for_and_no_secret() {
    // Of its own: nobody else's logs and secrets are to be in it.
    let Some(plane) = ControlPlane::start() else { return };
    manifests::install(&plane);
    let client = plane.client().await;
    plant(&plane, &client).await;
    let _controller = installation::controller(&plane, &["--provisioner=false"]).await;
    let webhook = Replica::start(&plane, &[]).await;
    service(&plane).await.add(webhook.backend);
    node(&client, kubelet(&plane)).await;
    pod(&client, "app", false).await;
    pod(&client, "calm", true).await;
    let secrets = Api::<Secret>::namespaced(client.clone(), TEAM);
    eventually("the clients' secret", async || secrets.get_opt("data-jfs-secret").await.unwrap()).await;

    let file = plane.state().join("support.tar.gz");
    let (said, code) = support(&plane, &file, &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&file);
    let encoded = STANDARD.encode("hunter2");
    for (name, text) in &files {
        for secret in [PLANTED, encoded.trim_end_matches('=')] {
            if let Some(at) = text.find(secret) {
                panic!("{name}: {}", &text[at.saturating_sub(200)..(at + 40).min(text.len())]);
            }
        }
        assert!(!text.contains("PRIVATE KEY"), "{name}");
    }

    // What a maintainer looks for is there all the same.
    let json = |name: &str| -> Value { serde_json::from_str(&files[name]).unwrap() };
    let has = |name: &str, text: &str| assert!(files[name].contains(text), "{name}: {}", files[name]);
    has("versions.json", "\"kubernetes\": \"v1.");
    has("nodes.json", "\"kubeletVersion\": \"v1.36.0\"");
    has("volumes.json", "cache-size=11");
    has("classes.json", "\"csi.storage.k8s.io/node-publish-secret-name\": \"data\"");
    has("configuration.json", "AWS_SECRET_ACCESS_KEY");
    has("events/supported.json", "cannot connect to mysql://[redacted]@(db:3306)/jfs");
    has("mutating-webhooks.json", "sidecar.inject.juicefs.com");
    has("deployments.json", "http://[redacted]@proxy:3128");
    has("pods-with-clients.json", "sidecar.juicefs.com/status");
    has("claims.json", "https://[redacted]@wiki.example.com/x");
    has("leases.json", "juicefs-sidecar-controller");
    for log in ["logs/supported/app/jfs-mount.log", "logs/supported/app/jfs-mount.previous.log"] {
        has(log, "mounted at /jfs");
        has(log, "meta redis://[redacted]@10.0.0.1/1");
        has(log, "known [redacted] end of log");
    }
    assert_eq!(
        logged(&files),
        ["app/jfs-mount.log", "app/jfs-mount.previous.log"],
        "an application's log is its own"
    );
    assert_eq!(json("status.json")[0]["clients"][0]["state"], "starting");
    assert_eq!(json("status.json")[1]["clients"][0]["state"], "serving");
    assert!(json("check.json").as_array().unwrap().iter().any(|finding| finding["area"] == "programs"));
    let secrets = json("secrets.json");
    let of = |name: &str| {
        let mut all = secrets.as_array().unwrap().iter();
        all.find(|secret| secret["name"] == name).unwrap()["keys"].as_array().unwrap().len()
    };
    assert_eq!((of("data"), of("juicefs-sidecar-tls") > 0, of("data-jfs-secret") > 0), (8, true, true));

    // One that is there is not overwritten.
    let (said, code) = support(&plane, &file, &[]);
    assert_eq!(code, 2);
    assert!(said.contains("cannot write") && said.contains("exists"), "{said}");
    logs_are_those_of_the_pods_that_are_named(&plane);
}

/// The logs of the team's pods.
fn logged(files: &BTreeMap<String, String>) -> Vec<&str> {
    files
        .keys()
        .filter_map(|name| name.strip_prefix("logs/")?.strip_prefix(TEAM)?.strip_prefix('/'))
        .collect()
}

fn logs_are_those_of_the_pods_that_are_named(plane: &ControlPlane) {
    let file = plane.state().join("named.tar.gz");
    let (said, code) = support(plane, &file, &["supported/calm", "supported/none", "other/app"]);
    assert_eq!(code, 0, "{said}");
    let files = unpacked(&file);
    assert_eq!(logged(&files), ["calm/jfs-mount.log", "calm/jfs-mount.previous.log"]);
    let left_out = &files["left-out.txt"];
    for pod in ["supported/none", "other/app"] {
        let sentence = format!("logs of {pod}: no pod with clients is called that");
        assert!(left_out.contains(&sentence), "{left_out}");
    }
    assert!(!left_out.contains("calm") && said.contains("left-out.txt says which"), "{left_out}{said}");

    let (said, code) = support(plane, &file, &["calm"]);
    assert_eq!(code, 2);
    assert!(said.contains("give namespace and name, like app/data"), "{said}");
}
