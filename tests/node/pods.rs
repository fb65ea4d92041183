//! The lives of ordinary pods whose claim is a JuiceFS volume.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use super::node::{Node, eventually, rounds, shared};

/// The application's image.
const IMAGE: &str = "localhost/busybox:1";
/// Runs until it is told to stop.
pub(crate) const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
/// The client's image.
const CLIENT: &str = "juicedata/mount:ce-v1.4.2";
/// The client's image under another name, to be changed to.
const OTHER_CLIENT: &str = "localhost/juicefs-mount:ce-1.4.2";

/// The specification of a pod that runs a script with the volume at `/data`.
pub(crate) fn spec(script: &str) -> Value {
    json!({
        "containers": [{"name": "app", "image": IMAGE, "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    })
}

pub(crate) fn pod(name: &str, annotations: &Value, spec: &Value) -> String {
    let metadata = json!({"name": name, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

pub(crate) fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// How often the containers of a pod were started again.
pub(crate) fn restarts(pod: &Value) -> Vec<(String, i64)> {
    let statuses = ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    statuses
        .map(|status| (status["name"].as_str().unwrap().to_owned(), status["restartCount"].as_i64().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Makes a pod that runs until it is told to stop, and waits until it is ready.
pub(crate) fn begin(node: &Node, name: &str) {
    node.apply(&pod(name, &json!({}), &spec(WAIT)));
    node.ready(name);
}

/// Deletes a pod and waits until nothing of it is left, in the API server and on the node.
pub(crate) fn delete(node: &Node, name: &str) {
    let uid = uid(&node.pod(name));
    node.kubectl(&["delete", "pod", name, "--timeout=60s"]).unwrap();
    node.gone(&uid);
}

#[test]
fn a_deployment_finds_what_another_pod_wrote_and_leaves_nothing_behind() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec(WAIT)}}});
    node.apply(&deployment.to_string());
    eventually("two replicas", || {
        let ready = node.kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"])?;
        if ready == "2" { Ok(()) } else { node.kubectl(&["get", "pods"]).and_then(Err) }
    });
    let listed = node.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"]).unwrap();
    let pods: Value = serde_json::from_str(&listed).unwrap();
    let names = [0, 1].map(|index| pods["items"][index]["metadata"]["name"].as_str().unwrap());
    let status: Value = serde_json::from_str(
        pods["items"][0]["metadata"]["annotations"]["sidecar.juicefs.com/status"].as_str().unwrap(),
    )
    .unwrap();
    assert_eq!((&status["mode"], &status["containers"]), (&json!("resilient"), &json!(["jfs-agent"])));
    // Not something else that is writable.
    let table = node.shell(names[0], "grep ' /data ' /proc/mounts").unwrap();
    assert!(table.contains("fuse.juicefs"), "{table}");
    let written = node.shell(
        names[0],
        "head -c 3000000 /dev/urandom >/data/deployment && mkdir -p /data/a/b && echo x >/data/a/b/c && sha256sum </data/deployment",
    );
    assert_eq!(
        node.shell(names[1], "cat /data/a/b/c; sha256sum </data/deployment").unwrap(),
        format!("x\n{}", written.unwrap())
    );
    // Keys and operations are in there, for the client's user alone; root may read them, as root may read the node.
    let special = node.shell(names[0], "stat -c '%u %a' /data/.config /data/.accesslog").unwrap();
    assert_eq!(special, "2104124019 400\n2104124019 400\n");
    let uids: Vec<_> = [0, 1].map(|index| uid(&pods["items"][index])).into();
    node.kubectl(&["delete", "deployment", "web"]).unwrap();
    for uid in uids {
        node.gone(&uid);
    }
}

#[test]
fn a_job_with_all_kinds_of_mounts_completes() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    // Any user may write there.
    let prepare = "mkdir -p /all/job/of-1000 && chmod 777 /all/job/of-1000 && echo prepared >/all/job/note";
    let work =
        "set -e; test \"$(cat /note/note)\" = prepared; echo done >/mine/result; ! touch /note/x 2>/dev/null";
    let mut spec = spec(work);
    spec["restartPolicy"] = "Never".into();
    spec["initContainers"] = json!([{"name": "prepare", "image": IMAGE, "command": ["sh", "-c", prepare],
        "volumeMounts": [{"name": "v", "mountPath": "/all"}]}]);
    let app = &mut spec["containers"][0];
    app["securityContext"] = json!({"runAsUser": 1000, "runAsNonRoot": true});
    app["env"] = json!([{"name": "WHO", "value": "of-1000"}]);
    app["volumeMounts"] = json!([
        {"name": "v", "mountPath": "/note", "subPath": "job", "readOnly": true},
        {"name": "v", "mountPath": "/mine", "subPathExpr": "job/$(WHO)"}
    ]);
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}}});
    node.apply(&job.to_string());
    let done = node.kubectl(&["wait", "--for=condition=complete", "job/job", "--timeout=90s"]);
    assert!(done.is_ok(), "{done:?}\n{:?}", node.kubectl(&["describe", "pods", "-l", "job-name=job"]));
    let listed = node.kubectl(&["get", "pods", "-l", "job-name=job", "-o", "json"]).unwrap();
    let pods: Value = serde_json::from_str(&listed).unwrap();
    node.kubectl(&["delete", "job", "job"]).unwrap();
    node.gone(&uid(&pods["items"][0]));
}

/// Rounds of creating, writing, renaming and reading a file. One that fails is tried again at once: what was in flight
/// at a kill may fail, nothing that begins afterwards.
pub(crate) const ROUNDS: &str = r#"
cd /data && mkdir -p kills && cd kills
round() { echo "$1" >new.$1 && mv new.$1 f.$1 && test "$(cat f.$1)" = "$1"; }
n=0 again=0 lost=0
# A test that fails never says stop.
while [ ! -e /tmp/stop ] && [ $n -lt 20000 ]; do
    n=$((n + 1))
    if ! round $n 2>>/tmp/errors; then
        again=$((again + 1))
        round $n.again 2>>/tmp/errors || lost=$((lost + 1))
    fi
done
wrong=0 i=0
while [ $i -lt $n ]; do i=$((i + 1)); test "$(cat f.$i)" = $i || test "$(cat f.$i.again)" = $i.again || wrong=$((wrong + 1)); done
echo "$n $again $lost $wrong"
"#;

#[test]
fn kills_of_the_client_go_unnoticed() {
    const KILLS: u64 = 10;
    let Some(turn) = shared() else { return };
    let node = turn.node;
    begin(node, "kills");
    let said = thread::scope(|scope| {
        let application = scope.spawn(|| node.shell("kills", ROUNDS));
        let stop = Stop(node, "kills");
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(700));
            node.kill_client(&node.pod("kills"));
        }
        thread::sleep(Duration::from_millis(700));
        drop(stop);
        application.join().unwrap().unwrap()
    });
    let counts: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let errors = node.shell("kills", "cat /tmp/errors; rm /tmp/stop").unwrap();
    let &[rounds, again, lost, wrong] = counts.as_slice() else { panic!("{said}") };
    eprintln!("{KILLS} kills: {rounds} rounds, {again} of them in flight at a kill and done again");
    assert!(rounds > 50, "only {rounds} rounds");
    assert!(again <= KILLS, "{again} rounds failed in {KILLS} kills: {errors}");
    assert_eq!((lost, wrong), (0, 0), "operations failed although none was killed: {errors}");
    told(node, "kills", "Unhealthy", "the JuiceFS client of volume v crashed");
    // The agent has done it, not the kubelet.
    assert_eq!(restarts(&node.pod("kills")), []);
    delete(node, "kills");
}

#[test]
fn the_agent_may_die_and_then_the_client() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    begin(node, "agent");
    let write = "for i in 1 2 3 4 5; do echo $i >/data/agent.$i && cat /data/agent.$i || exit 1; done";
    node.kill_agent(&node.pod("agent"));
    // While nobody but the client's runner has the descriptor.
    assert_eq!(node.shell("agent", write).unwrap(), "1\n2\n3\n4\n5\n");
    eventually("the agent to be started anew", || {
        let pod = node.pod("agent");
        let again = restarts(&pod) == [("jfs-agent".to_owned(), 1)];
        let agent = &pod["status"]["initContainerStatuses"][0];
        if again && agent["state"]["running"].is_object() { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    node.ready("agent");
    node.kill_client(&node.pod("agent"));
    assert_eq!(node.shell("agent", write).unwrap(), "1\n2\n3\n4\n5\n");
    assert_eq!(restarts(&node.pod("agent")), [("jfs-agent".to_owned(), 1)]);
    delete(node, "agent");
}

#[test]
fn a_pod_that_is_to_fail_with_its_client_is_told_and_can_be_deleted() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    node.apply(&pod("failing", &json!({"sidecar.juicefs.com/on-crash": "fail"}), &spec(WAIT)));
    node.ready("failing");
    node.shell("failing", "echo 1 > /data/failing").unwrap();
    node.kill_client(&node.pod("failing"));
    eventually("the client to be started anew", || {
        let pod = node.pod("failing");
        if restarts(&pod) == [("jfs-mount".to_owned(), 1)] { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    node.ready("failing");
    let error = node.shell("failing", "cat /data/failing").unwrap_err();
    assert!(error.contains("not connected"), "{error}");
    let status = node.sidecar(&["status", "failing", "-o", "wide"]).unwrap();
    assert!(status.contains("exit code 73 (Error)") && status.contains("its mount is given up"), "{status}");
    begins_again(node, "failing");
    delete(node, "failing");
}

/// Ends the application of a pod whose mount is dead; the kubelet starts it again, with the mount that there is now.
fn begins_again(node: &Node, name: &str) {
    // This command may end with the container that it ends.
    let _ = node.shell(name, "kill 1");
    eventually("the application to have its volume again", || node.shell(name, &format!("cat /data/{name}")));
    assert!(restarts(&node.pod(name)).contains(&("app".to_owned(), 1)));
    told(node, name, "MountDetached", "a container could not be started again");
}

/// Waits for the event on a pod that has this reason and says this.
pub(crate) fn told(node: &Node, name: &str, reason: &str, what: &str) {
    eventually("the event that tells of it", || {
        let about = format!("involvedObject.name={name},reason={reason}");
        let notes = ["get", "events", "--field-selector", &about, "-o", "jsonpath={.items[*].message}"];
        let notes = node.kubectl(&notes)?;
        if notes.contains(what) { Ok(()) } else { node.kubectl(&["describe", "pod", name]).and_then(Err) }
    });
}

#[test]
fn an_application_whose_agent_and_client_have_died_can_begin_again() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    begin(node, "both-died");
    node.shell("both-died", "echo 1 >/data/both-died").unwrap();
    let before = node.pod("both-died");
    node.kill_agent(&before);
    node.kill_runner(&before);
    eventually("both to be started anew", || {
        let again = restarts(&node.pod("both-died"));
        if again.len() == 2 { Ok(()) } else { Err(format!("{again:?}")) }
    });
    node.ready("both-died");
    let error = node.shell("both-died", "cat /data/both-died").unwrap_err();
    assert!(error.contains("not connected"), "{error}");
    begins_again(node, "both-died");
    delete(node, "both-died");
}

/// Ends a script that looks for this file, also when a test fails, which would wait for it otherwise.
struct Stop<'a>(&'a Node, &'a str);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let _ = self.0.shell(self.1, "touch /tmp/stop");
    }
}

#[test]
fn the_client_is_upgraded_under_an_open_file() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    begin(node, "upgrade");
    // One file is open all the time, the other is opened and closed for every line.
    let script = "exec 3>/data/upgrade; n=0; while [ ! -e /tmp/stop ] && [ $n -lt 30000 ]; do n=$((n + 1)); \
                  echo $n >&3 && echo $n >>/data/upgrade.again || exit 1; sleep 0.05; done; \
                  exec 3>&-; echo $n; cat /data/upgrade /data/upgrade.again";
    let said = thread::scope(|scope| {
        let application = scope.spawn(|| node.shell("upgrade", script));
        let stop = Stop(node, "upgrade");
        eventually("a first line", || node.shell("upgrade", "test -s /data/upgrade"));
        for round in 0..rounds(2) {
            let [from, image] = [[CLIENT, OTHER_CLIENT], [OTHER_CLIENT, CLIENT]][round % 2];
            let from = from.split(':').next().unwrap();
            let said = node.sidecar(&["upgrade", "upgrade", "--image", image, "--from", from]).unwrap();
            assert!(said.starts_with("1/1 ") && said.contains("with all open files"), "{said}");
            let count = i64::try_from(round).unwrap() + 1;
            assert_eq!(restarts(&node.pod("upgrade")), [("jfs-mount".to_owned(), count)]);
            let table = node.sidecar(&["status", "upgrade"]).unwrap();
            assert!(table.contains("resilient  serving") && table.contains(image), "{table}");
        }
        node.ready("upgrade");
        drop(stop);
        application.join().unwrap()
    });
    let said = said.unwrap_or_else(|error| {
        let log = node.kubectl(&["logs", "upgrade", "--container", "jfs-mount", "--previous"]);
        panic!("{error}\n{}", log.unwrap_or_else(|error| error))
    });
    let (count, lines) = said.split_once('\n').unwrap();
    let count: u32 = count.parse().unwrap();
    let numbers: Vec<u32> = lines.lines().map(|line| line.parse().unwrap()).collect();
    if numbers != (1..=count).chain(1..=count).collect::<Vec<_>>() {
        // Lost, or only late? And what did the clients say?
        let again = node.shell("upgrade", "sleep 2; tail -n 3 /data/upgrade /data/upgrade.again");
        let [before, after] = [&["--previous"][..], &[]]
            .map(|which| node.kubectl(&[&["logs", "upgrade", "--container", "jfs-mount"], which].concat()));
        panic!("of {count} lines there are {numbers:?}; later the end is {again:?}\n{before:?}\n{after:?}");
    }
    eprintln!("{} upgrades: {count} lines, none lost", rounds(2));
    delete(node, "upgrade");
}

#[test]
fn a_pod_that_says_so_is_classic_and_leaves_nothing_behind_either() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    let annotations = json!({"sidecar.juicefs.com/mode": "classic"});
    node.apply(&pod("classic", &annotations, &spec(WAIT)));
    node.ready("classic");
    assert_eq!(node.shell("classic", "echo x >/data/classic && cat /data/classic").unwrap(), "x\n");
    let made = node.pod("classic");
    assert!(made["spec"]["initContainers"].as_array().unwrap().len() == 1);
    let volumes = made["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "v").unwrap();
    let place = volume["hostPath"]["path"].as_str().unwrap().strip_suffix("/mnt").unwrap();
    assert!(node.inside(&["test", "-d", place]).is_ok(), "{place}");
    delete(node, "classic");
    eventually("its directory to go", || match node.inside(&["ls", "-d", place]) {
        Ok(found) => Err(found),
        Err(_) => Ok(()),
    });
}

#[test]
fn what_an_application_writes_while_it_ends_is_there_afterwards() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    let script = "trap 'for i in 1 2 3 4 5 6 7 8; do echo $i >>/data/last; sleep 0.25; done; exit 0' TERM; \
                  while :; do sleep 3600 & wait $!; done";
    node.apply(&pod("last", &json!({}), &spec(script)));
    node.ready("last");
    delete(node, "last");
    begin(node, "after");
    assert_eq!(node.shell("after", "cat /data/last").unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n");
    delete(node, "after");
}

/// Deletes pods whose keepers of the mount are killed while they end, in which time nothing is started again: a mount is
/// left that nobody serves, and the kubelet cannot remove it.
fn stuck(node: &Node, what: &str, kill: impl Fn(&Value)) {
    let names: Vec<_> = (0..rounds(2)).map(|number| format!("{what}-{number}")).collect();
    let slow = "trap 'echo ending; sleep 8; exit 0' TERM; while :; do sleep 3600 & wait $!; done";
    for name in &names {
        node.apply(&pod(name, &json!({}), &spec(slow)));
    }
    let mut uids = Vec::new();
    for name in &names {
        node.ready(name);
        let pod = node.pod(name);
        node.kubectl(&["delete", "pod", name, "--wait=false"]).unwrap();
        // Until then the kubelet may not know, and starts again what is killed.
        eventually("the application to be told", || {
            let said = node.kubectl(&["logs", name, "--container", "app"])?;
            if said.contains("ending") { Ok(()) } else { Err(said) }
        });
        kill(&pod);
        uids.push((uid(&pod), std::time::Instant::now()));
    }
    for (name, (uid, since)) in names.iter().zip(uids) {
        told(node, name, "MountDetached", "the mount was detached");
        node.gone(&uid);
        eprintln!("{name}: gone {:.1} s after its deletion", since.elapsed().as_secs_f64());
    }
}

#[test]
fn a_pod_whose_agent_is_killed_while_it_ends_goes_all_the_same() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    stuck(node, "holder", |pod| node.kill_agent(pod));
}

#[test]
fn a_pod_whose_agent_and_client_are_killed_while_it_ends_goes_all_the_same() {
    let Some(turn) = shared() else { return };
    let node = turn.node;
    stuck(node, "both", |pod| {
        node.kill_agent(pod);
        node.kill_runner(pod);
    });
}
