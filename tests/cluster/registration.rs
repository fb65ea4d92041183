//! The registration as a real API server takes it and acts on it.

use std::process::Stdio;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use super::{
    chaos::creations::Creations,
    control_plane::{ControlPlane, eventually},
    installation::{self, Replica, injected, pod, service},
    manifests::{self, NAMESPACE},
    neighbour::{LABEL, Neighbour, remove_agent, strip_restart_policy},
    objects::{create, storage},
    program::Program,
    service::series,
};

/// What `kubectl` says beside when it creates a pod.
fn warnings(plane: &ControlPlane, pod: &Value) -> String {
    let mut command = plane.kubectl();
    command.args(["create", "--dry-run=server", "-f", "-"]).stdin(Stdio::piped());
    let output = manifests::piped(&mut command, &pod.to_string());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn pods_that_cannot_be_ours_are_not_sent_to_the_webhook() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let mut plain = pod("plain", "logs");
    plain["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let mut disabled = pod("disabled", "logs");
    disabled["metadata"]["labels"]["disable.sidecar.juicefs.com/inject"] = "true".into();
    let mut foreign = pod("foreign", "logs");
    foreign["metadata"]["namespace"] = "default".into();
    let before = installation.reviews("no-juicefs-volume");
    for pod in [&plain, &disabled, &foreign].repeat(5) {
        let stored = create(&client, pod.clone(), true).await.unwrap();
        assert!(!injected(&stored), "{stored:#}");
    }
    // Another test's pod has a volume of another driver, which is asked about.
    assert!(installation.reviews("no-juicefs-volume") < before + 5);
    assert_eq!(installation.reviews("disabled") + installation.reviews("namespace-not-enabled"), 0);
    create(&client, pod("asked", "logs"), true).await.unwrap();
    assert!(installation.reviews("injected") > 0);
}

#[tokio::test]
async fn the_policy_warns_of_a_pod_that_lost_its_client_on_the_way() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    Neighbour::register(client, "z-insists", "insisted", "IfNeeded", strip_restart_policy).await;
    let mut damaged = pod("damaged", "logs");
    damaged["metadata"]["labels"][LABEL] = "insisted".into();
    // An API server takes a moment to compile a new policy.
    eventually("a warning", async || {
        let said = warnings(installation.plane, &damaged);
        said.contains("has lost its restartPolicy: Always").then_some(())
    })
    .await;
    assert_eq!(warnings(installation.plane, &pod("intact", "logs")), "");
}

#[tokio::test]
async fn the_policy_warns_of_a_pod_that_lost_its_agent_on_the_way() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    Neighbour::register(client, "z-agentless", "agentless", "IfNeeded", remove_agent).await;
    let resilient = |name: &str| {
        let mut pod = pod(name, "logs");
        pod["metadata"]["annotations"] = json!({"sidecar.juicefs.com/mode": "resilient"});
        pod
    };
    let mut damaged = resilient("without-agent");
    damaged["metadata"]["labels"][LABEL] = "agentless".into();
    eventually("a warning", async || {
        warnings(installation.plane, &damaged).contains("into this pod is missing").then_some(())
    })
    .await;
    assert_eq!(warnings(installation.plane, &resilient("with-agent")), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn injection_is_registered_once_a_webhook_is_ready_and_comes_back_whoever_is() {
    const TEAM: &str = "labelled-before";
    let Some(plane) = ControlPlane::start() else { return };
    let client = plane.client().await;
    plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
    for object in storage(TEAM, "data") {
        create(&client, object, false).await.unwrap();
    }
    let creations = Creations::begin(client.clone(), TEAM, |number| {
        let mut wanted = pod(&format!("pod-{number}"), "data");
        wanted["metadata"]["namespace"] = TEAM.into();
        serde_json::from_value(wanted).unwrap()
    });
    manifests::install(&plane);
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
    let controller = Program::start(|command| {
        command.args(["controller", "--metrics-listen=127.0.0.1:0", "--kubeconfig"]).arg(kubeconfig);
        command.env("POD_NAMESPACE", NAMESPACE);
    });
    let health = controller.wait_for("listening")["metrics_address"].as_str().unwrap().parse().unwrap();
    controller.wait_for("no webhook is ready yet");
    let waits = || series(health, "juicefs_sidecar_registration_waits");
    eventually("the metric to say so", async || (waits() == Some(1)).then_some(())).await;
    // All else is there, a certificate too, without which no webhook would ever be ready.
    let webhook = Replica::start(&plane, &[]).await;
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    assert!(validating.get_opt("juicefs-sidecar").await.unwrap().is_some());
    let rounds =
        || series(health, "juicefs_sidecar_reconciles_total{task=\"registration\",outcome=\"waiting\"}");
    let before = rounds();
    plane.has_endpoint(false);
    eventually("another look", async || (rounds() > before).then_some(())).await;
    assert!(mutating.get_opt("juicefs-sidecar").await.unwrap().is_none());

    service(&plane).await.add(webhook.backend);
    eventually("pods to be injected", async || (creations.injected() > 0).then_some(())).await;
    assert_eq!(waits(), Some(0));
    let tally = creations.ended().await;
    assert!(tally.failed.is_empty() && tally.plain > 0, "{tally}");

    // Somebody removes it while no webhook is ready: without it pods would be created without a client.
    plane.has_endpoint(false);
    mutating.delete("juicefs-sidecar", &DeleteParams::default()).await.unwrap();
    eventually("the registration again", async || mutating.get_opt("juicefs-sidecar").await.unwrap()).await;

    // Nobody answers any more: what may need a client has to wait, and nothing else does.
    drop(creations);
    drop(webhook.program);
    let in_team = |mut wanted: Value| {
        wanted["metadata"]["namespace"] = TEAM.into();
        wanted
    };
    eventually("a creation to fail", async || {
        let refused = create(&client, in_team(pod("waits", "data")), true).await.err()?;
        assert!(refused.contains("failed calling webhook"), "{refused}");
        Some(())
    })
    .await;
    let mut plain = in_team(pod("goes", "data"));
    plain["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    create(&client, plain, true).await.unwrap();
}

#[tokio::test]
async fn no_registration_is_left_when_everything_is_uninstalled() {
    let Some(plane) = ControlPlane::start() else { return };
    manifests::install(&plane);
    drop(installation::controller(&plane, &[]).await);
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(plane.client().await);
    assert!(configurations.get_opt("juicefs-sidecar").await.unwrap().is_some());
    manifests::uninstall(&plane);
    eventually("the registration to go", async || {
        configurations.get_opt("juicefs-sidecar").await.unwrap().is_none().then_some(())
    })
    .await;
}
