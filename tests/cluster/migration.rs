//! From the JuiceFS CSI driver's sidecar mode to ours and back, in a real cluster, by the commands of
//! `docs/migration.md`. The driver's controller and webhook are played: the one holds its Lease, the other changes pods as
//! the recorded one does.

mod commands;
mod driver;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service as ServiceObject,
};
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};

use self::{commands::Commands, driver::Driver};
use super::{
    control_plane::{ControlPlane, eventually},
    file_system::{self, FileSystem},
    installation::{Replica, controller},
    manifests::NAMESPACE,
    neighbour::LABEL,
    objects::create,
    program::Program,
    service::Service,
};

const TEAM: &str = "moving";
/// What the played webhook of the driver is asked about.
const TEST: &str = "migration";

/// A cluster that moves.
struct Cluster {
    client: Client,
    plane: ControlPlane,
    commands: Commands,
    file_system: FileSystem,
    /// The webhook's Services so far, by address: another installation may get the same.
    services: BTreeMap<String, Service>,
}

impl Cluster {
    /// What the report says of the steps, one letter each: done, next, open or unseen.
    fn states(&self) -> String {
        let report = self.report();
        let steps = report["steps"].as_array().unwrap().iter();
        steps
            .map(|step| if step["state"] == "unseen" { "?" } else { &step["state"].as_str().unwrap()[..1] })
            .collect()
    }

    fn report(&self) -> Value {
        let text = self.commands.run("juicefs-sidecar migration --output json");
        serde_json::from_str(&text).unwrap()
    }

    /// The programs of an installation, once the API server asks them.
    async fn start(&mut self) -> [Program; 2] {
        let worker = format!("--worker={}", file_system::shared().socket().display());
        let lease = "--provisioner-lease-namespace=kube-system";
        let controller = controller(&self.plane, &[&worker, lease]).await;
        let webhook = Replica::start(&self.plane, &[]).await;
        let services: Api<ServiceObject> = Api::namespaced(self.client.clone(), NAMESPACE);
        let service = services.get("juicefs-sidecar-webhook").await.unwrap();
        let address = service.spec.unwrap().cluster_ip.unwrap();
        let service = self.services.entry(address).or_insert_with_key(|address| Service::listen(address));
        service.add(webhook.backend);
        [controller, webhook.program]
    }

    /// A pod with a claim, as the API server stores it.
    async fn pod(&self, name: &str, dry_run: bool) -> Result<Value, String> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": TEAM, "labels": {LABEL: TEST}},
            "spec": {
                "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
        create(&self.client, pod, dry_run).await
    }

    /// Until a pod that is made now would be injected so.
    async fn pods_are(&self, is: fn(&Value) -> bool) {
        eventually("pods to be injected by the other", async || {
            self.pod("probe", true).await.ok().filter(is).map(|_| ())
        })
        .await;
    }

    async fn claim(&self, name: &str) -> Value {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": TEAM, "name": name},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}},
                     "storageClassName": "moving-sc"}});
        create(&self.client, claim, false).await.unwrap()
    }

    /// The name of a claim's volume, if it has one.
    async fn volume_of(&self, claim: &str) -> Option<String> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), TEAM);
        let claim = claims.get(claim).await.unwrap();
        let is_bound = claim.status?.phase.as_deref() == Some("Bound");
        claim.spec?.volume_name.filter(|_| is_bound)
    }

    async fn secret(&self, name: &str) -> Option<Secret> {
        Api::<Secret>::namespaced(self.client.clone(), TEAM).get_opt(name).await.unwrap()
    }

    /// Deletes all pods, of which no kubelet runs any.
    fn delete_pods(&self) {
        self.commands.run(&format!("kubectl --namespace {TEAM} delete pods --all --grace-period=0 --force"));
    }
}

/// Whether a pod has a client of the driver's, and no other.
fn is_drivers(pod: &Value) -> bool {
    let clients = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    pod["spec"]["volumes"][0]["hostPath"]["path"] == driver::DIRECTORY
        && clients.filter(|container| container["name"] == "jfs-mount").count() == 1
        && pod["metadata"]["annotations"].get("sidecar.juicefs.com/status").is_none()
}

fn is_ours(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("sidecar.juicefs.com/status").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_leads_there_and_back_and_no_pod_is_without_its_client() {
    let Some(plane) = ControlPlane::start() else { return };
    let Some(commands) = Commands::new(&plane) else { return };
    let client = plane.client().await;
    let file_system = file_system::shared().one();
    let mut cluster = Cluster { client, plane, commands, file_system, services: BTreeMap::new() };
    let mut driver = Driver::install(&cluster).await;
    // As it is, and nothing is in the way.
    cluster.commands.page("juicefs-sidecar migration");
    assert_eq!(cluster.states(), "dnooooo");
    assert!(is_drivers(&cluster.pod("before", false).await.unwrap()));

    cluster.commands.page("kubectl get namespace juicefs-sidecar");
    assert_eq!(cluster.states(), "ddnoooo");

    // Side by side: the driver injects and provisions, we do the rest.
    cluster.commands.page("helm install");
    let programs = cluster.start().await;
    let line = programs[0].wait_for("is asked about pods of labelled namespaces too");
    assert_eq!(line["registration"], "juicefs-admission-webhook");
    assert_eq!(cluster.states(), "dddnooo");
    assert!(is_drivers(&cluster.pod("both", false).await.unwrap()));
    what_may_not_be_read_is_said(&cluster).await;
    let kept = eventually("its secret to be ours too", async || {
        let data = cluster.secret("data-jfs-secret").await?.data?;
        (data.get("metaurl")?.0 == cluster.file_system.address.as_bytes()).then_some(data)
    })
    .await;
    assert!(kept.contains_key("check_mount.sh") && kept.contains_key("jfsSettings"), "{:?}", kept.keys());
    cluster.claim("waits").await;
    eventually("the secret of a claim that waits", async || cluster.secret("waits-jfs-secret").await).await;

    cluster.commands.page("kubectl get mutatingwebhookconfiguration");
    cluster.pods_are(is_ours).await;
    assert_eq!(cluster.states(), "ddddnoo");

    cluster.commands.page("kubectl --namespace my-app rollout restart");
    cluster.delete_pods();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), TEAM);
    eventually("the pod of the Deployment to be made again", async || {
        let all = pods.list(&ListParams::default()).await.unwrap();
        let all = all.iter().map(|pod| serde_json::to_value(pod).unwrap());
        all.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .all(|pod| is_ours(&pod))
            .then_some(())
    })
    .await;
    assert_eq!(cluster.states(), "dddddno");

    // The driver has the Lease to the end.
    assert_eq!(cluster.volume_of("waits").await, None);
    driver.stop();
    cluster
        .commands
        .page("kubectl --namespace kube-system scale statefulset/juicefs-csi-controller --replicas=0");
    let made = eventually("a volume of ours", async || cluster.volume_of("waits").await).await;
    assert_eq!(cluster.states(), "ddddddn");
    is_as_the_drivers_own(&cluster, &made).await;
    removes_what_the_driver_made(&cluster).await;

    // Back again.
    cluster
        .commands
        .page("kubectl --namespace kube-system scale statefulset/juicefs-csi-controller --replicas=2");
    drop(programs);
    cluster.pods_are(is_drivers).await;
    assert_eq!(cluster.states(), "ddnoooo");
    cluster.commands.page("kubectl get persistentvolume");
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let finalizers = volumes.get(&made).await.unwrap().metadata.finalizers;
    assert_eq!(finalizers.as_deref(), Some(&["kubernetes.io/pv-protection".to_owned()][..]));

    // And there for good, once what was uninstalled is gone.
    cluster.commands.run("kubectl wait --for=delete namespace/juicefs-sidecar-janitor --timeout=1m");
    cluster.commands.page("helm install");
    let _programs = cluster.start().await;
    cluster.commands.page("kubectl get mutatingwebhookconfiguration");
    cluster.pods_are(is_ours).await;
    cluster.delete_pods();
    cluster
        .commands
        .page("kubectl --namespace kube-system scale statefulset/juicefs-csi-controller --replicas=0");
    cluster.commands.page("kubectl --namespace kube-system delete secret");
    cluster.commands.page("helm upgrade");
    assert_eq!(cluster.states(), "ddddddd");
    let left = cluster.commands.run(
        "kubectl get csidriver,storageclass --output name; kubectl --namespace kube-system get secret --output name",
    );
    for kept in [
        "csidriver.storage.k8s.io/csi.juicefs.com",
        "storageclass.storage.k8s.io/moving-sc",
        "secret/moving-sc-secret",
    ] {
        assert!(left.contains(kept), "{kept}: {left}");
    }
    assert_eq!(cluster.commands.unused(), Vec::<String>::new(), "commands of the page that no test runs");
}

/// The account of the webhook may read little.
async fn what_may_not_be_read_is_said(cluster: &Cluster) {
    let webhook = cluster.plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
    let command = format!("juicefs-sidecar migration --output json --kubeconfig {}", webhook.display());
    let report: Value = serde_json::from_str(&cluster.commands.run(&command)).unwrap();
    let mut changes = report["changes"].as_array().unwrap().iter();
    let pods =
        changes.find(|change| change["area"] == "not seen" && change["objects"].to_string().contains("Pod"));
    let what = pods.unwrap()["what"].as_str().unwrap();
    assert!(what.contains("is forbidden"), "{what}");
    assert_eq!(report["steps"][4]["state"], "unseen");
}

/// A volume of ours, against the one that the driver has made of the same class.
async fn is_as_the_drivers_own(cluster: &Cluster, name: &str) {
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let theirs = cluster.volume_of("data").await.unwrap();
    let mut both = Vec::new();
    for (volume, claim) in [(name, "waits"), (&*theirs, "data")] {
        let volume = serde_json::to_value(volumes.get(volume).await.unwrap()).unwrap();
        let annotations = volume["metadata"]["annotations"].as_object().unwrap();
        let by = annotations["pv.kubernetes.io/provisioned-by"].clone();
        let mut spec = volume["spec"].clone();
        spec["claimRef"].as_object_mut().unwrap().remove("resourceVersion");
        // Names are of the claim, and so is the directory.
        let uid = spec["claimRef"]["uid"].as_str().unwrap().to_owned();
        let text = spec.to_string().replace(&uid, "UID");
        let text = text.replace(&format!("{TEAM}-{claim}"), "DIRECTORY");
        let mut spec: Value =
            serde_json::from_str(&text.replace(&format!("\"name\":\"{claim}\""), "\"name\":\"CLAIM\""))
                .unwrap();
        let mark =
            spec["csi"]["volumeAttributes"].as_object_mut().unwrap().remove("sidecar.juicefs.com/directory");
        assert_eq!(mark.is_some(), claim == "waits");
        both.push((by, spec));
    }
    assert_eq!(both[0], both[1]);
}

/// The volume that the driver made goes with its data, and with nothing else.
async fn removes_what_the_driver_made(cluster: &Cluster) {
    cluster.file_system.write("moving-old/file");
    cluster.file_system.write("moving-data/file");
    let volume = cluster.volume_of("old").await.unwrap();
    cluster.commands.run(&format!("kubectl --namespace {TEAM} delete pvc old"));
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    eventually("the volume to go", async || volumes.get_opt(&volume).await.unwrap().is_none().then_some(()))
        .await;
    let tree = cluster.file_system.tree();
    assert!(tree.contains("moving-data/file") && !tree.contains("moving-old/"), "{tree:?}");
}
