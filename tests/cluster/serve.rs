//! Webhook and controller in one process, installed by the component that is shipped for it.

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::json;

use super::{
    control_plane::{ControlPlane, eventually},
    installation::{injected, service},
    manifests::{NAMESPACE, built, piped},
    objects::{create, storage},
    program::Program,
    service::{Backend, series},
};

const COMPONENT: &str = "webhook-config/components/one-program";
const TEAM: &str = "one-program";

async fn serve(plane: &ControlPlane, pod: &str) -> (Program, Backend) {
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
    let program = Program::start(|command| {
        command.args(["serve", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
        command.args(["--leader-election-lease-duration=6s", "--kubeconfig"]).arg(kubeconfig);
        command.env("POD_NAMESPACE", NAMESPACE).env("POD_NAME", pod);
    });
    let [address, health] = program.listening();
    (program, Backend { address, health })
}

async fn leader(client: &Client) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = leases.get_opt("juicefs-sidecar-controller").await.ok()??;
    lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_program_serves_and_registers_and_another_takes_over() {
    // Of its own: it is another installation.
    let Some(plane) = ControlPlane::start() else { return };
    let text = built(&plane, &[COMPONENT]);
    // The namespace comes first in it.
    let applied = piped(plane.kubectl().args(["apply", "-f", "-"]), &text);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let client = plane.client().await;
    plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
    for object in storage(TEAM, "data") {
        create(&client, object, false).await.unwrap();
    }
    let (first, backend) = serve(&plane, "first").await;
    let service = service(&plane).await;
    service.add(backend);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": TEAM}, "spec": {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let is_injected = async || create(&client, pod.clone(), true).await.ok().filter(injected);
    eventually("pods to be injected", is_injected).await;
    // The API server asks again about a pod that it has changed since: ours leaves it nothing to change.
    let name = |code| format!("juicefs_sidecar_reviews_total{{endpoint=\"inject\",code=\"{code}\"}}");
    let asked = |code| series(backend.health, &name(code));
    assert!(asked("injected") > Some(0));
    assert_eq!(asked("already-injected"), Some(0));
    let held = leader(&client).await.unwrap_or_default();
    assert!(held.starts_with("first"), "{held}");

    let (_second, backend) = serve(&plane, "second").await;
    service.add(backend);
    first.terminate();
    assert_eq!(first.exit_code(), 0);
    let taken = async || leader(&client).await.filter(|holder| holder.starts_with("second"));
    eventually("the second to lead", taken).await;
    eventually("pods to be injected by the second", is_injected).await;
}
