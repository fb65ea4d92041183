//! juicefs-sidecar as a cluster has it: installed, registered by its Service, with the recorded storage objects.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use juicefs_sidecar::{admission::Endpoint, inject::Family};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{PersistentVolumeClaim, Service as ServiceObject},
};
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    client::Server,
    control_plane::{self, ControlPlane, eventually},
    manifests::{self, NAMESPACE},
    neighbour::LABEL,
    objects::{create, parse, storage},
    program::Program,
    service::{Backend, Service, get},
};

/// A namespace whose pods are injected as for serverless nodes; its claim has the same name.
pub(crate) const SERVERLESS: &str = "serverless";

/// One for all tests: they tell their pods apart by name, and their neighbours' webhooks by namespace.
pub(crate) struct Installation {
    pub(crate) plane: &'static ControlPlane,
    /// Everything that decides about injection, as manifests.
    export: PathBuf,
    /// A webhook over these.
    over_manifests: Server,
    metrics: SocketAddr,
    _programs: [Program; 3],
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
        plane.namespace(SERVERLESS, &[("juicefs.com/enable-serverless-injection", "true")]).await;
        for object in storage(SERVERLESS, SERVERLESS) {
            create(&client, object, false).await.unwrap();
        }
        for namespace in ["team-a", SERVERLESS] {
            bound(&client, namespace).await;
        }
        plane.account("team-a").await;

        let export = plane.state().join("export.json");
        let kinds = "namespaces,storageclasses,secrets,persistentvolumes,persistentvolumeclaims,nodes";
        let output = plane.kubectl().args(["get", kinds, "--all-namespaces", "-o", "json"]).output().unwrap();
        fs::write(&export, output.stdout).unwrap();

        let (over_manifests, server) = over_manifests(plane, &export);
        // What it would make, and of which no file system exists, has tests in a cluster of its own.
        let controller = controller(plane, &["--provisioner=false"]).await;
        plane.account(NAMESPACE).await;
        create(&client, webhook_pod(), false).await.unwrap();
        let renamed = [
            "set",
            "image",
            "deployment/juicefs-sidecar-webhook",
            &format!("webhook={MIRRORED}"),
            "-n",
            NAMESPACE,
        ];
        assert!(plane.kubectl().args(renamed).output().unwrap().status.success());
        let webhook = Replica::start(plane, &[]).await;
        let metrics = webhook.backend.health;
        service(plane).await.add(webhook.backend);
        // An API server takes a moment to hear of it.
        eventually("the webhook to be asked", async || {
            let answer = create(&client, pod("probe", "logs"), true).await.unwrap();
            injected(&answer).then_some(())
        })
        .await;
        let programs = [controller, webhook.program, over_manifests];
        Self { plane, export, over_manifests: server, metrics, _programs: programs }
    }

    /// How many reviews of pods it has answered with a code.
    pub(crate) fn reviews(&self, code: &str) -> u64 {
        let metrics = get(self.metrics, "/metrics").unwrap();
        let code = format!("reviews_total{{endpoint=\"inject\",code=\"{code}\"}} ");
        let count = metrics.lines().find_map(|line| line.split_once(&code));
        count.map_or(0, |(_, count)| count.parse().unwrap())
    }

    /// The answer to a review over manifests: that of the command line, which is that of a webhook byte by byte.
    pub(crate) async fn offline(&self, review: &Value, endpoint: Endpoint) -> Value {
        let body = review.to_string();
        let mut arguments = vec!["review"];
        if endpoint == Endpoint::Inject(Family::Serverless) {
            arguments.push("--serverless");
        }
        let answer = self.run(&arguments, &body);
        let (mut connection, _) = self.over_manifests.http1().await.unwrap();
        let response = connection.post(endpoint.path(), body.into()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(response.body()), answer);
        serde_json::from_str(&answer).unwrap()
    }

    /// What `inject` makes of a pod over the same manifests.
    pub(crate) fn inject(&self, pod: &Value) -> Value {
        serde_json::from_str(&self.run(&["inject", "--output=json", "--filename=-"], &pod.to_string()))
            .unwrap()
    }

    fn run(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
        command.args(arguments).arg("--cluster").arg(&self.export).env("JUICEFS_AGENT_IMAGE", MIRRORED);
        let output = manifests::piped(&mut command, input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
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

/// Until every claim of a namespace that names its volume has it.
async fn bound(client: &Client, namespace: &str) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    eventually("claims to be bound", async || {
        let claims = claims.list(&ListParams::default()).await.unwrap();
        let is = |claim: &PersistentVolumeClaim| claim.status.as_ref()?.phase.clone();
        let named =
            claims.iter().filter(|claim| claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some()));
        named.map(is).all(|phase| phase.as_deref() == Some("Bound")).then_some(())
    })
    .await;
}

/// The controller as it is shipped, with more arguments, once it has registered the webhook.
pub(crate) async fn controller(plane: &ControlPlane, arguments: &[&str]) -> Program {
    plane.has_endpoint(true);
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
    let controller = Program::start(|command| {
        command.args(["controller", "--metrics-listen=127.0.0.1:0"]).args(arguments);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", "controller-0");
    });
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(plane.client().await);
    eventually("the registration", async || configurations.get_opt("juicefs-sidecar").await.unwrap()).await;
    controller
}

/// A webhook over manifests, and how to speak with it.
fn over_manifests(plane: &ControlPlane, manifests: &Path) -> (Program, Server) {
    let authority = plane.state().join("over-manifests-ca.crt");
    let program = Program::start(|command| {
        command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--manifests"]);
        command.arg(manifests).arg("--ca-out").arg(&authority).args(["--agent-image", MIRRORED]);
    });
    let [address, _] = program.listening();
    let ca = fs::read_to_string(authority).unwrap();
    (program, Server { address, ca, identity: None })
}

/// The pod that the webhook believes to run in.
pub(crate) const WEBHOOK_POD: &str = "webhook-0";

/// The image of that pod, by a name that is not built in: pods have to get their agent from there.
const MIRRORED: &str = "mirror.example.com/juicefs-sidecar:of-the-webhook";

fn webhook_pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": WEBHOOK_POD, "namespace": NAMESPACE},
        "spec": {"containers": [
            {"name": "proxy", "image": "proxy:1"}, {"name": "webhook", "image": MIRRORED, "args": ["webhook"]}]}})
}

/// A webhook as it is shipped.
pub(crate) struct Replica {
    pub(crate) program: Program,
    pub(crate) backend: Backend,
}

impl Replica {
    /// Starts one with more arguments, and waits until it is ready.
    pub(crate) async fn start(plane: &ControlPlane, arguments: &[&str]) -> Self {
        let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
        let program = Program::start(|command| {
            command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
            command.args(["--namespace", NAMESPACE]).args(arguments).arg("--kubeconfig").arg(kubeconfig);
            command.env("POD_NAME", WEBHOOK_POD);
        });
        let [address, health] = program.listening();
        let is_ready = async || get(health, "/readyz").ok().filter(|answer| answer == "ok\n");
        eventually("the webhook to be ready", is_ready).await;
        Self { program, backend: Backend { address, health } }
    }
}

/// The webhook's Service, with nobody behind it yet.
pub(crate) async fn service(plane: &ControlPlane) -> Service {
    plane.has_endpoint(true);
    let services: Api<ServiceObject> = Api::namespaced(plane.client().await, NAMESPACE);
    let service = services.get("juicefs-sidecar-webhook").await.unwrap();
    Service::listen(&service.spec.unwrap().cluster_ip.unwrap())
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
