//! juicefs-sidecar as a cluster has it: installed, registered by its Service, with the recorded storage objects.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{PersistentVolumeClaim, Service as ServiceObject},
};
use kube::{Api, Client, api::ListParams};
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

/// Of the webhook.
const SERVICE: &str = "juicefs-sidecar-webhook";

/// One for all tests: they tell their pods apart by name, and their neighbours' webhooks by namespace.
pub(crate) struct Installation {
    pub(crate) plane: &'static ControlPlane,
    /// Everything that decides about injection, as manifests.
    export: PathBuf,
    metrics: SocketAddr,
    _programs: [Program; 2],
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

        let controller = controller(plane).await;
        let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
        let webhook = Program::start(|command| {
            command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
            command.args(["--namespace", NAMESPACE]).arg("--kubeconfig").arg(kubeconfig);
        });
        let [address, metrics] = webhook.listening();
        let services: Api<ServiceObject> = Api::namespaced(client.clone(), NAMESPACE);
        let service = services.get(SERVICE).await.unwrap();
        service::listen(&service.spec.unwrap().cluster_ip.unwrap(), vec![address]);
        eventually("the webhook to be ready", async || (get(metrics, "/readyz") == "ok\n").then_some(()))
            .await;
        // An API server takes a moment to hear of it.
        eventually("the webhook to be asked", async || {
            let answer = create(&client, pod("probe", "logs"), true).await.unwrap();
            injected(&answer).then_some(())
        })
        .await;
        Self { plane, export, metrics, _programs: [controller, webhook] }
    }

    /// How many reviews of pods it has answered with a code.
    pub(crate) fn reviews(&self, code: &str) -> u64 {
        let metrics = get(self.metrics, "/metrics");
        let code = format!("reviews_total{{endpoint=\"inject\",code=\"{code}\"}} ");
        let count = metrics.lines().find_map(|line| line.split_once(&code));
        count.map_or(0, |(_, count)| count.parse().unwrap())
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

/// The controller as it is shipped, once it has registered the webhook.
pub(crate) async fn controller(plane: &ControlPlane) -> Program {
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
    let controller = Program::start(|command| {
        command.args(["controller", "--metrics-listen=127.0.0.1:0", "--kubeconfig"]).arg(kubeconfig);
        command.env("POD_NAMESPACE", NAMESPACE);
    });
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(plane.client().await);
    eventually("the registration", async || configurations.get_opt("juicefs-sidecar").await.unwrap()).await;
    controller
}

/// The body of an answer over plain HTTP.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
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
