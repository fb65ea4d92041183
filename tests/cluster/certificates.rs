//! Certificates that somebody else makes, with an API server that checks them and shows one of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use juicefs_sidecar::tls::{authority::Authority, leaf, pem};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{
    client::Server,
    control_plane::{ControlPlane, eventually},
    installation::{Replica, controller, injected, service},
    manifests::{self, NAMESPACE},
    objects::{create, storage},
    service::series,
};

const TEAM: &str = "certificates";
const NAME: &str = "juicefs-sidecar";
const LIFETIME: Duration = Duration::from_hours(1);

/// Somebody's files: the authority, and the certificate that is served with.
struct Files {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn below(folder: &Path) -> Self {
        let file = |name: &str| folder.join(format!("theirs-{name}"));
        Self { authority: file("ca.crt"), certificate: file("tls.crt"), key: file("tls.key") }
    }

    fn trust(&self, authorities: &[&Authority]) {
        let text: String = authorities.iter().map(|authority| authority.certificate_pem()).collect();
        fs::write(&self.authority, text).unwrap();
    }

    fn serve(&self, authority: &Authority) {
        let names = ["localhost".to_owned(), format!("juicefs-sidecar-webhook.{NAMESPACE}.svc")];
        let leaf = leaf::sign(authority, &names, SystemTime::now(), LIFETIME).unwrap();
        fs::write(&self.key, leaf.key_pem()).unwrap();
        fs::write(&self.certificate, &leaf.certificate_pem).unwrap();
    }
}

fn authority() -> Authority {
    Authority::make(SystemTime::now(), LIFETIME * 3).unwrap()
}

/// What the first of the registered webhooks trusts, in PEM.
async fn trusted(client: &Client) -> String {
    let registration = Api::<MutatingWebhookConfiguration>::all(client.clone()).get(NAME).await.unwrap();
    let webhook = registration.webhooks.unwrap().swap_remove(0);
    String::from_utf8(webhook.client_config.ca_bundle.unwrap_or_default().0).unwrap()
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": TEAM}, "spec": {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}})
}

/// Creates some pods, of which none may fail.
async fn pods_are_injected(client: &Client) {
    for _ in 0..5 {
        let created = create(client, pod(), true).await;
        assert!(created.as_ref().is_ok_and(injected), "{created:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_others_are_served_with_trusted_and_replaced() {
    // Of its own: it is registered in ways of its own.
    let Some(plane) = ControlPlane::start() else { return };
    manifests::install(&plane);
    let client = plane.client().await;
    plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
    for object in storage(TEAM, "data") {
        create(&client, object, false).await.unwrap();
    }
    let files = Files::below(plane.state());
    let first = authority();
    files.trust(&[&first]);
    files.serve(&first);
    let with = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    let ca_file = with("ca-file", &files.authority);
    let _controller = controller(&plane, &[&ca_file]).await;
    let arguments = [
        with("tls-cert", &files.certificate),
        with("tls-key", &files.key),
        with("client-ca", &plane.state().join("pki/ca.crt")),
        "--poll-interval=500ms".to_owned(),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let webhook = Replica::start(&plane, &arguments).await;
    service(&plane).await.add(webhook.backend);
    // An API server takes a moment to hear of it.
    eventually("pods to be injected", async || create(&client, pod(), true).await.ok().filter(injected))
        .await;
    pods_are_injected(&client).await;

    only_who_has_a_certificate_is_answered(&plane, &webhook, &first).await;
    they_are_replaced(&client, &files, &webhook, &first).await;
}

/// The API server has one, because it is told so.
async fn only_who_has_a_certificate_is_answered(
    plane: &ControlPlane,
    webhook: &Replica,
    authority: &Authority,
) {
    let server = Server { address: webhook.backend.address, ca: authority.certificate_pem(), identity: None };
    let post = async |server: &Server| {
        let (mut connection, _) = server.http1().await.ok()?;
        connection.post("/juicefs/inject-v1-pod", "{}".into()).await.ok()
    };
    assert!(post(&server).await.is_none(), "a stranger is answered");
    let read = |name: &str| fs::read(plane.state().join("pki").join(name)).unwrap();
    let identity = pem::identity(&read("admin.crt"), &read("admin.key")).unwrap();
    let known = Server { identity: Some(Arc::new(identity)), ..server };
    assert!(post(&known).await.is_some(), "somebody known is not answered");
    let failures = series(webhook.backend.health, "juicefs_sidecar_tls_handshake_failures_total");
    assert!(failures >= Some(1), "{failures:?}");
}

/// By others: first who trusts both, then who serves with the new one, then who trusts it alone.
async fn they_are_replaced(client: &Client, files: &Files, webhook: &Replica, first: &Authority) {
    let second = authority();
    let trusts = async |authorities: &[&Authority]| {
        files.trust(authorities);
        let wanted: Vec<_> = authorities.iter().map(|authority| authority.certificate_pem()).collect();
        eventually("the changed file to be taken", async || {
            pods_are_injected(client).await;
            let text = trusted(client).await;
            let all = wanted.iter().all(|authority| text.contains(authority.trim()));
            (all && text.matches("BEGIN").count() == wanted.len()).then_some(())
        })
        .await;
    };
    trusts(&[first, &second]).await;
    pods_are_injected(client).await;
    files.serve(&second);
    let reloads = "juicefs_sidecar_certificate_reloads_total{result=\"ok\"}";
    eventually("the new certificate", async || {
        pods_are_injected(client).await;
        (series(webhook.backend.health, reloads)? >= 1).then_some(())
    })
    .await;
    pods_are_injected(client).await;
    trusts(&[&second]).await;
    pods_are_injected(client).await;
}
