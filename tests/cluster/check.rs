//! `check` over a real API server. The programs run beside the cluster here and not in it, so that their Deployments have
//! no pods, which is a finding too.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{installation, objects::create};

/// What it says, and its exit code.
pub(crate) fn check(kubeconfig: &Path, words: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.arg("check").args(words).arg("--kubeconfig").arg(kubeconfig);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (text, output.status.code().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_and_what_does_not_is_told_apart() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let namespace =
        installation.plane.namespace("checked", &[("juicefs.com/enable-injection", "true")]).await;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "checked"},
        "provisioner": "csi.juicefs.com", "parameters": {
            "csi.storage.k8s.io/node-publish-secret-name": "missing",
            "csi.storage.k8s.io/node-publish-secret-namespace": namespace}});
    create(&client, class, false).await.unwrap();
    let admin = installation.plane.admin();
    let (text, code) = check(&admin, &[]);
    for line in [
        "✔ kubernetes: 1.36",
        "✘ programs: juicefs-sidecar-webhook: 0 of 2 ready",
        "✔ certificate: trusted by the API server",
        "✔ registration: the API server asks the webhook",
        "juicefs-sidecar-controller: 0 of 2 ready",
        "✘ class: checked names the secret",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert!(text.contains(" leads\n") && text.contains("to be mended\n"), "{text}");
    assert_eq!(code, 1);

    // The account of the webhook may read little; the rest is said, not taken for well.
    let webhook = installation.plane.kubeconfig("juicefs-sidecar", "juicefs-sidecar-webhook").await;
    let (text, _) = check(&webhook, &["-o", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&text).unwrap();
    let pods = findings.iter().find(|finding| finding["area"] == "pods").unwrap();
    assert_eq!(pods["level"], "note");
    assert!(pods["what"].as_str().unwrap().contains("could not be looked at: pods is forbidden"), "{pods}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_tried_without_being_made() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let namespace = installation.plane.namespace("tried", &[("juicefs.com/enable-injection", "true")]).await;
    let [class, claim, secret] = [
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "tried"},
            "provisioner": "csi.juicefs.com", "volumeBindingMode": "WaitForFirstConsumer", "parameters": {
                "csi.storage.k8s.io/node-publish-secret-name": "user",
                "csi.storage.k8s.io/node-publish-secret-namespace": namespace}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "tried",
                "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "user", "namespace": namespace},
            "stringData": {"name": "myjfs", "metaurl": "redis://10.0.0.1/1"}}),
    ];
    for object in [secret, class, claim] {
        create(&client, object, false).await.unwrap();
    }
    let (text, _) = check(&installation.plane.admin(), &["--claim", &format!("{namespace}/data")]);
    assert!(
        text.contains("✔ trial: a pod with the claim ") && text.contains("gets its client (dry run)"),
        "{text}"
    );
    assert!(text.contains("✔ class: tried, and its secrets"), "{text}");
    let mut kubectl = installation.plane.kubectl();
    let pods = kubectl.args(["get", "pods", "-A", "-o", "name"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&pods.stdout).contains("juicefs-sidecar-check"));
}
