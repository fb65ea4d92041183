//! Hostile peers on both ports of a webhook in a cluster, all at once: creations of others are hardly slower.

mod peers;

use std::{
    fs,
    net::SocketAddr,
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
const PATH: &str = "/juicefs/inject-v1-pod";
/// Of each round.
const CREATIONS: usize = 60;
/// Quiet and under attack in turn, so that what else the machine does meets both.
const ROUNDS: usize = 3;
/// What is promised on a machine with nothing else to do.
const BAR: Duration = Duration::from_millis(50);
/// What a busy machine makes of it, against the same without an attack.
const FACTOR: u32 = 6;
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

/// What others have from the webhook, quiet or under attack.
#[derive(Default)]
struct Others {
    /// Pods created through the API server.
    creations: Times,
    /// The same reviews by themselves, over a connection that is kept as the API server keeps its own.
    reviews: Times,
    /// What a kubelet asks.
    probes: Times,
}

impl Others {
    /// Does each of this again and again, without and with a pause in between.
    async fn measure(&mut self, client: &Client, api_server: &Server, health: SocketAddr) {
        let (mut connection, _) = api_server.http1().await.unwrap();
        // Who connects has something to ask.
        connection.post(PATH, review().to_string().into()).await.unwrap();
        for number in 0..CREATIONS {
            let started = Instant::now();
            let created = create(client, pod(number), true).await;
            self.creations.0.push(started.elapsed());
            assert!(created.as_ref().is_ok_and(injected), "{created:?}");

            let started = Instant::now();
            let answer = connection.post(PATH, review().to_string().into()).await.unwrap();
            self.reviews.0.push(started.elapsed());
            assert_eq!(answer.status(), 200);
            if number % 4 == 0 {
                let started = Instant::now();
                let answer = tokio::task::spawn_blocking(move || get(health, "/readyz")).await.unwrap();
                self.probes.0.push(started.elapsed());
                assert_eq!(answer.unwrap(), "ok\n");
                // Long enough for connections to look idle.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// A review of such a pod.
fn review() -> Value {
    let uid = "00000000-0000-4000-8000-000000000000";
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": uid, "operation": "CREATE", "namespace": TEAM, "name": "pod-0",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod(0)}})
}

/// Has the API server ask the webhook under attack about the pods of this test.
async fn register(client: &Client, webhook: &Replica, authority: &str) {
    let url = format!("https://{}{PATH}", webhook.backend.address);
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
    let mut large = review().to_string().into_bytes();
    large.resize(3 << 20, b' ');

    let (mut quiet, mut attacked) = (Others::default(), Others::default());
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        quiet.measure(&client, &insider, webhook.backend.health).await;
        let attack = Attack::begin(&insider, webhook.backend.health, &large);
        attack.under_way().await;
        attacked.measure(&client, &insider, webhook.backend.health).await;
        done.push(attack.end());
    }
    let configurations = Api::<MutatingWebhookConfiguration>::all(client);
    configurations.delete(TEAM, &DeleteParams::default()).await.unwrap();

    for done in done {
        eprintln!("hostile: {done:?}");
    }
    let kinds = [
        ("creations", &quiet.creations, &attacked.creations),
        ("reviews", &quiet.reviews, &attacked.reviews),
        ("probes", &quiet.probes, &attacked.probes),
    ];
    for (kind, quiet, attacked) in kinds {
        eprintln!("hostile: {kind}, quiet:        {quiet}\nhostile: {kind}, under attack: {attacked}");
        // Of so few, what is rarer says more of the machine than of the webhook.
        let bar = BAR.max(quiet.percentile(95) * FACTOR);
        assert!(attacked.percentile(95) <= bar, "{kind}: {attacked}; at most {bar:?} for p95");
    }
    assert!(attacked.probes.percentile(100) <= PROBE, "{}", attacked.probes);
}
