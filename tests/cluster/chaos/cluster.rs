//! A cluster with two webhooks behind their Service and two controllers, whose certificates live for a minute.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use juicefs_sidecar::tls::{
    inspect::{seconds, validity},
    pem,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{Api, Client, api::ListParams};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{
    super::{
        control_plane::{ControlPlane, eventually},
        installation::{Replica, injected, service},
        manifests::{self, NAMESPACE},
        objects::{create, storage},
        program::Program,
        service::{Service, series},
    },
    creations::{Creations, Failure},
};

/// The namespace of the pods.
pub(super) const TEAM: &str = "chaos";
/// Creations that have to go well after something happened, before the next thing does.
const MORE: usize = 15;

/// What may come of creations while something happens.
pub(super) enum Allowed {
    /// They are not injected.
    Uninjected,
    /// The API server does not take them.
    Away,
    /// One of them fails in just this way.
    OneFailure(Box<dyn Fn(&Failure) -> bool>),
}

/// A controller, and where it says how it is.
struct Controller {
    _program: Program,
    health: SocketAddr,
}

/// It ends with this value.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) service: Service,
    pub(super) replicas: Vec<Replica>,
    controllers: Vec<Controller>,
    kubeconfig: std::path::PathBuf,
    creations: Creations,
    claims: usize,
    /// Every serving certificate there was.
    leaves: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    forced: u32,
    observing: JoinHandle<()>,
    /// Last: it is used to the end.
    pub(super) plane: ControlPlane,
}

/// A pod with a claim.
pub(super) fn pod(name: &str, claim: &str) -> Pod {
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": TEAM},
        "spec": {
            "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}))
    .unwrap()
}

impl Cluster {
    /// Starts it; pods are being created from then on.
    pub(super) async fn start() -> Option<Self> {
        let plane = ControlPlane::start()?;
        manifests::install(&plane);
        let client = plane.client().await;
        plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
        for object in storage(TEAM, "data") {
            create(&client, object, false).await.unwrap();
        }
        let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
        let leaves = Arc::<Mutex<BTreeSet<_>>>::default();
        let observing = tokio::spawn(observe(client.clone(), Arc::clone(&leaves)));
        let creations =
            Creations::begin(client.clone(), TEAM, |number| pod(&format!("pod-{number}"), "data"));
        let service = service(&plane).await;
        let mut cluster = Self {
            client,
            service,
            replicas: Vec::new(),
            controllers: Vec::new(),
            kubeconfig,
            creations,
            claims: 1,
            leaves,
            forced: 0,
            observing,
            plane,
        };
        cluster.add_controller();
        cluster.add_controller();
        cluster.add_replica().await;
        cluster.add_replica().await;
        cluster.others_are_injected(1).await;
        // Nothing was promised before.
        drop(cluster.creations.ended().await);
        Some(cluster)
    }

    /// One more webhook, ready and behind the Service.
    pub(super) async fn add_replica(&mut self) {
        let replica = Replica::start(&self.plane, &[]).await;
        self.service.add(replica.backend);
        self.replicas.push(replica);
    }

    /// One more controller.
    pub(super) fn add_controller(&mut self) {
        let program = Program::start(|command| self.controller(command));
        let health = program.wait_for("listening")["metrics_address"].as_str().unwrap().parse().unwrap();
        self.controllers.push(Controller { _program: program, health });
    }

    fn controller(&self, command: &mut Command) {
        command
            .args(["controller", "--metrics-listen=127.0.0.1:0", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .args(["--certificate-lifetime=60s", "--ca-lifetime=180s", "--leader-election-lease-duration=6s"])
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", "controller-0");
    }

    /// Where the leader says how it is.
    pub(super) fn leader(&self) -> Option<SocketAddr> {
        let mut controllers = self.controllers.iter().map(|controller| controller.health);
        controllers.find(|health| series(*health, "juicefs_sidecar_leader") == Some(1))
    }

    /// By SIGKILL: its lease stays.
    pub(super) fn kill_leader(&mut self) {
        let leader = self.leader().expect("a leader");
        self.controllers.retain(|controller| controller.health != leader);
    }

    /// Has everything unregistered, as before a removal.
    pub(super) async fn unregister(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
        self.controller(&mut command);
        command.arg("--unregister").env_remove("RUST_LOG");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until so many more pods were created and injected.
    pub(super) async fn others_are_injected(&self, count: usize) {
        for _ in 0..count {
            eventually("a pod to be injected", async || {
                let created = create(&self.client, serde_json::to_value(pod("other", "data")).unwrap(), true);
                created.await.is_ok_and(|pod| injected(&pod)).then_some(())
            })
            .await;
        }
    }

    /// After something happened: new claims are known and injected, the newest certificate is served, and of all pods
    /// that were created meanwhile none came to anything that is not allowed.
    pub(super) async fn goes_on(&mut self, what: &str, allowed: &[Allowed]) {
        let name = format!("claim-{}", self.claims);
        for object in storage(TEAM, &name) {
            eventually("something to be stored", async || {
                let created = create(&self.client, object.clone(), false).await;
                created.is_ok_and(|_| true).then_some(())
            })
            .await;
        }
        self.claims += 1;
        let known = "juicefs_sidecar_cached_objects{kind=\"PersistentVolumeClaim\"}";
        let claims = Api::<PersistentVolumeClaim>::all(self.client.clone());
        for replica in &self.replicas {
            eventually("each webhook to know a new claim", async || {
                let claims = claims.list_metadata(&ListParams::default()).await.ok()?.items.len();
                (series(replica.backend.health, known)? == u64::try_from(claims).unwrap()).then_some(())
            })
            .await;
        }
        eventually("a pod with the new claim to be injected", async || {
            let created = create(&self.client, serde_json::to_value(pod(&name, &name)).unwrap(), false).await;
            created.ok().filter(injected)
        })
        .await;
        self.newest_is_served().await;
        let before = self.creations.injected();
        let more = async || (self.creations.injected() >= before + MORE).then_some(());
        eventually("more pods to be injected", more).await;

        let mut tally = self.creations.ended().await;
        eprintln!("chaos: {what}: {tally}");
        for allowed in allowed {
            if let Allowed::OneFailure(is_this) = allowed
                && let Some(index) = tally.failed.iter().position(is_this)
            {
                tally.failed.swap_remove(index);
            }
        }
        assert!(tally.failed.is_empty(), "{what}: {tally}");
        let allows = |one: fn(&Allowed) -> bool| allowed.iter().any(one);
        assert!(
            tally.away.is_empty() || allows(|allowed| matches!(allowed, Allowed::Away)),
            "{what}: {tally}"
        );
        assert!(
            tally.plain == 0 || allows(|allowed| matches!(allowed, Allowed::Uninjected)),
            "{what}: {tally}"
        );
        assert!(tally.injected > 0, "{what}: {tally}");
    }

    async fn newest_is_served(&self) {
        let until = "juicefs_sidecar_certificate_not_after_timestamp_seconds";
        for replica in &self.replicas {
            eventually("each webhook to serve the newest certificate", async || {
                let newest = until_when(&self.leaf().await?);
                (series(replica.backend.health, until)? == newest).then_some(())
            })
            .await;
        }
    }

    /// The serving certificate as it is stored.
    pub(super) async fn leaf(&self) -> Option<Vec<u8>> {
        leaf(&self.client).await
    }

    /// Waits, past a rotation if need be, until the serving certificate is good for so long.
    pub(super) async fn leaf_good_for(&self, long: Duration) {
        eventually("a fresh serving certificate", async || {
            let until = until_when(&self.leaf().await?);
            (until > seconds(SystemTime::now()) + long.as_secs()).then_some(())
        })
        .await;
        self.newest_is_served().await;
    }

    /// How often the serving certificate was renewed because it was time.
    pub(super) fn rotations(&self) -> u32 {
        u32::try_from(self.leaves.lock().unwrap().len()).unwrap().saturating_sub(1 + self.forced)
    }

    /// The serving certificate was renewed for another reason.
    pub(super) fn forced_rotation(&mut self) {
        self.forced += 1;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.observing.abort();
    }
}

/// Notes every serving certificate.
async fn observe(client: Client, leaves: Arc<Mutex<BTreeSet<Vec<u8>>>>) {
    loop {
        if let Some(leaf) = leaf(&client).await {
            leaves.lock().unwrap().insert(leaf);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn leaf(client: &Client) -> Option<Vec<u8>> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let secret = secrets.get_opt("juicefs-sidecar-tls").await.ok()??;
    Some(secret.data?.remove("tls.crt")?.0)
}

/// Until when a certificate in PEM is good, in seconds since 1970.
fn until_when(certificate: &[u8]) -> u64 {
    validity(&pem::certificates(certificate).unwrap()[0]).unwrap().not_after
}
