//! A release: installed, upgraded, rolled back, removed, while pods are created all the time.

use std::{fs, path::Path, sync::Arc};

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Secret},
    rbac::v1::ClusterRole,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use super::{
    super::{
        chaos::creations::Creations,
        check::check,
        control_plane::{ControlPlane, eventually},
        installation::injected,
        objects::{create, storage},
    },
    NAMESPACE, RELEASE, folder, helm,
    kubelet::Kubelet,
    objects,
};

pub(super) const TEAM: &str = "released";
const REGISTRATION: &str = "juicefs-sidecar";

/// A cluster in which pods are created all the time.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) creations: Creations,
    pub(super) kubelet: Kubelet,
    pub(super) plane: Arc<ControlPlane>,
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": TEAM},
        "spec": {
            "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}))
    .unwrap()
}

impl Cluster {
    pub(super) async fn start() -> Option<Self> {
        helm()?;
        Some(Self::over(ControlPlane::start()?).await)
    }

    /// The same over a control plane that has more than others.
    pub(super) async fn over(plane: ControlPlane) -> Self {
        let plane = Arc::new(plane);
        let client = plane.client().await;
        plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
        for object in storage(TEAM, "data") {
            create(&client, object, false).await.unwrap();
        }
        let creations = Creations::begin(client.clone(), TEAM, |number| pod(&format!("pod-{number}")));
        let kubelet = Kubelet::start(Arc::clone(&plane)).await;
        Self { client, creations, kubelet, plane }
    }

    /// Helm, in our namespace.
    async fn helm(&self, arguments: &[&str]) -> String {
        let mut command = helm().unwrap();
        command.args(arguments).args(["--namespace", NAMESPACE]).arg("--kubeconfig").arg(self.plane.admin());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) async fn install(&self, more: &[&str]) {
        let chart = folder();
        let mut arguments =
            vec!["upgrade", "--install", RELEASE, chart.to_str().unwrap(), "--create-namespace"];
        arguments.extend(["--wait", "--timeout=2m"]);
        arguments.extend(more);
        self.helm(&arguments).await;
    }

    /// Pods are injected from now on, and none failed before: nothing is registered before somebody answers.
    pub(super) async fn is_installed(&self) {
        self.pods_are("installed", true).await;
    }

    async fn injects(&self, what: &str, expected: bool) {
        eventually(what, async || {
            let created = create(&self.client, serde_json::to_value(pod("other")).unwrap(), true).await;
            (created.ok().as_ref().map(injected) == Some(expected)).then_some(())
        })
        .await;
    }

    /// Pods are injected, or not; and of those that were created since this was asked last, none failed.
    pub(super) async fn pods_are(&self, what: &str, expected: bool) {
        self.injects(what, expected).await;
        let tally = self.creations.ended().await;
        eprintln!("chart: {what}: {tally}");
        assert!(tally.failed.is_empty() && tally.away.is_empty(), "{what}: {tally}");
    }

    /// What `juicefs-sidecar check` says.
    pub(super) async fn check(&self) -> String {
        let (admin, claim) = (self.plane.admin(), format!("{TEAM}/data"));
        tokio::task::spawn_blocking(move || check(&admin, &["--claim", &claim]).0).await.unwrap()
    }

    async fn nothing_is_registered(&self) {
        let mutating = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let validating = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        eventually("the registration to go", async || {
            let there = mutating.get_opt(REGISTRATION).await.unwrap().is_some()
                || validating.get_opt(REGISTRATION).await.unwrap().is_some();
            (!there).then_some(())
        })
        .await;
    }

    /// How often the webhook's Deployment was changed.
    async fn generation(&self) -> i64 {
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), NAMESPACE);
        let deployment = deployments.get("juicefs-sidecar-webhook").await.unwrap();
        deployment.metadata.generation.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_creation_fails_whatever_is_done_to_the_release() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.install(&[]).await;
    cluster.is_installed().await;
    assert_eq!((cluster.kubelet.running(), cluster.kubelet.leaders()), (4, 1));
    let said = cluster.check().await;
    assert!(!said.contains('✘'), "{said}");
    for line in [
        "programs: juicefs-sidecar-controller: 2 of 2",
        "certificate: trusted",
        "trial: a pod with the claim",
    ] {
        assert!(said.contains(&format!("✔ {line}")), "{line}: {said}");
    }

    // Every pod is replaced.
    let before = cluster.generation().await;
    cluster.install(&["--set=controller.podAnnotations.a=b,webhook.podAnnotations.a=b"]).await;
    assert!(cluster.generation().await > before);
    cluster.pods_are("upgraded", true).await;
    cluster.helm(&["rollback", RELEASE, "1", "--wait", "--timeout=2m"]).await;
    cluster.pods_are("rolled back", true).await;
    cluster.install(&["--set=oneProgram=true"]).await;
    cluster.pods_are("upgraded to one program", true).await;
    cluster.install(&["--reset-values"]).await;
    cluster.pods_are("upgraded to two programs", true).await;

    // The one hook takes the place of the role that owns the registrations, and grants nothing.
    let hooks = objects(&cluster.helm(&["get", "hooks", RELEASE]).await);
    assert_eq!((hooks.len(), &hooks[0]["kind"], &hooks[0]["rules"]), (1, &json!("ClusterRole"), &json!([])));
    cluster.helm(&["uninstall", RELEASE, "--wait"]).await;
    cluster.nothing_is_registered().await;
    cluster.pods_are("uninstalled", false).await;
    let none = async || (cluster.kubelet.running() == 0).then_some(());
    eventually("every pod to go", none).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_lets_pods_through_until_the_next_upgrade() {
    let Some(cluster) = Cluster::start().await else { return };
    // The one controller leads without having been elected.
    cluster.install(&["--set=controller.leaderElection.enabled=false,controller.replicas=1"]).await;
    cluster.is_installed().await;
    assert_eq!((cluster.kubelet.running(), cluster.kubelet.leaders()), (3, 1));
    let notes = fs::read_to_string(folder().join("templates/NOTES.txt")).unwrap();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md");
    let command = "kubectl delete clusterrole juicefs-sidecar-controller";
    assert!(notes.contains(command) && fs::read_to_string(guide).unwrap().contains(command));
    let roles = Api::<ClusterRole>::all(cluster.client.clone());
    roles.delete("juicefs-sidecar-controller", &DeleteParams::default()).await.unwrap();
    cluster.nothing_is_registered().await;
    cluster.pods_are("the glass broken", false).await;
    cluster.install(&["--reset-then-reuse-values"]).await;
    cluster.pods_are("repaired by an upgrade", true).await;
    // Without the hook a creation may come between the Service and what names it.
    cluster.helm(&["uninstall", RELEASE, "--no-hooks", "--wait"]).await;
    cluster.nothing_is_registered().await;
    cluster.injects("uninstalled without hooks", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_whose_namespace_is_deleted_leaves_nothing_registered() {
    let Some(cluster) = Cluster::start().await else { return };
    for _ in 0..3 {
        cluster.install(&["--take-ownership"]).await;
        cluster.is_installed().await;
        let namespaces = Api::<Namespace>::all(cluster.client.clone());
        namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
        cluster.nothing_is_registered().await;
        cluster.injects("the namespace deleted", false).await;
        eprintln!("chart: the namespace deleted: {}", cluster.creations.ended().await);
        let gone = async || namespaces.get_opt(NAMESPACE).await.unwrap().is_none().then_some(());
        eventually("the namespace to go", gone).await;
    }
}

/// The Secret and the values with a certificate of one's own, whose authority is beside it or apart.
fn own_certificate(authority_apart: bool) -> (Value, Vec<String>) {
    let name = format!("juicefs-sidecar-webhook.{NAMESPACE}.svc");
    let made = rcgen::generate_simple_self_signed([name]).unwrap();
    let certificate = made.cert.pem();
    let mut data = json!({"tls.crt": certificate, "tls.key": made.signing_key.serialize_pem()});
    let mut values = vec!["--set=webhook.existingSecret=mine".to_owned()];
    if authority_apart {
        values.push(format!("--set-string=webhook.caBundlePEM={certificate}"));
    } else {
        data["ca.crt"] = certificate.into();
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "mine", "namespace": NAMESPACE}, "stringData": data});
    (secret, values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_ones_own_is_served_and_published() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.plane.namespace(NAMESPACE, &[]).await;
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), NAMESPACE);
    for authority_apart in [false, true] {
        let (secret, values) = own_certificate(authority_apart);
        create(&cluster.client, secret, false).await.unwrap();
        cluster.install(&values.iter().map(String::as_str).collect::<Vec<_>>()).await;
        cluster.is_installed().await;
        let names: Vec<_> = secrets
            .list(&ListParams::default())
            .await
            .unwrap()
            .into_iter()
            .map(|secret| secret.name_any())
            .collect();
        assert!(names.iter().all(|name| !name.starts_with("juicefs-sidecar-")), "{names:?}");
        cluster.helm(&["uninstall", RELEASE, "--wait"]).await;
        cluster.nothing_is_registered().await;
        secrets.delete("mine", &DeleteParams::default()).await.unwrap();
    }
}
