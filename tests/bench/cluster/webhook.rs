//! The program itself: how long until it is ready, what it occupies, what a review takes, and what it asks for.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{
    client::Server,
    control_plane::ControlPlane,
    figures::{Table, milliseconds, quantile},
    objects::{MANY, OWN, claim_name, namespace, pod},
    program::Program,
    service::get,
    usage::{memory, processor},
};

/// Reviews per second.
const PACE: u32 = 200;
/// For how long.
const SECONDS: u32 = 20;
/// How often it is started.
const STARTS: usize = 3;

pub(crate) async fn measure(plane: &ControlPlane, table: &mut Table) {
    let kubeconfig = plane.kubeconfig(OWN, "juicefs-sidecar-webhook").await;
    let ca = plane.state().join("bench-ca.crt");
    let mut starts = Vec::new();
    let mut running = None;
    for _ in 0..STARTS {
        drop(running.take());
        let begun = Instant::now();
        let program = start(&kubeconfig, &ca);
        let [address, metrics] = program.listening();
        while get(metrics, "/readyz").ok().as_deref() != Some("ok\n") {
            assert!(begun.elapsed() < Duration::from_mins(2), "it does not become ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        starts.push(begun.elapsed());
        table.note("processor time until ready", format!("{:.2} s", processor(program.pid())));
        running = Some((program, address, metrics));
    }
    let (program, address, metrics) = running.expect("one of several");
    let slowest = quantile(&mut starts, 1.0).as_secs_f64();
    table.at_most(&format!("ready after its start, the slowest of {STARTS}"), slowest, 1.0, "s");
    table.at_most("resident memory once ready", memory(program.pid(), "VmRSS"), 32.0, "MiB");
    let file = memory(program.pid(), "RssFile");
    table.note("of that the program's own file, which the kernel can drop", format!("{file:.2} MiB"));

    let server = Server { address, ca: fs::read_to_string(&ca).expect("the CA"), identity: None };
    let audit = plane.state().join("log/audit.json");
    let (asked_before, before) = (asked(&audit), buckets(&scrape(metrics)));
    let mut latencies = paced(&server).await;
    let after = buckets(&scrape(metrics));
    let calls = asked(&audit).saturating_sub(asked_before);
    let passed: Vec<_> =
        after.iter().zip(&before).map(|((edge, after), (_, before))| (*edge, after - before)).collect();
    table.at_most("a review at 200/s, p50, server side, at most", edge(&passed, 0.5) * 1e3, 0.2, "ms");
    table.at_most("a review at 200/s, p99, server side, at most", edge(&passed, 0.99) * 1e3, 2.0, "ms");
    let [half, most] = [0.5, 0.99].map(|share| milliseconds(quantile(&mut latencies, share)));
    table.note("a review at 200/s, with TLS and client, p50 and p99", format!("{half:.2} and {most:.2} ms"));
    let count = f64::from(u32::try_from(latencies.len()).expect("not as many"));
    let per_review = f64::from(u32::try_from(calls).expect("not as many")) / count;
    table.at_most("API calls per review, by the API server's audit log", per_review, 0.0, "calls");
    table.at_most("resident memory afterwards", memory(program.pid(), "VmRSS"), 32.0, "MiB");
    table.note("resident memory at its highest", format!("{:.2} MiB", memory(program.pid(), "VmHWM")));
}

fn start(kubeconfig: &Path, ca: &Path) -> Program {
    Program::start(|command| {
        command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
        command.args(["--namespace", OWN, "--ca-out"]).arg(ca).arg("--kubeconfig").arg(kubeconfig);
    })
}

/// Asks about every claim in turn, evenly, over as many connections as an API server keeps.
async fn paced(server: &Server) -> Vec<Duration> {
    const CONNECTIONS: u32 = 10;
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..CONNECTIONS {
        let server = server.clone();
        tasks.spawn(async move {
            let mut connection = server.http1().await.expect("a connection").0;
            let mut ticks = tokio::time::interval(Duration::from_secs(1) * CONNECTIONS / PACE);
            let mut latencies = Vec::new();
            for number in (first..PACE * SECONDS).step_by(CONNECTIONS as usize) {
                let body = Bytes::from(review(number as usize * 7 % MANY).to_string());
                ticks.tick().await;
                let begun = Instant::now();
                let response = connection.post("/juicefs/inject-v1-pod", body).await.expect("an answer");
                latencies.push(begun.elapsed());
                let answer: Value = serde_json::from_slice(response.body()).expect("a review");
                let code = &answer["response"]["auditAnnotations"]["decision"];
                assert_eq!(code, "injected", "{answer}");
            }
            latencies
        });
    }
    let mut latencies = Vec::new();
    while let Some(task) = tasks.join_next().await {
        latencies.extend(task.expect("a connection's task"));
    }
    latencies
}

/// What an API server asks when a pod with this claim is to be created.
pub(crate) fn review(number: usize) -> Value {
    let namespace = namespace(number);
    let group = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": format!("2b3016b3-52d9-41b3-8e12-{number:012}"), "kind": group, "resource": resource,
        "requestKind": group, "requestResource": resource, "namespace": namespace, "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod(&claim_name(number), number, &namespace), "oldObject": null, "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }})
}

/// How often the webhook has asked the API server for anything, as that has it on record.
fn asked(audit: &Path) -> usize {
    let user = format!("\"username\":\"system:serviceaccount:{OWN}:juicefs-sidecar-webhook\"");
    fs::read_to_string(audit).expect("the audit log").lines().filter(|line| line.contains(&user)).count()
}

fn scrape(metrics: SocketAddr) -> String {
    get(metrics, "/metrics").expect("its metrics")
}

/// How many reviews of pods took at most so many seconds, by the program's own histogram.
fn buckets(metrics: &str) -> Vec<(f64, u64)> {
    let lines = metrics.lines().filter(|line| {
        line.contains("review_duration_seconds_bucket") && line.contains("endpoint=\"inject\"")
    });
    let bucket = |line: &str| {
        let (edge, _) = line.split_once("le=\"")?.1.split_once('"')?;
        let (_, count) = line.rsplit_once(' ')?;
        Some((edge.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
    };
    lines.filter_map(bucket).collect()
}

/// The edge of the first bucket that has this share of all.
fn edge(buckets: &[(f64, u64)], share: f64) -> f64 {
    let count = |number: u64| f64::from(u32::try_from(number).expect("not as many"));
    let all = buckets.last().map_or(0.0, |(_, all)| count(*all));
    assert!(all > 0.0, "nothing was counted");
    buckets.iter().find(|(_, below)| count(*below) >= all * share).map_or(f64::INFINITY, |(edge, _)| *edge)
}
