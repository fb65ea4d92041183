//! How the memory that a review takes, gives back and takes again grows with its lists: with their length, and not
//! with its square.
//!
//! Counted is every allocation, so that a list which is copied for each of its entries shows, however short the copies
//! live; the count is the same in every run. What only compares does not show here: the bounds of the lists keep it to
//! milliseconds.

use juicefs_sidecar::{
    admission::{Endpoint, answer},
    config::{Config, Process},
    inject::{Engine, Family},
    offline::{Manifests, documents},
    outcome::Code,
};
use serde_json::{Value, json};

use crate::counted::{Work, work};

/// How much longer the longer list is.
const TIMES: usize = 4;
/// Above four, which is linear, and far below sixteen, which is quadratic.
const MOST: f64 = 5.0;

/// A pod with this many entries in one of its lists.
type Shape = fn(usize) -> Value;

/// Each with the decision it is to get, as a pod that is refused early would show nothing, and with a length of which
/// four times as many are still taken.
const SHAPES: [(&str, Code, usize, Shape); 7] = [
    ("mounts of a volume", Code::Injected, 500, |count| {
        pod(&[volume("v", "data")], &json!([container("app", (0..count).map(|at| mount("v", at)))]))
    }),
    ("volumes of one claim", Code::Injected, 250, |count| {
        let volumes: Vec<_> = (0..count).map(|at| volume(&format!("v{at}"), "data")).collect();
        let mounts = (0..count).map(|at| mount(&format!("v{at}"), at));
        pod(&volumes, &json!([container("app", mounts)]))
    }),
    ("claims of others", Code::NoJuicefsVolume, 250, |count| {
        let volumes: Vec<_> =
            (0..count).map(|at| volume(&format!("v{at}"), &format!("other-{at}"))).collect();
        let mounts = (0..count).map(|at| mount(&format!("v{at}"), at));
        pod(&volumes, &json!([container("app", mounts)]))
    }),
    ("claims that do not exist", Code::ClaimMissing, 250, |count| {
        let volumes: Vec<_> = (0..count).map(|at| volume(&format!("v{at}"), &format!("none-{at}"))).collect();
        pod(&volumes, &json!([container("app", std::iter::empty())]))
    }),
    ("claims", Code::Injected, 100, |count| {
        let volumes: Vec<_> = (0..count).map(|at| volume(&format!("v{at}"), &format!("ours-{at}"))).collect();
        let mounts = (0..count).map(|at| mount(&format!("v{at}"), at));
        pod(&volumes, &json!([container("app", mounts)]))
    }),
    ("containers", Code::Injected, 125, |count| {
        let containers = (0..count).map(|at| container(&format!("app-{at}"), [mount("v", at)].into_iter()));
        pod(&[volume("v", "data")], &containers.collect())
    }),
    ("ports", Code::Injected, 500, |count| {
        let mut container = container("app", [mount("v", 0)].into_iter());
        container["ports"] = (1..=count).map(|port| json!({"containerPort": port})).collect();
        pod(&[volume("v", "data")], &json!([container]))
    }),
];

fn volume(name: &str, claim: &str) -> Value {
    json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
}

fn mount(volume: &str, number: usize) -> Value {
    json!({"name": volume, "mountPath": format!("/d/{number}")})
}

fn container(name: &str, mounts: impl Iterator<Item = Value>) -> Value {
    json!({"name": name, "volumeMounts": mounts.collect::<Vec<_>>()})
}

fn pod(volumes: &[Value], containers: &Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"containers": containers, "volumes": volumes}})
}

/// A cluster with the claim `data`, many more of ours, and as many of others.
fn cluster() -> Manifests {
    let claims = |driver: &str, name: &str| {
        [
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("pv-{name}")},
                "spec": {"claimRef": {"namespace": "team", "name": name}, "csi": {"driver": driver,
                    "volumeHandle": name, "nodePublishSecretRef": {"namespace": "team", "name": "s"}}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "team", "name": name},
                "spec": {"volumeName": format!("pv-{name}")}}),
        ]
    };
    let mut items =
        vec![json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "s"},
        "stringData": {"name": "jfs", "metaurl": "redis://r/1"}})];
    items.extend(claims("csi.juicefs.com", "data"));
    for number in 0..1000 {
        items.extend(claims("csi.juicefs.com", &format!("ours-{number}")));
        items.extend(claims("csi.example.com", &format!("other-{number}")));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    Manifests::gather(&documents::parse("cluster", &list).unwrap(), "default").unwrap().0
}

fn cost(pod: &Value, code: Code, engine: &Engine<'_>) -> Work {
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": "team", "object": pod}})
    .to_string();
    work(|| {
        let answer = answer(body.as_bytes(), Endpoint::Inject(Family::Node), engine);
        assert_eq!(answer.summary.code, code, "{}", answer.summary.message);
    })
}

#[test]
fn memory_is_taken_for_each_entry_of_a_list_and_not_for_each_pair() {
    let (cluster, config, process) = (cluster(), Config::default(), Process::default());
    let engine = Engine { catalog: &cluster.catalog, config: &config, process: &process, explain: false };
    let mut failures = Vec::new();
    for (name, code, few, shape) in SHAPES {
        let (short, long) = (cost(&shape(few), code, &engine), cost(&shape(TIMES * few), code, &engine));
        #[expect(clippy::cast_precision_loss, reason = "a ratio of a few digits")]
        let ratio = |long: usize, short: usize| long as f64 / short as f64;
        let (count, bytes) = (ratio(long.allocations, short.allocations), ratio(long.bytes, short.bytes));
        println!("{count:>5.1} times the allocations, {bytes:>5.1} times the bytes  {name}");
        if count > MOST || bytes > MOST {
            failures.push(format!("{name}: {count:.1} times the allocations, {bytes:.1} times the bytes"));
        }
    }
    assert!(failures.is_empty(), "four times the entries cost {failures:#?}");
}
