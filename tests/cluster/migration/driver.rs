//! The driver, as far as others see it.

use std::{path::Path, time::Duration};

use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Cluster, TEAM, TEST};
use crate::{
    manifests::piped,
    neighbour::{LABEL, Neighbour},
    objects::{create, parse},
};

/// Where its clients mount on the node.
pub(super) const DIRECTORY: &str = "/var/lib/juicefs/volume/abcdef";
const WEBHOOK: &str = "juicefs-admission-webhook";

pub(super) struct Driver {
    renewal: JoinHandle<()>,
}

impl Driver {
    /// Everything recorded, with claims that it has provisioned, and a Deployment whose pods it injects.
    pub(super) async fn install(cluster: &Cluster) -> Self {
        let client = &cluster.client;
        cluster.plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
        let recorded = parse(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migration/driver.yaml"));
        let of_kind =
            |kind: &'static str| recorded.iter().filter(move |object| object["kind"] == kind).cloned();
        for kind in ["StorageClass", "ConfigMap", "StatefulSet", "Lease", "Pod"] {
            for object in of_kind(kind) {
                create(client, object, false).await.unwrap();
            }
        }
        create(client, cluster.file_system.secret("kube-system", "moving-sc-secret"), false).await.unwrap();
        let of_others = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "csi.juicefs.com"},
             "spec": {"attachRequired": false, "podInfoOnMount": true}},
            {"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "metadata": {
                "namespace": "kube-system", "name": "sh.helm.release.v1.juicefs-csi-driver.v1",
                "labels": {"owner": "helm", "name": "juicefs-csi-driver"}}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {
                "namespace": TEAM, "name": "data-jfs-secret", "labels": {"juicefs/secret": "true"}},
             "stringData": {"check_mount.sh": "true", "jfsSettings": "{}", "metaurl": "old"}},
        ]});
        let applied = piped(cluster.plane.kubectl().args(["apply", "-f", "-"]), &of_others.to_string());
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let volume = of_kind("PersistentVolume").next().unwrap();
        for claim in ["data", "old"] {
            provision(cluster, &volume, claim).await;
        }
        register(cluster).await;
        deployment(client).await;
        Self { renewal: tokio::spawn(renew(client.clone())) }
    }

    /// It renews its Lease no more.
    pub(super) fn stop(&mut self) {
        self.renewal.abort();
    }
}

/// Makes the volume of a claim as the recorded one was made.
async fn provision(cluster: &Cluster, recorded: &Value, name: &str) {
    let claim = cluster.claim(name).await;
    let uid = claim["metadata"]["uid"].as_str().unwrap();
    let text = recorded.to_string().replace("11111111-2222-4333-8444-555555555555", uid);
    let text = text
        .replace("moving-data", &format!("moving-{name}"))
        .replace("\"name\":\"data\"", &format!("\"name\":\"{name}\""));
    create(&cluster.client, serde_json::from_str(&text).unwrap(), false).await.unwrap();
    super::eventually("the claim to be bound", async || cluster.volume_of(name).await).await;
}

/// Its webhook is asked about pods of labelled namespaces, as the recorded registration says.
async fn register(cluster: &Cluster) {
    Neighbour::register(cluster.client.clone(), WEBHOOK, TEST, "Never", inject).await;
    let selector = json!([{"op": "add", "path": "/webhooks/0/namespaceSelector",
        "value": {"matchLabels": {"juicefs.com/enable-injection": "true"}}}]);
    let mut kubectl = cluster.plane.kubectl();
    kubectl.args(["patch", "mutatingwebhookconfiguration", WEBHOOK, "--type=json", "--patch"]);
    let patched = kubectl.arg(selector.to_string()).output().unwrap();
    assert!(patched.status.success(), "{}", String::from_utf8_lossy(&patched.stderr));
}

/// What the driver's webhook makes of a pod: the claim goes, a client comes.
fn inject(pod: &Value) -> Value {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let claim = volumes.enumerate().find(|(_, volume)| volume.get("persistentVolumeClaim").is_some());
    let Some((index, volume)) = claim else { return json!([]) };
    json!([
        {"op": "add", "path": "/metadata/labels/done.sidecar.juicefs.com~1inject", "value": "true"},
        {"op": "replace", "path": format!("/spec/volumes/{index}"), "value": {"name": volume["name"],
            "hostPath": {"path": DIRECTORY, "type": "DirectoryOrCreate"}}},
        {"op": "add", "path": "/spec/initContainers", "value": [{"name": "jfs-mount", "image": "juicedata/mount:ce-v1.3.0",
            "restartPolicy": "Always", "command": ["sh", "-c", "exec /bin/mount.juicefs ${metaurl} /jfs/abcdef"]}]},
    ])
}

async fn deployment(client: &Client) {
    let labels = json!({LABEL: TEST, "app": "web"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": TEAM},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}}});
    create(client, deployment, false).await.unwrap();
}

/// Holds the Lease.
async fn renew(client: Client) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    loop {
        let renewed = json!({"spec": {"renewTime": MicroTime(Timestamp::now())}});
        // An API server that is stopping is no reason to fail.
        let _ = leases.patch("csi.juicefs.com", &PatchParams::default(), &Patch::Merge(&renewed)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
