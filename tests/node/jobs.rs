//! Pods that end, with clients that are ordinary containers: as on nodes whose kubelet knows no native sidecars.

use std::sync::{OnceLock, RwLockReadGuard};

use serde_json::{Value, json};

use super::{
    node::{Node, Turn, eventually, shared},
    pods::{pod, spec, uid},
};

/// Until the clients are gone after their application, in seconds: the controller, the kubelet's refresh and the flush.
const SECONDS: i64 = 20;
/// The same where the application has a `subPath`: the kubelet keeps that busy, for which the client waits 30 s.
const SECONDS_WITH_SUB_PATH: i64 = 45;

/// A node with an old kubelet, which only pods that tolerate it might run on. Nothing does: it is not there.
fn with_an_old_node() -> Option<Turn<RwLockReadGuard<'static, ()>>> {
    static MADE: OnceLock<()> = OnceLock::new();
    let turn = shared()?;
    let node = turn.node;
    MADE.get_or_init(|| {
        let taint = json!({"key": "old", "effect": "NoSchedule"});
        let old = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "old"},
            "spec": {"unschedulable": true, "taints": [taint]}});
        node.apply(&old.to_string());
        let info = json!({"status": {"nodeInfo": {"kubeletVersion": "v1.28.15", "operatingSystem": "linux",
            "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "machineID": "", "osImage": "", "systemUUID": ""}}});
        let patch = ["patch", "node", "old", "--subresource=status", "--type=merge", "--patch"];
        node.kubectl(&[&patch[..], &[&info.to_string()]].concat()).unwrap();
        eventually("the webhook to know the old node", || {
            let words = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
            let probe = pod("probe", &classic(), &ending("true", "Never"));
            let answer: Value = serde_json::from_str(&node.piped(&words, &probe)?).unwrap();
            let containers = answer["spec"]["containers"].as_array().unwrap();
            if containers.len() == 2 { Ok(()) } else { Err(answer["spec"].to_string()) }
        });
    });
    Some(turn)
}

fn classic() -> Value {
    json!({"sidecar.juicefs.com/mode": "classic"})
}

fn ending(script: &str, policy: &str) -> Value {
    let mut spec = spec(script);
    spec["restartPolicy"] = policy.into();
    spec["tolerations"] = json!([{"key": "old", "operator": "Exists"}]);
    spec
}

/// Waits for the end of a pod and deletes it; how long its client outlived its application, and how both ended.
fn ended(node: &Node, name: &str, phase: &str, within: i64) -> Value {
    eventually("the pod to end", || {
        let pod = node.pod(name);
        if pod["status"]["phase"] == phase {
            Ok(())
        } else {
            node.kubectl(&["describe", "pod", name]).and_then(Err)
        }
    });
    let pod = node.pod(name);
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    let of = |name: &str| statuses.iter().find(|status| status["name"] == name).unwrap();
    let at = |name: &str| {
        let text = of(name)["state"]["terminated"]["finishedAt"].as_str().unwrap();
        text.parse::<k8s_openapi::jiff::Timestamp>().unwrap().as_second()
    };
    let (client, app) = (of("jfs-mount"), of("app"));
    assert_eq!(client["state"]["terminated"]["exitCode"], 0, "{client}");
    assert_eq!(client["restartCount"], 0, "{client}");
    let took = at("jfs-mount") - at("app");
    eprintln!("{name}: the client ended {took} s after its application");
    assert!((0..=within).contains(&took), "{took} s");
    let uid = uid(&pod);
    let app = app.clone();
    node.kubectl(&["delete", "pod", name, "--timeout=60s"]).unwrap();
    node.gone(&uid);
    app
}

#[test]
fn a_job_without_native_sidecars_completes_and_keeps_what_it_wrote() {
    let Some(turn) = with_an_old_node() else { return };
    let node = turn.node;
    // Written, and neither flushed nor closed when the application ends.
    let script = "mkdir -p /data/ended && exec 3>/data/ended/result && head -c 8000000 /dev/zero >&3";
    let template = json!({"metadata": {"annotations": classic()}, "spec": ending(script, "Never")});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "ended"},
        "spec": {"backoffLimit": 0, "template": template}});
    node.apply(&job.to_string());
    let listed = eventually("the Job's pod", || {
        node.kubectl(&["get", "pods", "-l", "job-name=ended", "-o", "name"])
            .and_then(|names| if names.is_empty() { Err("none".to_owned()) } else { Ok(names) })
    });
    let name = listed.trim().trim_start_matches("pod/");
    let done = node.kubectl(&["wait", "--for=condition=complete", "job/ended", "--timeout=90s"]);
    if let Err(error) = done {
        let told = [["describe", "pod", name, "--show-events"], ["logs", name, "--container", "jfs-mount"]]
            .map(|words| node.kubectl(&words).unwrap_or_else(|error| error));
        panic!("{error}\n{}", told.concat());
    }
    ended(node, name, "Succeeded", SECONDS);
    node.kubectl(&["delete", "job", "ended"]).unwrap();
    let check = "test \"$(stat -c %s /data/ended/result)\" = 8000000";
    node.apply(&pod("ended-after", &classic(), &ending(check, "Never")));
    ended(node, "ended-after", "Succeeded", SECONDS);
}

#[test]
fn a_pod_ends_as_its_application_did() {
    let Some(turn) = with_an_old_node() else { return };
    let node = turn.node;
    node.apply(&pod("ends-failed", &classic(), &ending("sleep 1; exit 3", "Never")));
    // Its second attempt succeeds; between the two it needs its volume.
    let again = "test -e /data/again && exit 0; touch /data/again; exit 1";
    node.apply(&pod("ends-again", &classic(), &ending(again, "OnFailure")));
    let mut of_a_part = ending("echo x >/data/part", "Never");
    of_a_part["containers"][0]["volumeMounts"][0]["subPath"] = "ends".into();
    node.apply(&pod("ends-sub-path", &classic(), &of_a_part));
    let failed = ended(node, "ends-failed", "Failed", SECONDS);
    assert_eq!(failed["state"]["terminated"]["exitCode"], 3);
    ended(node, "ends-sub-path", "Succeeded", SECONDS_WITH_SUB_PATH);
    let app = ended(node, "ends-again", "Succeeded", SECONDS);
    assert_eq!((&app["restartCount"], &app["state"]["terminated"]["exitCode"]), (&json!(1), &json!(0)));
}

#[test]
fn the_hook_of_a_client_run_by_somebody_else_ends_nothing() {
    let Some(turn) = with_an_old_node() else { return };
    let node = turn.node;
    let script = "until [ -e /tmp/stop ]; do sleep 0.1; done; cat /data/hook";
    node.apply(&pod("hook", &classic(), &ending(script, "Never")));
    node.ready("hook");
    node.shell("hook", "echo x >/data/hook").unwrap();
    let pod = node.pod("hook");
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let client = containers.iter().find(|container| container["name"] == "jfs-mount").unwrap();
    let hook = client["lifecycle"]["preStop"]["exec"]["command"].as_array().unwrap();
    let words = ["exec", "hook", "--container", "jfs-mount", "--"].into_iter();
    let words: Vec<&str> = words.chain(hook.iter().map(|word| word.as_str().unwrap())).collect();
    node.kubectl(&words).unwrap();
    node.shell("hook", "touch /tmp/stop").unwrap();
    let app = ended(node, "hook", "Succeeded", SECONDS);
    assert_eq!(app["state"]["terminated"]["exitCode"], 0);
}
