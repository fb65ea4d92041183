//! Values of the Go driver's chart: what works, and what is told, key by key.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::{super::manifests::piped, NAMESPACE, RELEASE, folder, helm, object, refused, rendered};

/// A values file as somebody has it who runs the driver's sidecar mode.
fn driver_values() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/chart/driver-values.yaml");
    format!("--values={}", file.display())
}

#[test]
fn a_values_file_of_the_driver_works() {
    let Some(chart) = rendered(&[&driver_values()]) else { return };
    let pod = |name| &object(&chart, "Deployment", name)["spec"]["template"]["spec"];
    let webhook = pod("juicefs-sidecar-webhook");
    let environment = |name: &str| {
        let list = webhook["containers"][0]["env"].as_array().unwrap();
        list.iter().find(|one| one["name"] == name).map(|one| one["value"].clone())
    };
    assert_eq!(environment("KUBE_QPS"), Some(json!("3")));
    assert_eq!(environment("ENABLE_APISERVER_LIST_CACHE"), Some(json!("true")));
    assert_eq!(
        environment("JUICEFS_CE_MOUNT_IMAGE"),
        Some(json!("registry.example.com/juicedata/mount:ce-v1.3.0"))
    );
    assert_eq!(webhook["tolerations"], json!([{"key": "CriticalAddonsOnly", "operator": "Exists"}]));
    assert_eq!(webhook["priorityClassName"], "system-cluster-critical");
    let controller = pod("juicefs-sidecar-controller");
    assert_eq!(controller["containers"][0]["resources"]["limits"]["cpu"], "1000m");
    let config =
        object(&chart, "ConfigMap", "juicefs-csi-driver-config")["data"]["config.yaml"].as_str().unwrap();
    assert!(config.starts_with("mountPodPatch:") && !config.contains("manageByHelm"), "{config}");

    let class = object(&chart, "StorageClass", "juicefs-sc");
    assert_eq!(class["parameters"]["csi.storage.k8s.io/node-publish-secret-name"], "juicefs-sc-secret");
    assert_eq!(class["parameters"]["juicefs/mount-cpu-limit"], "5000m");
    let secret = object(&chart, "Secret", "juicefs-sc-secret")["data"].as_object().unwrap();
    let keys: Vec<_> = secret.keys().map(String::as_str).collect();
    assert_eq!(keys, ["access-key", "bucket", "metaurl", "name", "secret-key", "storage", "trash-days"]);
}

#[test]
fn what_it_has_no_use_for_is_told_in_the_notes() {
    let Some(mut helm) = helm() else { return };
    helm.args(["install", RELEASE]).arg(folder()).args(["--namespace", NAMESPACE, "--dry-run=client"]);
    let output = helm.arg(driver_values()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, notes) = text.split_once("NOTES:").expect("notes");
    let (_, notes) = notes.split_once("without effect:").expect("values without effect");
    let keys: Vec<_> =
        notes.lines().filter_map(|line| line.split_once(": ")).map(|(key, _)| key.trim()).collect();
    assert_eq!(
        keys,
        [
            "dashboard",
            "sidecars",
            "node",
            "jfsConfigDir",
            "controller.cacheClientConf",
            "controller.metricsPort",
            "controller.service",
            "validatingWebhook"
        ],
        "{notes}"
    );
}

/// One that changes what would be refused, and what is said then.
#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let cases = [
        ("mountMode=mountpod", "mountMode: \"mountpod\" means pods of the CSI driver's own"),
        ("mountMode=mountpod|sidecar", "Keep that driver's release and set besideCsiDriver.enabled here"),
        ("image.repository=example.com/juicedata/juicefs-csi-driver", "is the CSI driver. Take `image` away"),
        ("image.tag=v0.32.4", "image.tag: \"v0.32.4\" is a version of the CSI driver"),
        ("controller.enabled=false", "controller.enabled: Without the controller nothing is registered"),
        (
            "controller.leaderElection.leaderElectionNamespace=x",
            "The Lease is in the namespace of the release",
        ),
        ("controller.leaderElection.enabled=false", "Write `controller.replicas: 1` too"),
        ("webhook.crtPEM=x", "name that in `webhook.existingSecret`"),
        ("webhook.caBundlePEM=x", "webhook.caBundlePEM: there is no certificate of yours"),
        ("webhook.failurePolicy=Ignore", "It is written `webhook.FailurePolicy`"),
        ("webhook.selector.a=b", "Write `webhook.namespaceSelector` in its place"),
        ("webhook.certManager.enabled=true", "there is no cert-manager in the cluster"),
        ("podMonitor.enabled=true", "podMonitor.enabled: there is no Prometheus Operator"),
        (
            "storageClasses[0].name=x,storageClasses[0].enabled=true",
            "storageClasses[0].backend.name: the file system",
        ),
        // Nobody's.
        ("replicaCount=3", "additional properties 'replicaCount' not allowed"),
        ("webhook.replica=3", "at '/webhook': additional properties 'replica' not allowed"),
        ("webhook.timeoutSeconds=60", "at '/webhook/timeoutSeconds': maximum: got 60, want 30"),
    ];
    for (values, expected) in cases {
        let Some(error) = refused(&[&format!("--set={values}")]) else { return };
        assert!(error.contains(expected), "{values}: {error}");
    }
}

#[test]
fn all_that_has_to_be_changed_is_told_at_once() {
    let values = "--set=mountMode=process,admissionWebhooks.a=b,image.tag=v1";
    let Some(error) = refused(&[values]) else { return };
    let lines = error.lines().filter(|line| {
        ["mountMode: ", "admissionWebhooks: ", "image.tag: "].iter().any(|key| line.starts_with(key))
    });
    assert_eq!(lines.count(), 3, "{error}");
}

/// The configuration that a chart makes is one that the program takes.
#[test]
fn the_configuration_is_one_that_injection_takes() {
    let Some(chart) = rendered(&[&driver_values()]) else { return };
    let config = object(&chart, "ConfigMap", "juicefs-csi-driver-config").clone();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart-config.json");
    fs::write(&file, config.to_string()).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.args(["explain", "--filename=-", "--config"]).arg(&file);
    let output = piped(&mut command, &pod.to_string());
    fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(2) && !said.contains("config"), "{said}");
}
