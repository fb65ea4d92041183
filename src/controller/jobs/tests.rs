use serde_json::{Value, json};

use super::*;
use crate::inject::status::StatusVolume;

/// A pod of a Job whose application has these states, in the order of its containers.
fn pod(policy: &str, states: &[Value]) -> Value {
    let mut status = status::Status::new(Mode::Classic);
    status.volumes = ["jfs-mount", "jfs-mount-1"]
        .map(|name| StatusVolume { container: name.to_owned(), ..Default::default() })
        .into();
    let clients = ["jfs-mount", "jfs-mount-1"].map(str::to_owned);
    let apps: Vec<_> = (0..states.len()).map(|number| format!("app-{number}")).collect();
    let containers: Vec<_> = clients.iter().chain(&apps).map(|name| json!({"name": name})).collect();
    let running = json!({"running": {"startedAt": "2026-11-22T00:00:00Z"}});
    let statuses = clients.iter().map(|name| json!({"name": name, "state": running}));
    let statuses =
        statuses.chain(apps.iter().zip(states).map(|(name, state)| json!({"name": name, "state": state})));
    json!({
        "metadata": {"name": "job", "namespace": "team", "annotations": {STATUS: status.to_text()}},
        "spec": {"restartPolicy": policy, "containers": containers, "volumes": [{"name": "jfs-word", "downwardAPI": {
            "items": [{"path": "application-ended", "fieldRef": {"fieldPath": word_field()}}]}}]},
        "status": {"phase": "Running", "containerStatuses": statuses.collect::<Vec<_>>()},
    })
}

fn exit(code: i32) -> Value {
    json!({"terminated": {"exitCode": code}})
}

fn ends(pod: &Value) -> bool {
    let part = |name: &str| pod[name].clone();
    let (metadata, spec) =
        (serde_json::from_value(part("metadata")).unwrap(), serde_json::from_value(part("spec")).unwrap());
    let status: Status = serde_json::from_value(part("status")).unwrap();
    let found = to_be_ended(&metadata, &spec, Some(&status));
    assert!(to_be_ended(&metadata, &spec, None).is_none());
    let all = || BTreeSet::from(["jfs-mount".to_owned(), "jfs-mount-1".to_owned()]);
    found.is_some_and(|clients| clients == all())
}

#[test]
fn an_application_has_ended_when_none_of_it_is_started_again() {
    let (running, waiting) = (json!({"running": {}}), json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    for (policy, states, wanted) in [
        ("Never", vec![exit(0)], true),
        ("Never", vec![exit(3)], true),
        ("Never", vec![exit(0), exit(1)], true),
        ("Never", vec![exit(0), running.clone()], false),
        ("Never", vec![running.clone()], false),
        ("Never", vec![waiting.clone()], false),
        ("Never", vec![json!({})], false),
        ("OnFailure", vec![exit(0)], true),
        ("OnFailure", vec![exit(0), exit(0)], true),
        ("OnFailure", vec![exit(1)], false),
        ("OnFailure", vec![exit(0), exit(1)], false),
        ("OnFailure", vec![waiting], false),
        ("Always", vec![exit(0)], false),
        ("", vec![exit(0)], false),
        // Nobody but clients.
        ("Never", vec![], false),
    ] {
        assert_eq!(ends(&pod(policy, &states)), wanted, "{policy} {states:?}");
    }
}

#[test]
fn a_container_may_have_a_policy_of_its_own() {
    let restart = |operator: &str, values: &[i32]| json!({"action": "Restart", "exitCodes": {"operator": operator, "values": values}});
    for (own, rules, code, wanted) in [
        (json!("Always"), json!(null), 0, false),
        (json!("OnFailure"), json!(null), 1, false),
        (json!("OnFailure"), json!(null), 0, true),
        (json!("Never"), json!([restart("In", &[42])]), 42, false),
        (json!("Never"), json!([restart("In", &[42])]), 1, true),
        (json!("Never"), json!([restart("NotIn", &[0])]), 1, false),
        (json!("Never"), json!([restart("NotIn", &[0])]), 0, true),
        (json!("Never"), json!([restart("Like", &[0])]), 1, false),
        (json!("Never"), json!([{"action": "Restart"}]), 1, false),
    ] {
        let mut pod = pod("Never", &[exit(code)]);
        let app = &mut pod["spec"]["containers"][2];
        (app["restartPolicy"], app["restartPolicyRules"]) = (own.clone(), rules.clone());
        assert_eq!(ends(&pod), wanted, "{own} {rules} {code}");
    }
}

#[test]
fn only_clients_that_listen_and_have_not_been_told_are() {
    let over = pod("Never", &[exit(0)]);
    assert!(ends(&over));
    for (path, value) in [
        ("/metadata/deletionTimestamp", json!("2026-11-22T00:00:00Z")),
        ("/metadata/annotations", json!({})),
        ("/metadata/annotations/sidecar.juicefs.com~1status", json!("{}")),
        ("/metadata/annotations/sidecar.juicefs.com~1application-ended", json!("true")),
        ("/spec/volumes", json!([])),
        ("/spec/volumes/0/downwardAPI/items/0/fieldRef/fieldPath", json!("metadata.annotations['x']")),
        ("/status/phase", json!("Succeeded")),
        ("/status/phase", json!("Pending")),
        ("/status/containerStatuses", json!([])),
        ("/status/containerStatuses/2/state", json!(null)),
    ] {
        let mut pod = over.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = pod.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(number) => parent[number] = value,
            Err(_) => parent[key.replace("~1", "/")] = value,
        }
        assert!(!ends(&pod), "{path}");
    }
    for (field, value) in [("native", json!(true)), ("mode", json!("resilient"))] {
        let mut pod = over.clone();
        let annotation = &mut pod["metadata"]["annotations"][STATUS];
        let mut status: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
        status[field] = value;
        *annotation = status.to_string().into();
        assert!(!ends(&pod), "{field}");
    }
    // Of clients that have ended by themselves nothing is left to be told.
    let mut pod = over;
    for client in 0..2 {
        pod["status"]["containerStatuses"][client]["state"] = exit(0);
    }
    assert!(!ends(&pod));
}
