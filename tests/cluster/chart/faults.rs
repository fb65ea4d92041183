//! An installation of which `check` says that all is well, and what it says of each fault that is made in it.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::tls::{authority::Authority, leaf};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    super::{
        check::check, control_plane::eventually, installation::injected, manifests::piped, objects::create,
    },
    NAMESPACE,
    life::{Cluster, TEAM},
};

/// What the API server knows of the webhook.
const REGISTRATION: &str = "mutatingwebhookconfiguration/juicefs-sidecar";

/// A fault: its name, how `kubectl` makes it and takes it back, and the line that names it.
type Fault = (&'static str, &'static str, &'static str, &'static str);

/// After which nobody mends what else is at fault.
const NO_CONTROLLER: Fault = (
    "no controller",
    "scale deployment juicefs-sidecar-controller --namespace juicefs-sidecar --replicas=0",
    "scale deployment juicefs-sidecar-controller --namespace juicefs-sidecar --replicas=2",
    "✘ leader: no controller holds the Lease juicefs-sidecar-controller",
);

/// Those that nobody mends but who made them.
const FAULTS: [Fault; 11] = [
    (
        "no label",
        "label namespace released juicefs.com/enable-injection-",
        "label namespace released juicefs.com/enable-injection=true",
        "✘ namespaces: no namespace has the label",
    ),
    (
        "wrong label",
        "label namespace released juicefs.com/enable_injection=true",
        "label namespace released juicefs.com/enable_injection-",
        "✘ namespaces: released: the label juicefs.com/enable_injection=true asks for nothing",
    ),
    (
        "Pod Security",
        "label namespace released pod-security.kubernetes.io/enforce=restricted",
        "label namespace released pod-security.kubernetes.io/enforce-",
        "✘ namespaces: released: its label pod-security.kubernetes.io/enforce=restricted keeps out pods",
    ),
    (
        "secret missing",
        "delete secret user --namespace released",
        "create secret generic user --namespace released --from-literal=name=myjfs --from-literal=metaurl=redis://10.0.0.1/1",
        "✘ class: faulty names the secret released/user, which does not exist",
    ),
    (
        "secret without an address",
        r#"patch secret user --namespace released --type=merge --patch={"data":{"metaurl":null}}"#,
        r#"patch secret user --namespace released --type=merge --patch={"stringData":{"metaurl":"redis://10.0.0.1/1"}}"#,
        "! class: faulty: secret released/user: user secret has neither metaurl",
    ),
    (
        "a right of the controller removed",
        r#"patch clusterrole juicefs-sidecar-controller --type=json --patch=[{"op":"replace","path":"/rules/1/verbs","value":["get"]}]"#,
        r#"patch clusterrole juicefs-sidecar-controller --type=json --patch=[{"op":"replace","path":"/rules/1/verbs","value":["patch"]}]"#,
        "✘ rights: juicefs-sidecar-controller may not patch pods/status",
    ),
    (
        "the webhook's rights removed",
        "delete clusterrolebinding juicefs-sidecar-webhook",
        "create clusterrolebinding juicefs-sidecar-webhook --clusterrole=juicefs-sidecar-webhook --serviceaccount=juicefs-sidecar:juicefs-sidecar-webhook",
        "✘ rights: juicefs-sidecar-webhook may not get persistentvolumeclaims, ",
    ),
    (
        "two provisioners",
        "run csi --image=csi --namespace kube-system --labels=app=juicefs-csi-controller",
        "delete pod csi --namespace kube-system --force",
        "its controller runs: kube-system/csi",
    ),
    (
        "old kubelet",
        r#"patch node node --subresource=status --type=merge --patch={"status":{"nodeInfo":{"kubeletVersion":"v1.28.3"}}}"#,
        r#"patch node node --subresource=status --type=merge --patch={"status":{"nodeInfo":{"kubeletVersion":"v1.36.0"}}}"#,
        "! nodes: kubelets before 1.29 know no native sidecars: node",
    ),
    (
        "no webhook",
        "scale deployment juicefs-sidecar-webhook --namespace juicefs-sidecar --replicas=0",
        "scale deployment juicefs-sidecar-webhook --namespace juicefs-sidecar --replicas=2",
        "✘ programs: juicefs-sidecar-webhook is scaled to nothing",
    ),
    NO_CONTROLLER,
];

impl Cluster {
    fn kubectl(&self, words: &str) {
        let output = self.plane.kubectl().args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Until `check` says this.
    async fn says(&self, fault: &str, line: &str) {
        let mut said = String::new();
        let found = async || {
            said = self.check().await;
            said.contains(line).then_some(())
        };
        // The text is worth more than that it was waited for.
        let in_time = tokio::time::timeout(Duration::from_secs(50), eventually(fault, found)).await.is_ok();
        assert!(in_time, "{fault}: {line}\n{said}");
    }

    async fn is_well(&self, after: &str) {
        self.says(after, "\nall is well\n").await;
    }
}

/// What all is well with: a node, a class with its secret, and a claim of it that waits for a pod.
async fn furnish(cluster: &Cluster) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}});
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "faulty"},
        "provisioner": "csi.juicefs.com", "volumeBindingMode": "WaitForFirstConsumer", "parameters": {
            "csi.storage.k8s.io/node-publish-secret-name": "user",
            "csi.storage.k8s.io/node-publish-secret-namespace": TEAM}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "user", "namespace": TEAM},
        "stringData": {"name": "myjfs", "metaurl": "redis://10.0.0.1/1"}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "waiting", "namespace": TEAM}, "spec": {"accessModes": ["ReadWriteMany"],
            "storageClassName": "faulty", "resources": {"requests": {"storage": "1Gi"}}}});
    for object in [node, class, secret, claim] {
        create(&cluster.client, object, false).await.unwrap();
    }
    let status = json!({"status": {"nodeInfo": {"kubeletVersion": "v1.36.0", "machineID": "", "systemUUID": "",
        "bootID": "", "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "", "kubeProxyVersion": "",
        "operatingSystem": "linux", "architecture": "amd64"}}});
    let nodes = Api::<Node>::all(cluster.client.clone());
    nodes.patch_status("node", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

fn pod(name: &str, claim: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": TEAM}, "spec": {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_every_fault_that_is_made() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.install(&[]).await;
    cluster.is_installed().await;
    furnish(&cluster).await;
    cluster.is_well("the installation").await;
    for (name, make, undo, line) in FAULTS {
        cluster.kubectl(make);
        cluster.says(name, line).await;
        cluster.kubectl(undo);
        cluster.is_well(name).await;
    }
    tokio::task::block_in_place(|| cluster.plane.has_endpoint(false));
    let line = "✘ service: the webhook's Service has no endpoint that is ready";
    cluster.says("Service without endpoints", line).await;
    tokio::task::block_in_place(|| cluster.plane.has_endpoint(true));
    cluster.is_well("Service without endpoints").await;
    pods_without_a_client_and_with_one_that_fails(&cluster).await;
    a_broken_configuration_and_a_second_webhook(&cluster).await;
    what_a_controller_would_mend(&cluster).await;
    nothing_is_installed_elsewhere(&cluster);
}

async fn pods_without_a_client_and_with_one_that_fails(cluster: &Cluster) {
    cluster.kubectl("label namespace released juicefs.com/enable-injection-");
    eventually("a pod without a client", async || {
        let tried = create(&cluster.client, pod("plain", "waiting"), true).await.ok()?;
        (!injected(&tried)).then_some(())
    })
    .await;
    create(&cluster.client, pod("plain", "waiting"), false).await.unwrap();
    cluster.kubectl("label namespace released juicefs.com/enable-injection=true");
    cluster.says("pod without client", "no client, so their volume is missing: released/plain").await;
    cluster.kubectl("delete pod plain --namespace released --force");
    cluster.is_well("pod without client").await;

    eventually("a pod with a client", async || {
        let tried = create(&cluster.client, pod("fails", "data"), true).await.ok()?;
        injected(&tried).then_some(())
    })
    .await;
    create(&cluster.client, pod("fails", "data"), false).await.unwrap();
    let container = |name: &str, started: bool| {
        json!({"name": name, "image": "x", "imageID": "x", "ready": started, "started": started,
            "restartCount": 0, "state": {"running": {}}})
    };
    let status = json!({"status": {"phase": "Pending", "initContainerStatuses": [
        container("jfs-agent", true), container("jfs-mount", false)]}});
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), TEAM);
    pods.patch_status("fails", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    cluster.says("client fails", "✘ pods: a client does not serve: released/fails").await;
    cluster.kubectl("delete pod fails --namespace released --force");
    cluster.is_well("client fails").await;
}

async fn a_broken_configuration_and_a_second_webhook(cluster: &Cluster) {
    let apply = |object: Value| {
        let output = piped(cluster.plane.kubectl().args(["apply", "-f", "-"]), &object.to_string());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let map = |text: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "juicefs-csi-driver-config", "namespace": NAMESPACE}, "data": {"config.yaml": text}})
    };
    apply(map("mode: nonsense"));
    cluster.says("broken ConfigMap", "cannot be used, the last good one stays").await;
    apply(map("mode: resilient"));
    cluster.is_well("broken ConfigMap").await;

    let rival = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "juicefs-admission-webhook"}, "webhooks": [{
            "name": "sidecar.inject.juicefs.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Ignore", "timeoutSeconds": 1,
            "clientConfig": {"url": "https://127.0.0.1:1/inject"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"juicefs.com/enable-injection": "true"}}}]});
    apply(rival);
    let line = "juicefs-admission-webhook is asked about pods of labelled namespaces too";
    cluster.says("a second webhook", line).await;
    cluster.kubectl("delete mutatingwebhookconfiguration juicefs-admission-webhook");
    cluster.is_well("a second webhook").await;
}

/// A Secret's contents: a certificate made at a moment, by an authority.
fn serving(authority: &Authority, made: SystemTime) -> String {
    let name = format!("juicefs-sidecar-webhook.{NAMESPACE}.svc");
    let leaf = leaf::sign(authority, &[name], made, Duration::from_hours(48)).unwrap();
    let data = json!({"tls.crt": STANDARD.encode(&leaf.certificate_pem), "tls.key": STANDARD.encode(leaf.key_pem())});
    let patch = json!({"data": data});
    format!("patch secret juicefs-sidecar-tls --namespace {NAMESPACE} --type=merge --patch={patch}")
}

/// While no controller runs, that nobody mends it; one that comes back mends all of it.
async fn what_a_controller_would_mend(cluster: &Cluster) {
    let (_, stop, start, stopped) = NO_CONTROLLER;
    cluster.kubectl(stop);
    cluster.says("no controller", stopped).await;
    let now = SystemTime::now();
    let days = |count: u64| Duration::from_hours(24 * count);
    let stranger = Authority::make(now - days(10), days(365)).unwrap();
    for (fault, certificate, line) in [
        ("certificate expired", serving(&stranger, now - days(4)), "✘ certificate: it ended "),
        ("clock skew", serving(&stranger, now + days(1)), "✘ certificate: it is not valid yet, for "),
        (
            "an authority that nobody trusts",
            serving(&stranger, now),
            "✘ certificate: the API server does not trust it",
        ),
    ] {
        cluster.kubectl(&certificate);
        cluster.says(fault, line).await;
    }
    for (fault, words, line) in [
        (
            "pods let through",
            r#"--type=json --patch=[{"op":"replace","path":"/webhooks/1/failurePolicy","value":"Ignore"}]"#,
            "! registration: failurePolicy is Ignore",
        ),
        (
            "another installation",
            r#"--type=json --patch=[{"op":"replace","path":"/webhooks/0/clientConfig/service/namespace","value":"other"},{"op":"replace","path":"/webhooks/1/clientConfig/service/namespace","value":"other"}]"#,
            r#"✘ registration: it leads to no Service in namespace "juicefs-sidecar""#,
        ),
    ] {
        cluster.kubectl(&format!("patch {REGISTRATION} {words}"));
        cluster.says(fault, line).await;
    }
    cluster.kubectl(&format!("delete {REGISTRATION}"));
    cluster.says("webhook deleted", "✘ registration: the API server does not know the webhook").await;
    cluster.kubectl(start);
    cluster.is_well("a controller again").await;
}

fn nothing_is_installed_elsewhere(cluster: &Cluster) {
    let (said, code) = check(&cluster.plane.admin(), &["--namespace", "default"]);
    assert!(
        said.contains(r#"✘ programs: no Deployment of juicefs-sidecar is in namespace "default""#),
        "{said}"
    );
    assert_eq!(code, 1);
}
