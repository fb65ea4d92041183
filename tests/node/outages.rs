//! What happens to pods when something of the node, or beside it, is away for a while.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    node::{Node, alone, eventually},
    pods::{ROUNDS, WAIT, begin, delete, pod, restarts, spec, told},
};

/// How long redis is away: longer than any probe's patience.
const AWAY: Duration = Duration::from_secs(20);

/// A pod that does rounds of its own from its start on: what is executed in a container ends with kubelet and runtime.
fn at_work(node: &Node, name: &str) {
    let rounds = ROUNDS.replace("kills", name);
    node.apply(&pod(name, &json!({}), &spec(&format!("( {rounds} ) >/tmp/said\ntouch /tmp/done\n{WAIT}"))));
    node.ready(name);
    busy(node, name);
}

/// Waits until the pod has done more rounds than now.
fn busy(node: &Node, name: &str) {
    let count = || {
        let text = node.shell(name, &format!("ls /data/{name} | wc -l"))?;
        text.trim().parse::<u64>().map_err(|error| format!("{text}: {error}"))
    };
    let before = eventually("the number of rounds", count);
    eventually("further rounds", || {
        let now = count()?;
        if now > before + 20 { Ok(()) } else { Err(format!("{now} after {before}")) }
    });
}

/// Ends the rounds: none may have failed, and nothing may have been started again.
fn has_noticed_nothing(node: &Node, name: &str) {
    node.shell(name, "touch /tmp/stop").unwrap();
    eventually("the rounds to end", || node.shell(name, "test -e /tmp/done"));
    let said = node.shell(name, "cat /tmp/said").unwrap();
    let errors = node.shell(name, "cat /tmp/errors 2>/dev/null || true").unwrap();
    let counts: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    eprintln!("{name}: {said}");
    assert_eq!(counts[1..], [0, 0, 0], "rounds, done again, lost, wrong: {said}{errors}");
    assert_eq!(restarts(&node.pod(name)), []);
    delete(node, name);
}

/// The one process on the node whose command line begins so.
fn process(node: &Node, command: &str) -> Result<String, String> {
    let found = node.inside(&["pgrep", "-f", &format!("^{command}")])?;
    let mut found = found.split_whitespace();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        (one, more) => Err(format!("{command}: {one:?} {more:?}")),
    }
}

/// Kills a part of the node, which begins again, under a pod at work.
fn killed(node: &Node, name: &str, command: &str) {
    at_work(node, name);
    let old = process(node, command).unwrap();
    node.inside(&["kill", "-9", &old]).unwrap();
    eventually("it to begin again", || {
        let new = process(node, command)?;
        if new == old { Err(new) } else { Ok(()) }
    });
    busy(node, name);
    // It does its work again.
    let later = format!("{name}-later");
    begin(node, &later);
    delete(node, &later);
    has_noticed_nothing(node, name);
}

#[test]
fn a_kubelet_that_is_killed_goes_unnoticed() {
    let Some(turn) = alone() else { return };
    killed(turn.node, "kubelet-killed", "[^ ]*kube-?[0-9a-f]* kubelet ");
}

#[test]
fn a_container_runtime_that_is_killed_goes_unnoticed() {
    let Some(turn) = alone() else { return };
    killed(turn.node, "runtime-killed", "containerd ");
}

#[test]
fn a_metadata_engine_that_is_away_is_waited_for() {
    let Some(turn) = alone() else { return };
    let node = turn.node;
    at_work(node, "redis-away");
    let redis = process(node, "redis-server ").unwrap();
    node.inside(&["kill", "-STOP", &redis]).unwrap();
    thread::sleep(AWAY);
    node.inside(&["kill", "-CONT", &redis]).unwrap();
    busy(node, "redis-away");
    has_noticed_nothing(node, "redis-away");
}

#[test]
fn a_sandbox_that_is_killed_is_made_again_with_its_mount() {
    let Some(turn) = alone() else { return };
    let node = turn.node;
    begin(node, "sandbox");
    node.shell("sandbox", "echo before >/data/sandbox").unwrap();
    let filter = "labels.\"io.kubernetes.pod.name\"==sandbox,labels.\"io.cri-containerd.kind\"==sandbox";
    let id = node.inside(&["ctr", "-n", "k8s.io", "containers", "list", "-q", filter]).unwrap();
    node.inside(&["ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id.trim()]).unwrap();
    eventually("the containers to be started again", || {
        let restarted = restarts(&node.pod("sandbox"));
        if restarted.iter().any(|(name, _)| name == "app") { Ok(()) } else { Err(format!("{restarted:?}")) }
    });
    node.ready("sandbox");
    let read = "cat /data/sandbox && echo after >/data/sandbox && cat /data/sandbox";
    assert_eq!(eventually("the mount", || node.shell("sandbox", read)), "before\nafter\n");
    told(node, "sandbox", "MountDetached", "a container could not be started again");
    delete(node, "sandbox");
}
