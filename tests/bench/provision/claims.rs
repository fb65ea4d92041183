//! How long claims wait for their volumes, one by one and a thousand at once, and what that asks of the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Secret},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinSet,
};

use super::{
    control_plane::ControlPlane,
    controller,
    figures::{Table, quantile},
    file_system, float,
    objects::{OWN, create, install},
    program::Program,
    usage::{memory, processor},
};

const CLASS: &str = "provision";
/// A namespace with injection, whose claims have secrets as well.
const NAMESPACE: &str = "provision";
/// Claims that come one after the other, of which the first few are not counted.
const ONE_BY_ONE: usize = 60;
const WARM_UP: usize = 10;
/// Claims that come at once.
const AT_ONCE: usize = 1_000;
/// Writers at once.
const WRITERS: usize = 16;

pub(crate) async fn measure(plane: &ControlPlane, table: &mut Table) {
    install(plane);
    let client = plane.client().await;
    plane.namespace(NAMESPACE, &[("juicefs.com/enable-injection", "true")]).await;
    let file_system = file_system::shared().one();
    file_system.format();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    create(&secrets, file_system.secret(NAMESPACE, "user")).await;
    create(&Api::<StorageClass>::all(client.clone()), class()).await;
    let (controller, _) = controller(plane, &[]).await;
    let mut bound = bound(&client);

    let mut waits = Vec::new();
    for number in 0..ONE_BY_ONE {
        let name = format!("one-{number}");
        let begun = Instant::now();
        claim(&client, &name).await;
        while bound.recv().await.expect("a watch") != name {}
        if number >= WARM_UP {
            waits.push(begun.elapsed());
        }
    }
    let [half, most] = [0.5, 0.99].map(|share| quantile(&mut waits, share).as_secs_f64());
    table.at_most("a claim until it is bound, p50, one after the other", half, 0.5, "s");
    table.note("the same, p99", format!("{most:.2} s"));
    at_once(plane, &client, &controller, &mut bound, table).await;
}

async fn at_once(
    plane: &ControlPlane,
    client: &Client,
    controller: &Program,
    bound: &mut UnboundedReceiver<String>,
    table: &mut Table,
) {
    let audit = plane.state().join("log/audit.json");
    let (before, processor_before) = (calls(&audit), processor(controller.pid()));
    let mut volumes = arriving(Api::<PersistentVolume>::all(client.clone()), |_| true);
    for _ in 0..ONE_BY_ONE {
        volumes.recv().await.expect("a watch");
    }
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for first in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            for number in (first..AT_ONCE).step_by(WRITERS) {
                claim(&client, &format!("many-{number}")).await;
            }
        });
    }
    for _ in 0..AT_ONCE {
        volumes.recv().await.expect("a watch");
    }
    let took = begun.elapsed().as_secs_f64();
    table.at_most("1,000 claims at once, until the last has its volume", took, 60.0, "s");
    while writers.join_next().await.is_some() {}
    // Events and secrets may come later than the volumes.
    let done = |calls: &BTreeMap<String, u64>| {
        let created = calls.get("create secrets").copied().unwrap_or_default();
        created >= before.get("create secrets").copied().unwrap_or_default() + AT_ONCE as u64
    };
    while !done(&calls(&audit)) {
        assert!(begun.elapsed() < Duration::from_mins(5), "secrets are missing");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    table.note("the same, until the last has its secret", format!("{:.2} s", begun.elapsed().as_secs_f64()));
    for _ in 0..AT_ONCE {
        bound.recv().await.expect("a watch");
    }
    let took = begun.elapsed().as_secs_f64();
    table.note("the same, until Kubernetes has bound the last", format!("{took:.2} s"));
    let used = processor(controller.pid()) - processor_before;
    table.note(
        "the controller's processor time for each",
        format!("{:.2} ms", used * 1e3 / float(AT_ONCE as u64)),
    );
    for (act, count) in calls(&audit) {
        let each = float(count - before.get(&act).copied().unwrap_or_default()) / float(AT_ONCE as u64);
        if each >= 0.05 {
            table.note(&format!("API calls for each: {act}"), format!("{each:.2}"));
        }
    }
    table.note("resident memory at its highest", format!("{:.2} MiB", memory(controller.pid(), "VmHWM")));
}

fn class() -> Value {
    json!({"metadata": {"name": CLASS}, "provisioner": "csi.juicefs.com", "parameters": {
        "csi.storage.k8s.io/node-publish-secret-name": "user",
        "csi.storage.k8s.io/node-publish-secret-namespace": NAMESPACE}})
}

async fn claim(client: &Client, name: &str) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    let claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteMany"],
        "storageClassName": CLASS, "resources": {"requests": {"storage": "1Gi"}}}});
    create(&claims, claim).await;
}

/// The names of claims as they become bound, each once.
fn bound(client: &Client) -> UnboundedReceiver<String> {
    let is_bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    };
    arriving(Api::namespaced(client.clone(), NAMESPACE), is_bound)
}

/// The names of objects that are as wanted, each once.
fn arriving<K>(api: Api<K>, is_wanted: impl Fn(&K) -> bool + Send + 'static) -> UnboundedReceiver<String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        let mut changes = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(change) = changes.next().await {
            let Ok(Event::Apply(object) | Event::InitApply(object)) = change else { continue };
            let name = object.meta().name.clone().unwrap_or_default();
            if is_wanted(&object) && seen.insert(name.clone()) && sender.send(name).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What the controller has asked of the API server, by verb and resource, but for its Lease.
fn calls(audit: &Path) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    let user = format!("system:serviceaccount:{OWN}:juicefs-sidecar-controller");
    for line in fs::read_to_string(audit).expect("the audit log").lines().filter(|line| line.contains(&user))
    {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (verb, resource) = (text(&event["verb"]), text(&event["objectRef"]["resource"]));
        let sub = text(&event["objectRef"]["subresource"]);
        if event["user"]["username"] == user.as_str() && resource != "leases" {
            let slash = if sub.is_empty() { "" } else { "/" };
            *calls.entry(format!("{verb} {resource}{slash}{sub}")).or_default() += 1;
        }
    }
    calls
}
