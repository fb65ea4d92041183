//! Somebody else's mutating webhook: it is asked about the pods of one test, keeps the reviews it gets and answers with the patch it is told to.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use axum::{Router, body::Bytes, extract::State, routing::post, serve::Listener};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::tls::{Identity, server_config};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client, api::PostParams};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{control_plane::eventually, objects::create};

/// From an object to the operations of a JSON patch.
type Change = fn(&Value) -> Value;

/// The label whose value says which test a pod belongs to.
pub(crate) const LABEL: &str = "neighbours-of";

/// It serves until the process ends.
#[derive(Clone)]
pub(crate) struct Neighbour {
    change: Change,
    reviews: Arc<Mutex<Vec<Value>>>,
}

impl Neighbour {
    /// Starts it and registers it. Webhooks are called in the order of their configurations' names, and again where
    /// `reinvocation` says so and a later one has changed the object.
    pub(crate) async fn register(
        client: Client,
        name: &str,
        test: &str,
        reinvocation: &str,
        change: Change,
    ) -> Self {
        let neighbour = Self { change, reviews: Arc::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
        let identity = Identity { chain: vec![certificate.cert.der().clone()], key: key.into() };
        let tls = TlsAcceptor::from(Arc::new(server_config(identity, None).unwrap()));
        let router = Router::new().route("/", post(answer)).with_state(neighbour.clone());
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let served = runtime.block_on(async {
                axum::serve(Tls { listener: TcpListener::from_std(listener)?, tls }, router).await
            });
            served.unwrap();
        });
        let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.example.com"),
                "clientConfig": {"url": url, "caBundle": STANDARD.encode(certificate.cert.pem())},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "objectSelector": {"matchLabels": {LABEL: test}},
                "reinvocationPolicy": reinvocation,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }],
        }))
        .unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
        // An API server takes a moment to hear of it.
        let probe = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "probe", "namespace": "default", "labels": {LABEL: test}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
        eventually("the neighbour to be asked", async || {
            create(&client, probe.clone(), true).await.unwrap();
            (!neighbour.take().is_empty()).then_some(())
        })
        .await;
        neighbour
    }

    /// The reviews that came since this was asked last.
    pub(crate) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.reviews.lock().unwrap())
    }
}

async fn answer(State(neighbour): State<Neighbour>, body: Bytes) -> String {
    let review: Value = serde_json::from_slice(&body).unwrap();
    let patch = (neighbour.change)(&review["request"]["object"]).to_string();
    let uid = review["request"]["uid"].clone();
    neighbour.reviews.lock().unwrap().push(review);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response":
        {"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch)}})
    .to_string()
}

/// A change: pods as a client writes them that knows no native sidecars, and without what only those may have.
pub(crate) fn strip_restart_policy(pod: &Value) -> Value {
    let containers = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let mut operations = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for field in ["restartPolicy", "startupProbe", "livenessProbe", "lifecycle"] {
            if container.get(field).is_some() {
                let path = format!("/spec/initContainers/{index}/{field}");
                operations.push(json!({"op": "remove", "path": path}));
            }
        }
    }
    json!(operations)
}

/// A change: pods without the agent of resilient mode.
pub(crate) fn remove_agent(pod: &Value) -> Value {
    let containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    let agents = containers.enumerate().filter(|(_, container)| container["name"] == "jfs-agent");
    agents
        .map(|(index, _)| json!({"op": "remove", "path": format!("/spec/initContainers/{index}")}))
        .collect()
}

/// A listener whose connections speak TLS.
pub(crate) struct Tls {
    pub(crate) listener: TcpListener,
    pub(crate) tls: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // One handshake after another: the API server is the only client.
            if let Ok((stream, address)) = self.listener.accept().await
                && let Ok(stream) = self.tls.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
