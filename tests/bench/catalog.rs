//! What a question to the catalogue costs with ten objects of each kind and with ten thousand, and what these weigh.
//!
//! `cargo bench --bench catalog` prints a table, and fails where ten thousand cost more than a few times as much as
//! ten, or weigh more than they should.

#![expect(clippy::expect_used, reason = "a comparison that cannot be set up has failed")]

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use juicefs_sidecar::volume::{
    Catalog,
    catalog::Writer,
    objects::{Claim, Node, PersistentVolume},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

const FEW: usize = 10;
const MANY: usize = 10_000;
/// What many may cost more than few: a tree is a few levels deeper, and the memory is further away.
const RATIO: f64 = 8.0;
/// What ten thousand claims and as many volumes may occupy, in MiB.
const WEIGHT: f64 = 15.0;
/// How long each question is asked.
const MEASURED: Duration = Duration::from_millis(200);

fn uid(number: usize) -> String {
    format!("5f0c2d9e-8d8b-4f0a-9c57-{number:012}")
}

/// As an API server sends it, with all that we do not keep.
fn claim(number: usize) -> Claim {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("data-web-{number}"), "namespace": format!("team-{}", number % 100), "uid": uid(number),
            "resourceVersion": format!("{number}"), "creationTimestamp": "2026-11-01T08:00:00Z",
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": format!("web-{number}")},
            "annotations": {
                "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
                "volume.beta.kubernetes.io/storage-provisioner": "csi.juicefs.com",
                "volume.kubernetes.io/storage-provisioner": "csi.juicefs.com",
            },
            "finalizers": ["kubernetes.io/pvc-protection"],
        },
        "spec": {
            "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "juicefs", "volumeMode": "Filesystem", "volumeName": format!("pvc-{}", uid(number)),
        },
        "status": {"phase": "Bound", "accessModes": ["ReadWriteMany"], "capacity": {"storage": "10Gi"}},
    }))
    .expect("a claim")
}

fn volume(number: usize) -> PersistentVolume {
    let name = format!("pvc-{}", uid(number));
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "uid": uid(number + MANY), "finalizers": ["kubernetes.io/pv-protection"],
            "annotations": {"pv.kubernetes.io/provisioned-by": "csi.juicefs.com"},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"], "capacity": {"storage": "10Gi"}, "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": format!("data-web-{number}"),
                "namespace": format!("team-{}", number % 100), "uid": uid(number),
            },
            "csi": {
                "driver": "csi.juicefs.com", "fsType": "juicefs", "volumeHandle": name,
                "nodePublishSecretRef": {"name": "juicefs-secret", "namespace": "kube-system"},
                "volumeAttributes": {
                    "capacity": "10737418240", "subPath": format!("team-{}/data-web-{number}", number % 100),
                    "juicefs/mount-cpu-limit": "2", "juicefs/mount-memory-limit": "4Gi",
                    "storage.kubernetes.io/csiProvisionerIdentity": "1700000000000-8081-csi.juicefs.com",
                },
            },
            "mountOptions": ["cache-size=2048", "max-uploads=50"],
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "juicefs",
        },
        "status": {"phase": "Bound"},
    }))
    .expect("a volume")
}

/// A static one that nobody uses yet.
fn free(number: usize) -> PersistentVolume {
    serde_json::from_value(json!({
        "metadata": {"name": format!("static-{number}"), "labels": {"for": format!("{number}")}},
        "spec": {"csi": {"driver": "csi.juicefs.com", "volumeHandle": format!("static-{number}")}},
    }))
    .expect("a volume")
}

fn node(number: usize) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": format!("node-{number}"), "labels": {"kubernetes.io/hostname": format!("node-{number}")}},
        "status": {"nodeInfo": {"kubeletVersion": format!("v1.{}.2", 30 + number % 5)}},
    }))
    .expect("a node")
}

fn catalog(size: usize) -> Catalog {
    let mut writer = Writer::default();
    writer.replace_all((0..size).map(claim));
    writer.replace_all((0..size).map(volume));
    (0..size).map(free).for_each(|volume| writer.apply(volume));
    writer.replace_all((0..size).map(node));
    writer.snapshot()
}

type Question = (&'static str, fn(&Catalog, usize) -> bool);

/// Every question, about an object that is there; the number chooses which.
const QUESTIONS: [Question; 7] = [
    ("claim", |catalog, number| {
        catalog.claim(&format!("team-{}", number % 100), &format!("data-web-{number}")).is_some()
    }),
    ("volume", |catalog, number| catalog.volume(&format!("pvc-{}", uid(number))).is_some()),
    ("volumes with a handle", |catalog, number| {
        catalog.volumes_with_handle("csi.juicefs.com", &format!("pvc-{}", uid(number))).count() == 1
    }),
    ("volume reserved for a claim", |catalog, number| {
        catalog
            .volume_reserved_for(&format!("team-{}", number % 100), &format!("data-web-{number}"))
            .is_some()
    }),
    ("free volume for a selector", |catalog, number| {
        let mut claim = Claim::default();
        let labels = BTreeMap::from([("for".to_owned(), format!("{number}"))]);
        claim.spec.selector = Some(LabelSelector { match_labels: Some(labels), match_expressions: None });
        catalog.free_volume_for(&claim, "csi.juicefs.com").is_some()
    }),
    ("node", |catalog, number| catalog.node(&format!("node-{number}")).is_some()),
    ("old nodes", |catalog, _| catalog.remarkable_nodes().next().is_none()),
];

/// Nanoseconds per question, the objects asked for far apart from one another.
fn cost(ask: impl Fn(usize) -> bool, size: usize) -> f64 {
    let started = Instant::now();
    let mut asked = 0_u32;
    let mut number = 0;
    while started.elapsed() < MEASURED {
        for _ in 0..100 {
            number = (number + 7919) % size;
            assert!(ask(black_box(number)), "the object is there");
        }
        asked += 100;
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(asked)
}

/// MiB of this process that are in memory.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

fn main() -> ExitCode {
    let before = resident();
    let mut writer = Writer::default();
    writer.replace_all((0..MANY).map(claim));
    writer.replace_all((0..MANY).map(volume));
    let weight = resident() - before;
    let mut failed = weight > WEIGHT;
    println!("{MANY} claims and {MANY} volumes: {weight:.1} MiB (at most {WEIGHT})");
    let started = Instant::now();
    for number in 0..MANY {
        writer.apply(claim(number));
        black_box(writer.snapshot());
    }
    let change = started.elapsed().as_secs_f64() * 1e6 / 10_000.0;
    println!("a change, decoded, and a copy of the catalogue: {change:.1} µs\n");
    drop(writer);

    let (few, many) = (catalog(FEW), catalog(MANY));
    println!("{:<30} {:>10} {:>10} {:>7}", "question (times in ns)", FEW, MANY, "ratio");
    for (name, ask) in QUESTIONS {
        let (small, large) = (cost(|number| ask(&few, number), FEW), cost(|number| ask(&many, number), MANY));
        let ratio = large / small;
        failed |= ratio > RATIO;
        println!("{name:<30} {small:>10.0} {large:>10.0} {ratio:>6.1}×");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
