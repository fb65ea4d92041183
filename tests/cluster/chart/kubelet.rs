//! In place of kubelets and kube-proxy: what runs the programs of our pods as their manifests say, by their accounts, and
//! says of each pod whether it is ready, so that Deployments are rolled as they are in a cluster.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service as ServiceObject, Volume};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::{
    control_plane::ControlPlane,
    manifests::NAMESPACE,
    program::Program,
    service::{Backend, Service, get, series},
};

/// How often pods are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// Where one that runs says how it is, and where it serves reviews, if it does and is ready to.
type Addresses = (SocketAddr, Option<Backend>);

/// It works until it is dropped, which ends the programs too.
pub(super) struct Kubelet {
    working: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    running: Arc<Mutex<Vec<Addresses>>>,
}

/// A pod whose program runs.
struct Running {
    program: Program,
    name: String,
    health: SocketAddr,
    /// Where it serves reviews, if it does.
    backend: Option<Backend>,
    ready: bool,
}

impl Running {
    fn addresses(&self) -> Addresses {
        (self.health, self.backend.filter(|_| self.ready))
    }
}

impl Kubelet {
    /// Begins.
    pub(super) async fn start(plane: Arc<ControlPlane>) -> Self {
        let stopping = Arc::<AtomicBool>::default();
        let running = Arc::<Mutex<Vec<_>>>::default();
        let client = plane.client().await;
        let (stop, told) = (Arc::clone(&stopping), Arc::clone(&running));
        let working = tokio::spawn(async move {
            let mut pods = HashMap::new();
            let mut services = HashMap::new();
            while !stop.load(Ordering::Relaxed) {
                look(&plane, &client, &mut pods, &mut services).await;
                *told.lock().unwrap() = pods.values().map(Running::addresses).collect();
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { working, stopping, running }
    }

    /// How many pods run.
    pub(super) fn running(&self) -> usize {
        self.running.lock().unwrap().len()
    }

    /// How many of them lead.
    pub(super) fn leaders(&self) -> usize {
        let leads = |health| series(health, "juicefs_sidecar_leader") == Some(1);
        self.addresses().into_iter().filter(|(health, _)| leads(*health)).count()
    }

    /// The sum of what a series of metrics is in those that have it.
    pub(super) fn sum(&self, name: &str) -> u64 {
        self.addresses().into_iter().filter_map(|(health, _)| series(health, name)).sum()
    }

    /// Where reviews are served.
    pub(super) fn serving(&self) -> Vec<SocketAddr> {
        self.addresses().into_iter().filter_map(|(_, backend)| Some(backend?.address)).collect()
    }

    fn addresses(&self) -> Vec<Addresses> {
        self.running.lock().unwrap().clone()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.working.abort();
    }
}

async fn look(
    plane: &ControlPlane,
    client: &Client,
    pods: &mut HashMap<String, Running>,
    services: &mut HashMap<String, Service>,
) {
    let api = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let parameters = ListParams::default().labels("app.kubernetes.io/name=juicefs-sidecar");
    let Ok(found) = api.list(&parameters).await else { return };
    let found: HashMap<_, _> = found.items.into_iter().filter_map(|pod| Some((pod.uid()?, pod))).collect();
    let gone: Vec<_> = pods.keys().filter(|uid| !found.contains_key(*uid)).cloned().collect();
    for running in gone.into_iter().filter_map(|uid| pods.remove(&uid)) {
        // Still behind the Service: that it is not ready any more has to be noticed, as in a cluster.
        running.program.terminate();
        let services: Vec<_> = services.values().cloned().collect();
        tokio::task::spawn_blocking(move || {
            running.program.exit_code();
            for service in services {
                if let Some(backend) = running.backend {
                    service.remove(backend);
                }
            }
        });
    }
    let service = service(client, services).await;
    let mut news = false;
    for (uid, pod) in found {
        let Some(running) = pods.get_mut(&uid) else {
            let running = run(plane, client, &pod).await;
            if let (Some(service), Some(backend)) = (&service, running.backend) {
                service.add(backend);
            }
            pods.insert(uid, running);
            continue;
        };
        let ready = get(running.health, "/readyz").is_ok_and(|answer| answer == "ok\n");
        if ready != running.ready {
            let status = if ready { "True" } else { "False" };
            let status =
                json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
            // A pod that has gone meanwhile has no status.
            let patched =
                api.patch_status(&running.name, &PatchParams::default(), &Patch::Strategic(status)).await;
            running.ready = if patched.is_ok() { ready } else { running.ready };
            news = true;
        }
    }
    if news && service.is_some() {
        let serves = pods.values().any(|pod| pod.ready && pod.backend.is_some());
        tokio::task::block_in_place(|| plane.has_endpoint(serves));
    }
}

/// What listens at the address of the webhook's Service, if there is one.
async fn service(client: &Client, services: &mut HashMap<String, Service>) -> Option<Service> {
    let api = Api::<ServiceObject>::namespaced(client.clone(), NAMESPACE);
    let address = api.get_opt("juicefs-sidecar-webhook").await.ok()??.spec?.cluster_ip?;
    Some(services.entry(address.clone()).or_insert_with(|| Service::listen(&address)).clone())
}

/// Starts what the first container of a pod says.
async fn run(plane: &ControlPlane, client: &Client, pod: &Pod) -> Running {
    let spec = pod.spec.as_ref().unwrap();
    let account = spec.service_account_name.as_deref().unwrap();
    let kubeconfig = plane.kubeconfig(NAMESPACE, account).await;
    let container = &spec.containers[0];
    let mut arguments = container.args.clone().unwrap();
    for mount in container.volume_mounts.iter().flatten() {
        let is_it = |volume: &&Volume| volume.name == mount.name;
        let volume = spec.volumes.iter().flatten().find(is_it).unwrap();
        if let Some(files) = files(plane, client, &pod.uid().unwrap(), volume).await {
            for argument in &mut arguments {
                *argument = argument.replace(&mount.mount_path, &files.to_string_lossy());
            }
        }
    }
    let serves = arguments[0] != "controller";
    let program = Program::start(|command| {
        command.args(&arguments).arg("--metrics-listen=127.0.0.1:0").arg("--kubeconfig").arg(kubeconfig);
        if serves {
            command.arg("--listen=127.0.0.1:0");
        }
        for variable in container.env.iter().flatten() {
            let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
            let value = match field.map(|field| field.field_path.as_str()) {
                Some("metadata.name") => pod.name_any(),
                Some("metadata.namespace") => NAMESPACE.to_owned(),
                _ => variable.value.clone().unwrap_or_default(),
            };
            command.env(&variable.name, value);
        }
    });
    let line = tokio::task::block_in_place(|| program.wait_for("listening"));
    let address = |key: &str| line.get(key).and_then(Value::as_str).map(|text| text.parse().unwrap());
    let health: SocketAddr = address("metrics_address").unwrap();
    let backend = address("address").map(|address| Backend { address, health });
    Running { program, name: pod.name_any(), health, backend, ready: false }
}

/// The directory that has the files of a volume, if it is one of a Secret's keys or of a `ConfigMap`.
async fn files(plane: &ControlPlane, client: &Client, pod: &str, volume: &Volume) -> Option<PathBuf> {
    let data: BTreeMap<String, Vec<u8>> = if let Some(source) = &volume.secret {
        let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
        let mut data = secrets.get(source.secret_name.as_deref()?).await.unwrap().data.unwrap();
        let items = source.items.iter().flatten();
        items
            .map(|item| (item.path.clone(), data.remove(&item.key).expect("a key that there is").0))
            .collect()
    } else {
        let source = volume.config_map.as_ref()?;
        let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
        let data = maps.get(&source.name).await.unwrap().data.unwrap();
        data.into_iter().map(|(key, text)| (key, text.into_bytes())).collect()
    };
    let directory = plane.state().join(format!("volumes-{pod}/{}", volume.name));
    fs::create_dir_all(&directory).unwrap();
    for (name, content) in data {
        fs::write(directory.join(name), content).unwrap();
    }
    Some(directory)
}
