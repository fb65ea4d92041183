//! What happens to a cluster, while pods are created all the time: none that the API server takes fails because of us.
//!
//! `CHAOS_ROTATIONS` says through how many rotations of the serving certificate this goes on.

mod cluster;
pub(crate) mod creations;

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::{
    cluster::{Allowed, Cluster, TEAM},
    creations::Failure,
};
use super::{
    control_plane::eventually,
    events::told,
    installation::{Replica, injected},
    manifests::NAMESPACE,
    objects::create,
    rights,
    service::{get, series},
};

const REGISTRATION: &str = "juicefs-sidecar";
const CONFIG_MAP: &str = "juicefs-csi-driver-config";
/// How long etcd stands still.
const PAUSE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_creation_fails_because_of_us_whatever_happens_to_the_cluster() {
    let Some(mut cluster) = Cluster::start().await else { return };
    cluster.goes_on("nothing", &[]).await;
    what_is_not_known_is_read(&cluster).await;

    a_replica_is_killed(&mut cluster).await;
    the_replicas_are_rolled(&mut cluster).await;
    the_secrets_are_lost(&mut cluster).await;
    the_registration_is_deleted(&mut cluster).await;
    the_leader_is_killed(&mut cluster).await;
    the_configuration_is_broken(&mut cluster).await;
    the_api_server_is_restarted(&mut cluster).await;
    etcd_stands_still(&mut cluster).await;

    let wanted = std::env::var("CHAOS_ROTATIONS").map_or(2, |text| text.parse().expect("a number"));
    let deadline = Instant::now() + Duration::from_mins(1) * wanted;
    while cluster.rotations() < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} rotations", cluster.rotations());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cluster.goes_on("certificates rotated", &[]).await;
    eprintln!("{} rotations", cluster.rotations());

    pods_without_a_client_are_told_of(&mut cluster).await;
    rights::compare(&cluster.plane);
}

/// Claims, volumes and classes that the watches do not tell of, because they are not there.
async fn what_is_not_known_is_read(cluster: &Cluster) {
    let volumeless = claim("volumeless", json!({"volumeName": "nowhere", "storageClassName": ""}));
    let classless = claim("classless", json!({"storageClassName": "nowhere"}));
    for object in [volumeless, classless] {
        create(&cluster.client, object, false).await.unwrap();
    }
    // What is nobody's is not our error.
    for claim in ["claimless", "volumeless", "classless"] {
        let pod = serde_json::to_value(cluster::pod("unknown", claim)).unwrap();
        let created = create(&cluster.client, pod, true).await;
        assert!(created.as_ref().is_ok_and(|pod| !injected(pod)), "{claim}: {created:?}");
    }
}

/// What came while nothing was registered.
async fn pods_without_a_client_are_told_of(cluster: &mut Cluster) {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "late"},
        "provisioner": "csi.juicefs.com", "volumeBindingMode": "WaitForFirstConsumer"});
    create(&cluster.client, class, false).await.unwrap();
    create(&cluster.client, claim("late", json!({"storageClassName": "late"})), false).await.unwrap();
    cluster.unregister().await;
    let pod = serde_json::to_value(cluster::pod("late", "late")).unwrap();
    let created = create(&cluster.client, pod, false).await.unwrap();
    assert!(!injected(&created));
    told(&cluster.client, TEAM, "ClientMissing", "late").await;
}

/// By SIGKILL: it has no time to say that it goes.
async fn a_replica_is_killed(cluster: &mut Cluster) {
    let Replica { program, backend } = cluster.replicas.remove(0);
    let killed = tokio::time::Instant::now();
    drop(program);
    let gone = tokio::time::Instant::now();
    cluster.others_are_injected(20).await;
    cluster.service.remove(backend);
    cluster.add_replica().await;
    // What was at that replica at that moment is lost with it, as it would be with any server.
    let under_way = move |failure: &Failure| {
        let lost = ["EOF", "connection reset", "broken pipe"].iter().any(|text| failure.text.contains(text));
        lost && failure.began <= gone && failure.ended >= killed
    };
    cluster.goes_on("a replica killed", &[Allowed::OneFailure(Box::new(under_way))]).await;
}

/// As a Deployment is: a new one is ready before an old one is told to go.
async fn the_replicas_are_rolled(cluster: &mut Cluster) {
    for _ in 0..2 {
        cluster.add_replica().await;
        let Replica { program, backend } = cluster.replicas.remove(0);
        program.terminate();
        let not_ready = async || (get(backend.health, "/readyz").ok()? != "ok\n").then_some(());
        eventually("readiness to go first", not_ready).await;
        let code = tokio::task::spawn_blocking(|| program.exit_code()).await.unwrap();
        assert_eq!(code, 0);
        cluster.service.remove(backend);
    }
    cluster.goes_on("both replicas rolled", &[]).await;
}

async fn the_secrets_are_lost(cluster: &mut Cluster) {
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), NAMESPACE);
    let (serving, authority) = ("juicefs-sidecar-tls", "juicefs-sidecar-ca");
    for (name, what) in [(serving, "deleted"), (authority, "deleted"), (authority, "damaged")] {
        let before = cluster.leaf().await;
        if what == "deleted" {
            secrets.delete(name, &DeleteParams::default()).await.unwrap();
        } else {
            let keyless = json!({"data": {"tls.key": "Cg=="}});
            secrets.patch(name, &PatchParams::default(), &Patch::Merge(keyless)).await.unwrap();
        }
        eventually("another serving certificate", async || {
            let now = cluster.leaf().await;
            (now.is_some() && now != before).then_some(())
        })
        .await;
        cluster.forced_rotation();
        cluster.goes_on(&format!("{name} {what}"), &[]).await;
    }
}

/// Meanwhile pods are not injected, and created.
async fn the_registration_is_deleted(cluster: &mut Cluster) {
    let mutating = Api::<MutatingWebhookConfiguration>::all(cluster.client.clone());
    let validating = Api::<ValidatingWebhookConfiguration>::all(cluster.client.clone());
    let started = Instant::now();
    mutating.delete(REGISTRATION, &DeleteParams::default()).await.unwrap();
    validating.delete(REGISTRATION, &DeleteParams::default()).await.unwrap();
    eventually("the registration again", async || mutating.get_opt(REGISTRATION).await.unwrap()).await;
    let took = started.elapsed();
    // A second on an idle machine.
    assert!(took < Duration::from_secs(5), "registered again after {took:?}");
    eprintln!("registered again after {took:?}");
    eventually("the other again", async || validating.get_opt(REGISTRATION).await.unwrap()).await;
    cluster.goes_on("the registration deleted", &[Allowed::Uninjected]).await;
}

/// The one that stood by goes on with its work.
async fn the_leader_is_killed(cluster: &mut Cluster) {
    let started = Instant::now();
    cluster.kill_leader();
    eventually("another leader", async || cluster.leader()).await;
    eprintln!("another leads after {:?}", started.elapsed());
    let mutating = Api::<MutatingWebhookConfiguration>::all(cluster.client.clone());
    mutating.delete(REGISTRATION, &DeleteParams::default()).await.unwrap();
    eventually("the registration again", async || mutating.get_opt(REGISTRATION).await.unwrap()).await;
    cluster.add_controller();
    cluster.goes_on("the leader killed, and the registration deleted", &[Allowed::Uninjected]).await;
}

/// The last good one stays in use, and its owner is told.
async fn the_configuration_is_broken(cluster: &mut Cluster) {
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), NAMESPACE);
    let edit = async |text: &str| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP}, "data": {"config.yaml": text}});
        maps.patch(CONFIG_MAP, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
    };
    let classic = async |cluster: &Cluster| {
        let pod = serde_json::to_value(cluster::pod("config", "data")).unwrap();
        let created = create(&cluster.client, pod, true).await.unwrap();
        created["spec"]["initContainers"].as_array().is_none()
    };
    edit("enableNativeSidecar: false").await;
    // Each review goes to either of them.
    let settled = async |expected: bool| {
        for _ in 0..20 {
            if classic(cluster).await != expected {
                return None;
            }
        }
        Some(())
    };
    eventually("the new configuration in use", async || settled(true).await).await;
    edit("enableNativeSidecar: perhaps").await;
    let rejected = "juicefs_sidecar_config_reloads_total{result=\"failed\"}";
    for replica in &cluster.replicas {
        let counted = async || (series(replica.backend.health, rejected)? >= 1).then_some(());
        eventually("the broken one to be counted", counted).await;
        assert_eq!(get(replica.backend.health, "/readyz").unwrap(), "ok\n");
    }
    let note = told(&cluster.client, NAMESPACE, "ConfigurationInvalid", CONFIG_MAP).await;
    assert!(note.contains("enableNativeSidecar"), "{note}");
    assert!(settled(true).await.is_some(), "the last good one is in use");
    let leader = cluster.leader().expect("a leader");
    assert_eq!(series(leader, "juicefs_sidecar_configuration_valid"), Some(0));
    edit("enableNativeSidecar: true").await;
    eventually("the mended one in use", async || settled(false).await).await;
    told(&cluster.client, NAMESPACE, "ConfigurationAccepted", CONFIG_MAP).await;
    cluster.goes_on("the configuration broken and mended", &[]).await;
}

async fn the_api_server_is_restarted(cluster: &mut Cluster) {
    cluster.leaf_good_for(Duration::from_secs(30)).await;
    let before = cluster.plane.pid("kube-apiserver");
    signal(before, Signal::KILL);
    eventually("another API server", async || {
        let now = cluster.plane.pid("kube-apiserver");
        (now != before && cluster.client.apiserver_version().await.is_ok()).then_some(())
    })
    .await;
    cluster.goes_on("the API server restarted", &[Allowed::Away]).await;
}

async fn etcd_stands_still(cluster: &mut Cluster) {
    // Nothing can be renewed meanwhile, nor right afterwards.
    cluster.leaf_good_for(Duration::from_secs(50)).await;
    let etcd = cluster.plane.pid("etcd");
    signal(etcd, Signal::STOP);
    let started = Instant::now();
    while started.elapsed() < PAUSE {
        for replica in &cluster.replicas {
            assert_eq!(get(replica.backend.health, "/readyz").unwrap(), "ok\n");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    signal(etcd, Signal::CONT);
    cluster.goes_on("etcd paused", &[Allowed::Away]).await;
}

/// A claim with this beside what every claim has.
fn claim(name: &str, spec: Value) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}});
    let Value::Object(spec) = spec else { panic!("no object") };
    claim["spec"].as_object_mut().unwrap().extend(spec);
    claim
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
