//! juicefs-sidecar as a cluster has it: installed, registered by its Service, with the recorded storage objects.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{PersistentVolumeClaim, Service as ServiceObject},
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    control_plane::{self, ControlPlane, eventually},
    manifests::{self, NAMESPACE},
    neighbour::LABEL,
    objects::{create, parse},
    program::Program,
    service,
};

/// One for all tests: they tell their pods apart by name, and their neighbours' webhooks by namespace.
pub(crate) struct Installation {
    pub(crate) plane: &'static ControlPlane,
    /// Everything that decides about injection, as manifests.
    export: PathBuf,
    _webhook: Program,
}

/// The one that tests share; none without a control plane.
pub(crate) async fn shared() -> Option<&'static Installation> {
    static SHARED: OnceCell<Option<Installation>> = OnceCell::const_new();
    let made = SHARED.get_or_init(async || match control_plane::shared() {
        Some(plane) => Some(Installation::make(plane).await),
        None => None,
    });
    made.await.as_ref()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The quickstart's manifests.
pub(crate) fn examples() -> PathBuf {
    root().join("examples/quickstart")
}

impl Installation {
    async fn make(plane: &'static ControlPlane) -> Self {
        manifests::install(plane);
        let client = plane.client().await;
        for name in ["namespace", "storageclasses", "secrets", "persistentvolumes", "persistentvolumeclaims"]
        {
            for object in parse(&root().join(format!("tests/reviews/cluster/{name}.yaml"))) {
                if let Some(object) = fresh(object) {
                    create(&client, object, false).await.unwrap();
                }
            }
        }
        for name in ["1-namespace", "2-secret", "3-storageclass", "4-claim"] {
            for object in parse(&examples().join(format!("{name}.yaml"))) {
                create(&client, object, false).await.unwrap();
            }
        }
        bound(&client).await;
        plane.account("team-a").await;

        let export = plane.state().join("export.json");
        let kinds = "namespaces,storageclasses,secrets,persistentvolumes,persistentvolumeclaims,nodes";
        let output = plane.kubectl().args(["get", kinds, "--all-namespaces", "-o", "json"]).output().unwrap();
        fs::write(&export, output.stdout).unwrap();

        let ca = plane.state().join("webhook-ca.crt");
        let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
        let webhook = Program::start(|command| {
            let name = format!("--tls-name=juicefs-sidecar-webhook.{NAMESPACE}.svc");
            command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", &name]);
            command.args(["--namespace", NAMESPACE]).arg("--kubeconfig").arg(kubeconfig);
            command.arg("--ca-out").arg(&ca);
        });
        let address = webhook.listening();
        webhook.wait_for("every kind has been listed");
        let services: Api<ServiceObject> = Api::namespaced(client.clone(), NAMESPACE);
        let service = services.get("juicefs-sidecar-webhook").await.unwrap();
        service::listen(&service.spec.unwrap().cluster_ip.unwrap(), vec![address]);
        register(&client, &fs::read(ca).unwrap()).await;
        Self { plane, export, _webhook: webhook }
    }

    /// The same engine over manifests, on the command line: its answer to a review.
    pub(crate) fn offline(&self, review: &Value) -> Value {
        let file = self.plane.state().join(format!("{}.review", review["request"]["uid"].as_str().unwrap()));
        fs::write(&file, review.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
        command.arg("review").arg("--cluster").arg(&self.export).stdin(fs::File::open(&file).unwrap());
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A recorded object as one that is to be created. The claim that belongs to a pod is made by Kubernetes.
fn fresh(mut object: Value) -> Option<Value> {
    let metadata = object["metadata"].as_object_mut()?;
    if metadata.contains_key("ownerReferences") {
        return None;
    }
    for key in ["uid", "resourceVersion", "creationTimestamp", "finalizers"] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("pv.kubernetes.io/bind-completed");
    }
    if let Some(claim) = object["spec"]["claimRef"].as_object_mut() {
        claim.remove("uid");
        claim.remove("resourceVersion");
    }
    object.as_object_mut()?.remove("status");
    Some(object)
}

/// Until every claim that names its volume has it.
async fn bound(client: &Client) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "team-a");
    eventually("claims to be bound", async || {
        let claims = claims.list(&ListParams::default()).await.unwrap();
        let is = |claim: &PersistentVolumeClaim| claim.status.as_ref()?.phase.clone();
        let named =
            claims.iter().filter(|claim| claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some()));
        named.map(is).all(|phase| phase.as_deref() == Some("Bound")).then_some(())
    })
    .await;
}

async fn register(client: &Client, ca: &[u8]) {
    let webhook = |name: &str, path: &str, label: &str| {
        json!({
            "name": name,
            "clientConfig": {
                "service": {"namespace": NAMESPACE, "name": "juicefs-sidecar-webhook", "path": path},
                "caBundle": STANDARD.encode(ca),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {label: "true"}},
            "reinvocationPolicy": "IfNeeded",
            "failurePolicy": "Fail",
            "timeoutSeconds": 10,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        })
    };
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": "juicefs-sidecar"},
        "webhooks": [
            webhook("sidecar.inject.juicefs.com", "/juicefs/inject-v1-pod", "juicefs.com/enable-injection"),
        ],
    }))
    .unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
    // An API server takes a moment to hear of it.
    eventually("the webhook to be asked", async || {
        let answer = create(client, pod("probe", "logs"), true).await.unwrap();
        injected(&answer).then_some(())
    })
    .await;
}

/// A pod with a claim of the recorded cluster.
pub(crate) fn pod(name: &str, claim: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a", "labels": {LABEL: name}},
        "spec": {
            "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

/// Whether it says that it was injected.
pub(crate) fn injected(pod: &Value) -> bool {
    pod["metadata"]["labels"]["done.sidecar.juicefs.com/inject"] == "true"
}
