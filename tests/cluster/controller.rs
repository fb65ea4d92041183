//! The controller as it is shipped: by its `ServiceAccount`, two of them, against what happens to a cluster.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingWebhookConfiguration,
        },
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret},
        rbac::v1::ClusterRole,
        storage::v1::StorageClass,
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    control_plane::{ControlPlane, eventually},
    events::told,
    manifests::{self, NAMESPACE},
    program::Program,
};

const NAME: &str = "juicefs-sidecar";

fn controller(kubeconfig: &Path, pod: &str) -> Program {
    Program::start(|command| {
        command
            .args(["controller", "--metrics-listen=127.0.0.1:0", "--kubeconfig"])
            .arg(kubeconfig)
            .args(["--certificate-lifetime=60s", "--ca-lifetime=1h", "--leader-election-lease-duration=6s"])
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", pod);
    })
}

fn once(kubeconfig: &Path, namespace: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"))
        .args(["controller", "--metrics-listen=127.0.0.1:0", "--kubeconfig"])
        .arg(kubeconfig)
        .args(arguments)
        .env("POD_NAMESPACE", namespace)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// How many authorities a registered webhook trusts; none if it is not registered.
async fn authorities(client: &Client) -> usize {
    let found = Api::<MutatingWebhookConfiguration>::all(client.clone()).get_opt(NAME).await.unwrap();
    let webhook = found.and_then(|found| found.webhooks?.into_iter().next());
    let bundle = webhook.and_then(|webhook| webhook.client_config.ca_bundle).unwrap_or_default();
    String::from_utf8(bundle.0).unwrap().matches("BEGIN CERTIFICATE").count()
}

async fn leaf(client: &Client) -> Option<ByteString> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    secrets.get_opt("juicefs-sidecar-tls").await.unwrap()?.data?.remove("tls.crt")
}

#[tokio::test]
async fn it_keeps_what_it_made_whatever_happens_to_it() {
    // Of its own: its registrations would keep pods of other tests out.
    let Some(plane) = ControlPlane::start() else { return };
    manifests::install(&plane);
    let client = plane.client().await;
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
    plane.has_endpoint(true);
    let first = controller(&kubeconfig, "first");
    first.wait_for("leading");
    let second = controller(&kubeconfig, "second");
    second.wait_for("standing by");
    eventually("a serving certificate", async || leaf(&client).await).await;
    eventually("the registration", async || (authorities(&client).await == 1).then_some(())).await;

    registrations_come_back(&client).await;
    secrets_are_made_again(&client).await;
    pods_without_a_client_are_told_of(&plane, &client).await;
    a_broken_configuration_is_told_of(&client).await;

    // The leader dies; the one that stood by goes on, with what there is.
    let before = leaf(&client).await;
    drop(first);
    second.wait_for("leading");
    eventually("a renewed certificate", async || (leaf(&client).await != before).then_some(())).await;
    foreign_secrets_are_left_alone(&client).await;

    unregistering_lasts(&client, &kubeconfig).await;
    // Uninstalled without a word: the role goes, and takes along what it owns.
    let roles = Api::<ClusterRole>::all(client.clone());
    roles.delete("juicefs-sidecar-controller", &DeleteParams::default()).await.unwrap();
    let configurations = Api::<MutatingWebhookConfiguration>::all(client.clone());
    eventually("the registration gone", async || {
        configurations.get_opt(NAME).await.unwrap().is_none().then_some(())
    })
    .await;
}

async fn registrations_come_back(client: &Client) {
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let policies = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    mutating.delete(NAME, &DeleteParams::default()).await.unwrap();
    validating.delete(NAME, &DeleteParams::default()).await.unwrap();
    policies.delete(NAME, &DeleteParams::default()).await.unwrap();
    eventually("injection again", async || mutating.get_opt(NAME).await.unwrap()).await;
    eventually("validation again", async || validating.get_opt(NAME).await.unwrap()).await;
    eventually("the policy again", async || policies.get_opt(NAME).await.unwrap()).await;

    let patch = json!([
        {"op": "replace", "path": "/webhooks/1/failurePolicy", "value": "Ignore"},
        {"op": "replace", "path": "/webhooks/1/clientConfig/caBundle", "value": "Cg=="},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    mutating.patch(NAME, &PatchParams::default(), &Patch::Json::<()>(patch)).await.unwrap();
    eventually("the changes undone", async || {
        let webhook = mutating.get(NAME).await.unwrap().webhooks.unwrap().swap_remove(1);
        let bundle = webhook.client_config.ca_bundle.unwrap_or_default();
        (webhook.failure_policy.as_deref() == Some("Fail") && bundle.0.len() > 100).then_some(())
    })
    .await;
}

async fn secrets_are_made_again(client: &Client) {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let before = leaf(client).await;
    secrets.delete("juicefs-sidecar-ca", &DeleteParams::default()).await.unwrap();
    // Both are trusted before the new one signs.
    eventually("a second authority", async || (authorities(client).await == 2).then_some(())).await;
    assert_eq!(leaf(client).await, before);
    eventually("a certificate of it", async || (leaf(client).await != before).then_some(())).await;

    secrets.delete("juicefs-sidecar-tls", &DeleteParams::default()).await.unwrap();
    eventually("a certificate again", async || leaf(client).await).await;
}

async fn pods_without_a_client_are_told_of(plane: &ControlPlane, client: &Client) {
    let class = json!({"metadata": {"name": "watched"}, "provisioner": "csi.juicefs.com", "volumeBindingMode": "WaitForFirstConsumer"});
    Api::<StorageClass>::all(client.clone()).create(&PostParams::default(), &object(class)).await.unwrap();
    let namespace = plane.namespace("watched", &[]).await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "storageClassName": "watched", "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}
    }});
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    claims.create(&PostParams::default(), &object(claim)).await.unwrap();
    let pod = json!({"metadata": {"name": "early"}, "spec": {
        "containers": [{"name": "app", "image": "app:1"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }});
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    let label = json!({"metadata": {"labels": {"juicefs.com/enable-injection": "true"}}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let note = told(client, &namespace, "ClientMissing", "early").await;
    assert!(note.contains("claim \"data\"") && note.contains("delete the pod"), "{note}");
}

async fn a_broken_configuration_is_told_of(client: &Client) {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "juicefs-csi-driver-config"},
        "data": {"config.yaml": "enableNativeSidecar: maybe\n"}
    });
    maps.create(&PostParams::default(), &object(map)).await.unwrap();
    let note = told(client, NAMESPACE, "ConfigurationInvalid", "juicefs-csi-driver-config").await;
    assert!(note.contains("enableNativeSidecar") && note.contains("last good configuration"), "{note}");
    let good = json!({"data": {"config.yaml": "enableNativeSidecar: true\n"}});
    let name = "juicefs-csi-driver-config";
    maps.patch(name, &PatchParams::default(), &Patch::Merge(good)).await.unwrap();
    told(client, NAMESPACE, "ConfigurationAccepted", name).await;
}

async fn foreign_secrets_are_left_alone(client: &Client) {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let theirs =
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "data": {"ca.crt": "Cg=="}});
    let name = "juicefs-sidecar-ca";
    secrets.patch(name, &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
    let note = told(client, NAMESPACE, "SecretNotOurs", name).await;
    assert!(note.contains("is not ours"), "{note}");
    let left = secrets.get(name).await.unwrap();
    assert_eq!(left.data.unwrap()["ca.crt"].0, b"\n");
    secrets.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("an authority of ours", async || secrets.get_opt(name).await.unwrap()).await;
}

async fn unregistering_lasts(client: &Client, kubeconfig: &Path) {
    let output = once(kubeconfig, NAMESPACE, &["--unregister"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(authorities(client).await, 0);
    let leases = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
    let renewed = async || leases.get("juicefs-sidecar-controller").await.unwrap().spec.unwrap().renew_time;
    let before = renewed().await;
    eventually("a leader that goes on", async || (renewed().await != before).then_some(())).await;
    assert_eq!(authorities(client).await, 0);
    let output = once(kubeconfig, NAMESPACE, &["--register"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The leader looks once a minute.
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let deadline = Instant::now() + Duration::from_mins(2);
    while mutating.get_opt(NAME).await.unwrap().is_none() {
        assert!(Instant::now() < deadline, "not registered again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn each_way_to_fail_at_the_start_has_its_code_and_says_why() {
    let Some(plane) = super::control_plane::shared() else { return };
    let failed =
        |output: &Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    let namespace = plane.namespace("no-rights", &[]).await;
    let nobody = plane.kubeconfig(&namespace, "default").await;
    let (code, log) = failed(&once(&nobody, &namespace, &[]));
    assert_eq!(code, Some(4), "{log}");
    assert!(log.contains("watch pods") && log.contains("update secrets \"juicefs-sidecar-ca\""), "{log}");

    let (code, log) = failed(&once(&plane.admin(), "nowhere", &[]));
    assert_eq!(code, Some(5), "{log}");
    assert!(log.contains("namespace \"nowhere\" does not exist"), "{log}");
    let (code, log) = failed(&once(&plane.admin(), "", &[]));
    assert_eq!(code, Some(5), "{log}");
    assert!(log.contains("POD_NAMESPACE"), "{log}");

    let (code, log) = failed(&once(Path::new("/nowhere/kubeconfig"), &namespace, &[]));
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("/nowhere/kubeconfig"), "{log}");

    let text = fs::read_to_string(plane.admin()).unwrap();
    let server = text.lines().find_map(|line| line.split("https://127.0.0.1:").nth(1)).unwrap();
    let port: String = server.chars().take_while(char::is_ascii_digit).collect();
    let elsewhere = plane.state().join("elsewhere.kubeconfig");
    fs::write(&elsewhere, text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:1")).unwrap();
    let (code, log) = failed(&once(&elsewhere, &namespace, &[]));
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("cannot be reached") && log.contains("refused"), "{log}");
}
