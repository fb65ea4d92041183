//! Hostile peers on both ports of a webhook in a cluster, all at once: creations of others are hardly slower.

mod peers;

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::tls::pem;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use self::peers::Attack;
use super::{
    client::Server,
    control_plane::{self, ControlPlane, eventually},
    installation::{Replica, injected},
    manifests,
    neighbour::LABEL,
    objects::{create, storage},
    service::get,
};

const TEAM: &str = "hostile";
/// Of each round.
const CREATIONS: usize = 60;
/// Quiet and under attack in turn, so that what else the machine does meets both.
const ROUNDS: usize = 3;
/// What is promised on a machine with nothing else to do.
const BAR: Duration = Duration::from_millis(50);
/// What a busy machine makes of it, against the same without an attack.
const FACTOR: u32 = 4;
/// What a kubelet waits for a probe's answer.
const PROBE: Duration = Duration::from_secs(1);

/// How long each of some things took, shortest first.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        times[(times.len() * percent / 100).min(times.len() - 1)]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, nearly, all] = [50, 95, 99, 100].map(|percent| self.percentile(percent));
        write!(
            formatter,
            "p50 {half:.1?}, p95 {most:.1?}, p99 {nearly:.1?}, longest {all:.1?} of {}",
            self.0.len()
        )
    }
}

/// A pod that only the webhook under attack is asked about.
fn pod(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": TEAM, "labels": {LABEL: TEAM}},
        "spec": {
            "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": TEAM}}]}})
}

/// Creates pods one after another, without and with a pause in between; and asks as a kubelet does.
async fn measure(client: &Client, webhook: &Replica, creations: &mut Times, probes: &mut Times) {
    for number in 0..CREATIONS {
        let started = Instant::now();
        let created = create(client, pod(number), true).await;
        creations.0.push(started.elapsed());
        assert!(created.as_ref().is_ok_and(injected), "{created:?}");
        if number % 4 == 0 {
            let health = webhook.backend.health;
            let started = Instant::now();
            let answer = tokio::task::spawn_blocking(move || get(health, "/readyz")).await.unwrap();
            probes.0.push(started.elapsed());
            assert_eq!(answer.unwrap(), "ok\n");
            // Long enough for the API server's connection to look idle.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Has the API server ask the webhook under attack about the pods of this test.
async fn register(client: &Client, webhook: &Replica, authority: &str) {
    let url = format!("https://{}/juicefs/inject-v1-pod", webhook.backend.address);
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": TEAM},
        "webhooks": [{
            "name": "hostile.example.com",
            "clientConfig": {"url": url, "caBundle": STANDARD.encode(authority)},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "objectSelector": {"matchLabels": {LABEL: TEAM}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    }))
    .unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
    eventually("the webhook to be asked", async || {
        let created = create(client, pod(0), true).await.unwrap();
        injected(&created).then_some(())
    })
    .await;
}

/// A webhook that watches the cluster and speaks only with those who have a certificate of the cluster's authority, as
/// the API server does; and its own authority.
async fn webhook(plane: &ControlPlane) -> (Replica, String) {
    let file = |name: &str| plane.state().join(name);
    let option = |name: &str, path: &PathBuf| format!("--{name}={}", path.display());
    let authority = file("hostile-ca.crt");
    let arguments = [
        option("ca-out", &authority),
        option("client-ca", &file("pki/ca.crt")),
        "--tls-name=127.0.0.1".to_owned(),
        "--tls-name=localhost".to_owned(),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let replica = Replica::start(plane, &arguments).await;
    (replica, fs::read_to_string(authority).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_of_others_are_hardly_slower_under_attack() {
    let Some(plane) = control_plane::shared() else { return };
    manifests::install(plane);
    let client = plane.client().await;
    plane.namespace(TEAM, &[]).await;
    for object in storage(TEAM, TEAM) {
        create(&client, object, false).await.unwrap();
    }
    let (webhook, authority) = webhook(plane).await;
    register(&client, &webhook, &authority).await;

    // Somebody in the cluster who got hold of a certificate that is taken.
    let read = |name: &str| fs::read(plane.state().join("pki").join(name)).unwrap();
    let insider = pem::identity(&read("controller-manager.crt"), &read("controller-manager.key")).unwrap();
    let insider =
        Server { address: webhook.backend.address, ca: authority, identity: Some(Arc::new(insider)) };
    // A container of nobody's: quick to check, and large.
    let mut large =
        serde_json::to_vec(&json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "0", "operation": "CREATE", "namespace": TEAM, "object": pod(0)}}))
        .unwrap();
    large.resize(3 << 20, b' ');

    let (mut quiet, mut attacked) = (Times::default(), Times::default());
    let (mut quiet_probes, mut attacked_probes) = (Times::default(), Times::default());
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        measure(&client, &webhook, &mut quiet, &mut quiet_probes).await;
        let attack = Attack::begin(&insider, webhook.backend.health, &large);
        attack.under_way().await;
        measure(&client, &webhook, &mut attacked, &mut attacked_probes).await;
        done.push(attack.end());
    }
    let configurations = Api::<MutatingWebhookConfiguration>::all(client);
    configurations.delete(TEAM, &DeleteParams::default()).await.unwrap();

    eprintln!("hostile: creations, quiet:        {quiet}");
    eprintln!("hostile: creations, under attack: {attacked}");
    eprintln!("hostile: probes, quiet:           {quiet_probes}");
    eprintln!("hostile: probes, under attack:    {attacked_probes}");
    for done in done {
        eprintln!("hostile: {done:?}");
    }
    // Of so few, what is rarer says more of the machine than of the webhook.
    let bar = BAR.max(quiet.percentile(95) * FACTOR);
    assert!(attacked.percentile(95) <= bar, "{attacked}; at most {bar:?} for p95");
    assert!(attacked_probes.percentile(100) <= PROBE, "{attacked_probes}");
}
