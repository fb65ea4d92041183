//! The same again and again, and how long it takes: `NODE_ROUNDS` says how often (one or two in the gate). Bars are for
//! a machine that does nothing else.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    node::{Node, rounds, shared},
    pods::{WAIT, pod, spec},
};

/// Longer than any pod may take to come or go.
const PATIENCE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(25);
/// Pods that go at once.
const AT_ONCE: usize = 5;

/// Runs it; the node is made outside of any runtime.
fn alone<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Times, the shortest first.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    fn middle(&self) -> f64 {
        self.0[self.0.len() / 2].as_secs_f64()
    }

    fn longest(&self) -> f64 {
        self.0.last().unwrap().as_secs_f64()
    }
}

async fn create(pods: &Api<Pod>, name: &str, mode: Option<&str>) {
    let annotations = mode.map_or(json!({}), |mode| json!({"sidecar.juicefs.com/mode": mode}));
    let mut spec = spec(WAIT);
    if mode.is_none() {
        spec["volumes"] = json!([]);
        spec["containers"][0]["volumeMounts"] = json!([]);
    }
    let mut pod: Value = serde_json::from_str(&pod(name, &annotations, &spec)).unwrap();
    pod["metadata"]["labels"] = json!({"counts": "true"});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

/// Waits until none of the pods is left that are not as they are to be; when each was.
async fn until(
    pods: &Api<Pod>,
    names: &[String],
    is: impl Fn(Option<&Pod>) -> bool,
) -> Vec<(String, Instant)> {
    let deadline = Instant::now() + PATIENCE;
    let (mut left, mut done) = (names.to_vec(), Vec::new());
    while !left.is_empty() {
        let listed = pods.list(&ListParams::default().labels("counts=true")).await.unwrap();
        left.retain(|name| {
            let pod = listed.items.iter().find(|pod| pod.metadata.name.as_ref() == Some(name));
            let there = is(pod);
            if there {
                done.push((name.clone(), Instant::now()));
            }
            !there
        });
        assert!(left.is_empty() || Instant::now() < deadline, "waited in vain for {left:?}");
        tokio::time::sleep(POLL).await;
    }
    done
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let conditions =
        pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref()).map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Deletes pods and waits for the last; how long each took.
async fn delete(pods: &Api<Pod>, names: &[String]) -> Vec<Duration> {
    let since = Instant::now();
    for name in names {
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until(pods, names, |pod| pod.is_none()).await.into_iter().map(|(_, at)| at - since).collect()
}

async fn deletions(node: &Node, mode: &str) {
    let pods = node.pods().await;
    let (mut singly, mut at_once) = (Vec::new(), Vec::new());
    for round in 0..rounds(1) {
        let names: Vec<_> = (0..2 * AT_ONCE).map(|number| format!("go-{mode}-{round}-{number}")).collect();
        for name in &names {
            create(&pods, name, Some(mode)).await;
        }
        until(&pods, &names, is_ready).await;
        let (one_by_one, together) = names.split_at(AT_ONCE);
        for name in one_by_one {
            singly.extend(delete(&pods, std::slice::from_ref(name)).await);
        }
        at_once.extend(delete(&pods, together).await);
    }
    for (how, times) in [("singly", singly), ("at once", at_once)] {
        let (count, times) = (times.len(), Times::of(times));
        let (middle, longest) = (times.middle(), times.longest());
        eprintln!(
            "{mode}: {count} pods deleted {how}: gone after {middle:.1} s (p50), {longest:.1} s at the longest"
        );
        assert!(longest < 30.0, "a pod took {longest:.1} s to go");
    }
}

#[test]
fn resilient_pods_go_when_they_are_told() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    alone(deletions(node, "resilient"));
}

#[test]
fn classic_pods_go_when_they_are_told() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    alone(deletions(node, "classic"));
}

#[test]
fn an_application_starts_soon_after_one_without_a_volume() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    alone(starts(node));
}

async fn starts(node: &Node) {
    let pods = node.pods().await;
    let modes = [None, Some("resilient"), Some("classic")];
    let mut times = modes.map(|_| Vec::new());
    for round in 0..rounds(2) {
        for (mode, times) in modes.iter().zip(&mut times) {
            let name = format!("start-{}-{round}", mode.unwrap_or("plain"));
            let since = Instant::now();
            create(&pods, &name, *mode).await;
            let ready = until(&pods, std::slice::from_ref(&name), is_ready).await;
            times.push(ready[0].1 - since);
            delete(&pods, &[name]).await;
        }
    }
    let [plain, resilient, classic] = times.map(|times| Times::of(times).middle());
    eprintln!(
        "ready after {plain:.2} s without a volume (p50), {resilient:.2} s resilient, {classic:.2} s classic: \
         {:.2} and {:.2} s later",
        resilient - plain,
        classic - plain
    );
    assert!(resilient - plain < 10.0 && classic - plain < 10.0);
}
