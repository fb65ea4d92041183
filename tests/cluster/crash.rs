//! The controller is killed after each step that it takes, in what the API server and the worker see of it: whenever it
//! is started again, the world becomes what it would have been.

mod between;
mod clone;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use self::between::Steps;
use super::{
    control_plane::{ControlPlane, eventually},
    file_system::{self, FileSystem},
    installation::controller,
    manifests::{self, NAMESPACE},
    objects::create,
    program::Program,
};

/// What keeps a user secret.
const FINALIZER: &str = "juicefs.com/finalizer";

/// Each is swept through by itself; of these steps each has to have some at least, or it was not watched.
const PHASES: [(Phase, usize); 4] =
    [(Phase::Provision, 7), (Phase::Rotate, 1), (Phase::Expand, 5), (Phase::Delete, 6)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Provision,
    Rotate,
    Expand,
    Delete,
}

/// A cluster with a controller that can be killed.
struct Sweep {
    plane: ControlPlane,
    client: Client,
    steps: Steps,
    kubeconfig: PathBuf,
    worker: PathBuf,
}

impl Sweep {
    async fn new() -> Option<Self> {
        Some(Self::of(ControlPlane::start()?).await)
    }

    /// One in a cluster that has snapshots.
    async fn with_snapshots() -> Option<Self> {
        Some(Self::of(ControlPlane::start_with_snapshots()?).await)
    }

    async fn of(plane: ControlPlane) -> Self {
        manifests::install(&plane);
        // It registers, and has no more to do than with claims.
        drop(controller(&plane, &["--provisioner=false", "--leader-election=false"]).await);
        let (client, steps) = (plane.client().await, Steps::default());
        let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
        let kubeconfig = between::api_server(&plane, &kubeconfig, &steps).await;
        let worker = plane.state().join("worker");
        between::worker(file_system::shared().socket(), &worker, &steps);
        Self { plane, client, steps, kubeconfig, worker }
    }

    fn controller(&self) -> Program {
        let worker = format!("--worker={}", self.worker.display());
        let program = Program::start(|command| {
            command.args(["controller", "--metrics-listen=127.0.0.1:0", "--leader-election=false", &worker]);
            command.arg("--kubeconfig").arg(&self.kubeconfig).env("POD_NAMESPACE", NAMESPACE);
        });
        program.wait_for("listening");
        program
    }
}

/// A claim, its namespace, its class and its file system: one for each number of steps.
struct Life<'a> {
    sweep: &'a Sweep,
    name: String,
    file_system: FileSystem,
    uid: String,
}

impl<'a> Life<'a> {
    async fn new(sweep: &'a Sweep, steps: usize) -> Self {
        let name = format!("crash-{steps}");
        sweep.plane.namespace(&name, &[("juicefs.com/enable-injection", "true")]).await;
        let file_system = file_system::shared().one();
        create(&sweep.client, file_system.secret(&name, "user"), false).await.unwrap();
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "csi.juicefs.com", "allowVolumeExpansion": true, "parameters": {
                "secretFinalizer": "true", "csi.storage.k8s.io/node-publish-secret-name": "user",
                "csi.storage.k8s.io/node-publish-secret-namespace": name}});
        create(&sweep.client, class, false).await.unwrap();
        Self { sweep, name, file_system, uid: String::new() }
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.sweep.client.clone(), &self.name)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.sweep.client.clone(), &self.name)
    }

    fn directory(&self) -> String {
        format!("pvc-{}", self.uid)
    }

    /// What is in the file system and none of the volume's business.
    fn outside(&self) -> BTreeSet<String> {
        let neighbour = format!("{}0/", self.directory());
        [format!("{neighbour}file"), neighbour, "other/".to_owned(), "other/file".to_owned()].into()
    }

    async fn begin(&mut self, phase: Phase) {
        let merge = |patch| Patch::Merge(patch);
        match phase {
            Phase::Provision => {
                let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "metadata": {"namespace": self.name, "name": "data"}, "spec": {"storageClassName": self.name,
                        "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "2Gi"}}}});
                let made = create(&self.sweep.client, claim, false).await.unwrap();
                made["metadata"]["uid"].as_str().unwrap().clone_into(&mut self.uid);
            }
            Phase::Rotate => {
                let rotated = json!({"stringData": {"envs": "TOKEN: second"}});
                self.secrets().patch("user", &PatchParams::default(), &merge(rotated)).await.unwrap();
            }
            Phase::Expand => {
                for file in self.outside().iter().filter(|path| path.ends_with("/file")) {
                    self.file_system.write(file);
                }
                let larger = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
                self.claims().patch("data", &PatchParams::default(), &merge(larger)).await.unwrap();
            }
            Phase::Delete => {
                self.file_system.write(&format!("{}/deep/file", self.directory()));
                self.secrets().delete("user", &DeleteParams::default()).await.unwrap();
                self.claims().delete("data", &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// The claim's volumes, of which there is never more than one.
    async fn volume(&self) -> Option<PersistentVolume> {
        let volumes = Api::<PersistentVolume>::all(self.sweep.client.clone());
        let mut volumes = volumes.list(&ListParams::default()).await.unwrap().items;
        let of_claim = |volume: &PersistentVolume| {
            let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            reference.is_some_and(|reference| reference.namespace.as_deref() == Some(&self.name))
        };
        volumes.retain(of_claim);
        assert!(volumes.len() <= 1, "{volumes:?}");
        volumes.pop()
    }

    /// Has something done, until it is, or until whoever does it is no more: the steps taken, and which it was.
    async fn killed_or_over(&mut self, phase: Phase) -> (Vec<String>, bool) {
        self.begin(phase).await;
        eventually("the end of the phase, or of the controller", async || {
            (self.sweep.steps.killed() || self.is_over(phase).await).then_some(())
        })
        .await;
        self.sweep.steps.disarm()
    }

    /// What of the objects is not as the phase has to leave it.
    async fn missing(&self, phase: Phase) -> Vec<&'static str> {
        let user = self.secrets().get_opt("user").await.unwrap();
        let credentials = self.secrets().get_opt("data-jfs-secret").await.unwrap();
        let claim = self.claims().get_opt("data").await.unwrap();
        let volume = self.volume().await;
        let checks = if phase == Phase::Delete {
            vec![
                ("the claim gone", claim.is_none()),
                ("the volume gone", volume.is_none()),
                ("the user secret gone", user.is_none()),
                ("the clients' secret gone", credentials.is_none()),
            ]
        } else {
            let status = claim.and_then(|claim| claim.status).unwrap_or_default();
            let size = if phase == Phase::Expand { "3Gi" } else { "2Gi" };
            let amounts = [status.capacity, volume.and_then(|volume| volume.spec?.capacity)];
            let [has, holds] = amounts.map(|amounts| amounts.is_some_and(|all| all["storage"].0 == size));
            let finalizers = user.and_then(|user| user.metadata.finalizers).unwrap_or_default();
            let keys = credentials.and_then(|secret| secret.data).unwrap_or_default();
            let token = keys.get("TOKEN").is_some_and(|token| token.0 == b"second");
            vec![
                ("the claim bound", status.phase.as_deref() == Some("Bound")),
                ("the claim's size", has),
                ("the volume's size", holds),
                ("no conditions", status.conditions.unwrap_or_default().is_empty()),
                ("the user secret held", finalizers.iter().any(|one| one == FINALIZER)),
                ("the clients' secret", keys.contains_key("metaurl")),
                ("the new value", token || phase == Phase::Provision),
            ]
        };
        checks.into_iter().filter(|(_, is_so)| !is_so).map(|(what, _)| what).collect()
    }

    async fn is_over(&self, phase: Phase) -> bool {
        self.missing(phase).await.is_empty()
    }

    /// What the phase has to leave in the file system.
    fn check(&self, phase: Phase) {
        let directory = self.directory();
        let mut tree = BTreeSet::from([format!("{directory}/")]);
        let quota = match phase {
            Phase::Provision | Phase::Rotate => Some("2.0 GiB"),
            Phase::Expand => {
                tree.extend(self.outside());
                Some("3.0 GiB")
            }
            Phase::Delete => {
                tree = self.outside();
                None
            }
        };
        assert_eq!(self.file_system.tree(), tree, "{phase:?}");
        assert_eq!(self.file_system.quota(&format!("/{directory}")).as_deref(), quota, "{phase:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_step_it_goes_on_as_if_nothing_had_been() {
    let Some(sweep) = Sweep::new().await else { return };
    let mut most = PHASES.map(|_| None);
    let mut controller = sweep.controller();
    for steps in 1.. {
        let mut life = Life::new(&sweep, steps).await;
        for ((phase, _), most) in PHASES.iter().zip(&mut most) {
            if most.is_none() {
                sweep.steps.arm(controller.pid(), steps);
            }
            let (taken, killed) = life.killed_or_over(*phase).await;
            if killed {
                drop(controller);
                controller = sweep.controller();
                let started = Instant::now();
                while !life.is_over(*phase).await {
                    let lasts = started.elapsed() < Duration::from_mins(1);
                    assert!(lasts, "{phase:?} after {taken:#?}: no {:?}", life.missing(*phase).await);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            } else if most.is_none() {
                *most = Some(taken.len());
            }
            life.check(*phase);
        }
        if most.iter().all(Option::is_some) {
            break;
        }
    }
    for ((phase, least), most) in PHASES.iter().zip(most) {
        assert!(most >= Some(*least), "{phase:?} has only {most:?} steps");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_goes_while_nobody_is_there_leaves_an_empty_directory_at_most() {
    let Some(sweep) = Sweep::new().await else { return };
    let mut controller = sweep.controller();
    for steps in 1.. {
        let mut life = Life::new(&sweep, steps).await;
        sweep.steps.arm(controller.pid(), steps);
        let (taken, killed) = life.killed_or_over(Phase::Provision).await;
        if !killed {
            assert!(steps > 7, "only {taken:#?}");
            return;
        }
        drop(controller);
        let had_volume = life.volume().await.is_some();
        life.claims().delete("data", &DeleteParams::default()).await.unwrap();
        controller = sweep.controller();
        eventually(&format!("nothing left after {taken:#?}"), async || {
            let user = life.secrets().get("user").await.unwrap();
            let credentials = life.secrets().get_opt("data-jfs-secret").await.unwrap();
            let is_free = user.metadata.finalizers.unwrap_or_default().is_empty();
            (is_free && credentials.is_none() && life.volume().await.is_none()).then_some(())
        })
        .await;
        if had_volume {
            assert_eq!(life.file_system.tree(), BTreeSet::new(), "after {taken:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_believe_to_lead_make_and_remove_each_volume_once() {
    const CLAIMS: usize = 12;
    let Some(sweep) = Sweep::new().await else { return };
    let _controllers = [sweep.controller(), sweep.controller()];
    let mut life = Life::new(&sweep, 0).await;
    life.file_system.format();
    life.begin(Phase::Provision).await;
    let claims = life.claims();
    let template = claims.get("data").await.unwrap();
    for number in 1..CLAIMS {
        let mut claim = PersistentVolumeClaim { spec: template.spec.clone(), ..Default::default() };
        claim.metadata.name = Some(format!("data-{number}"));
        claims.create(&PostParams::default(), &claim).await.unwrap();
    }
    let volumes = Api::<PersistentVolume>::all(sweep.client.clone());
    let names = eventually("all claims to be bound", async || {
        let claims = claims.list(&ListParams::default()).await.unwrap().items;
        let is_bound = |claim: &&PersistentVolumeClaim| {
            claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
        };
        let names: BTreeSet<_> = claims
            .iter()
            .filter(is_bound)
            .filter_map(|claim| Some(format!("{}/", claim.spec.as_ref()?.volume_name.as_ref()?)))
            .collect();
        (names.len() == CLAIMS).then_some(names)
    })
    .await;
    assert_eq!(volumes.list(&ListParams::default()).await.unwrap().items.len(), CLAIMS);
    assert_eq!(life.file_system.tree(), names);
    claims.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    eventually("all volumes to go", async || {
        volumes.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
    assert_eq!(life.file_system.tree(), BTreeSet::new());
}
