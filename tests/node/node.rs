//! A node with juicefs-sidecar installed, a file system, and a claim for it.

use std::{
    env,
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    control_plane::{self, ControlPlane},
    program::Program,
    service::{Backend, Service, get},
};

/// Where juicefs-sidecar is installed.
const OURS: &str = "juicefs-sidecar";
/// The namespace of the pods; they get the default mode.
pub(crate) const NAMESPACE: &str = "app";
/// The node's address on its bridge, where pods find redis.
const BRIDGE: &str = "10.88.0.1";
/// Long enough for the slowest machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);
/// What pods are made from: a file system on redis, a volume and its claim.
const STORAGE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: app, labels: {juicefs.com/enable-injection: "true"}}
---
apiVersion: v1
kind: Secret
metadata: {name: myjfs, namespace: app}
stringData:
  name: myjfs
  metaurl: redis://:pass-of-redis@10.88.0.1:6379/1
  storage: redis
  bucket: redis://:pass-of-redis@10.88.0.1:6379/2
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: data}
spec:
  accessModes: [ReadWriteMany]
  capacity: {storage: 1Gi}
  claimRef: {namespace: app, name: data}
  csi:
    driver: csi.juicefs.com
    volumeHandle: data
    volumeAttributes: {subPath: team/data, juicefs/mount-cpu-request: 50m, juicefs/mount-memory-request: 64Mi}
    nodePublishSecretRef: {namespace: app, name: myjfs}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: app}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: data, resources: {requests: {storage: 1Gi}}}
"#;

/// One for all tests, each with pods of its own; it ends with this process.
pub(crate) struct Node {
    plane: ControlPlane,
    _programs: [Program; 2],
}

/// The node for a test: others use it at the same time, or nobody does, for as long as this lives.
pub(crate) struct Turn<Guard> {
    pub(crate) node: &'static Node,
    _guard: Guard,
}

static TURNS: RwLock<()> = RwLock::new(());

/// The node, beside others.
pub(crate) fn shared() -> Option<Turn<RwLockReadGuard<'static, ()>>> {
    let guard = TURNS.read().unwrap_or_else(PoisonError::into_inner);
    Some(Turn { node: made()?, _guard: guard })
}

/// The node, for nobody else: something of it is to be taken away for a while.
pub(crate) fn alone() -> Option<Turn<RwLockWriteGuard<'static, ()>>> {
    let guard = TURNS.write().unwrap_or_else(PoisonError::into_inner);
    Some(Turn { node: made()?, _guard: guard })
}

/// The node, unless this machine cannot have one; `make test-node` insists.
fn made() -> Option<&'static Node> {
    static SHARED: OnceLock<Option<Node>> = OnceLock::new();
    let node = SHARED.get_or_init(|| match obstacle() {
        None => ControlPlane::start_with(["--node".as_ref(), "--images".as_ref(), images().as_os_str()])
            .map(Node::make),
        Some(reason) => {
            assert!(env::var_os("NODE_TESTS").is_none(), "no node: {reason}");
            // Past the capture of test output, so that a run that passes says it too.
            let _ = writeln!(std::io::stderr(), "SKIPPED the tests on a node: {reason}");
            None
        }
    });
    node.as_ref()
}

/// How often a test does what it does, unless `NODE_ROUNDS` says otherwise.
pub(crate) fn rounds(few: usize) -> usize {
    env::var("NODE_ROUNDS").map_or(few, |text| text.parse().unwrap())
}

/// Where `make test-node` has put the images.
fn images() -> PathBuf {
    env::var_os("NODE_TESTS").map(PathBuf::from).unwrap_or_default()
}

/// Why there can be no node here.
fn obstacle() -> Option<String> {
    if env::var_os("NODE_TESTS").is_none() {
        return Some("they take images of this very source; `make test-node` makes and runs them".to_owned());
    }
    let output = Command::new(control_plane::directory().join("node-obstacle")).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Asks until the answer is there; says what the last one was if it never is.
pub(crate) fn eventually<T>(what: &str, mut question: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match question() {
            Ok(answer) => return answer,
            Err(reason) => assert!(Instant::now() < deadline, "waited in vain for {what}: {reason}"),
        }
        thread::sleep(POLL);
    }
}

fn text(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Node {
    fn make(plane: ControlPlane) -> Self {
        let node = Self { _programs: programs(&plane), plane };
        node.start_redis();
        node.apply(STORAGE);
        eventually("the claim to be bound", || {
            let phase = node.kubectl(&["get", "pvc", "data", "-o", "jsonpath={.status.phase}"])?;
            if phase == "Bound" { Ok(()) } else { Err(phase) }
        });
        // The controller's, without which the client's container cannot be made.
        eventually("the client's secret", || node.kubectl(&["get", "secret", "data-jfs-secret"]));
        node
    }

    /// Inside the node, so that it ends with it.
    fn start_redis(&self) {
        self.inside(&[
            "redis-server",
            "--bind",
            BRIDGE,
            "--port",
            "6379",
            "--requirepass",
            "pass-of-redis",
            "--save",
            "",
            "--daemonize",
            "yes",
        ])
        .unwrap();
    }

    /// The pods, by a client of the test's own runtime.
    pub(crate) async fn pods(&self) -> kube::Api<k8s_openapi::api::core::v1::Pod> {
        kube::Api::namespaced(self.plane.client().await, NAMESPACE)
    }

    /// `kubectl` in the namespace of the pods.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        text(&self.plane.kubectl().args(["--namespace", NAMESPACE]).args(words).output().unwrap())
    }

    /// `juicefs-sidecar` in the namespace of the pods.
    pub(crate) fn sidecar(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
        command.args(words).args(["--namespace", NAMESPACE, "--kubeconfig"]).arg(self.plane.admin());
        let output = command.output().unwrap();
        text(&output).map_err(|error| format!("{error}{}", String::from_utf8_lossy(&output.stdout)))
    }

    /// `kubectl apply` of manifests.
    pub(crate) fn apply(&self, manifests: &str) {
        let words = ["apply", "-f", "-"];
        self.piped(&words, manifests).unwrap_or_else(|error| panic!("{error}\n{manifests}"));
    }

    /// `kubectl` in the namespace of the pods, with this on its standard input.
    pub(crate) fn piped(&self, words: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.plane.kubectl();
        command.args(["--namespace", NAMESPACE]).args(words).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        text(&child.wait_with_output().unwrap())
    }

    /// A shell in a container.
    pub(crate) fn shell(&self, pod: &str, script: &str) -> Result<String, String> {
        self.kubectl(&["exec", pod, "--container", "app", "--", "sh", "-c", script])
    }

    /// A pod as it is stored.
    pub(crate) fn pod(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "pod", name, "-o", "json"]).unwrap()).unwrap()
    }

    /// Waits until a pod is ready.
    pub(crate) fn ready(&self, name: &str) {
        eventually("the pod to be ready", || {
            let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let ready = self.kubectl(&["get", "pod", name, "-o", path])?;
            if ready == "True" { Ok(()) } else { Err(self.kubectl(&["describe", "pod", name])?) }
        });
    }

    /// Runs a command where the mounts and processes of the node are.
    pub(crate) fn inside(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(control_plane::directory().join("in-node"));
        command.arg("--state").arg(self.plane.state()).args(words);
        text(&command.output().unwrap())
    }

    /// Kills the JuiceFS client of a pod, both its processes at once; `jfs-agent run` beside them lives on.
    pub(crate) fn kill_client(&self, pod: &Value) {
        self.kill(pod, "jfs-mount", &["mount.juicefs", "juicefs"]);
    }

    /// Kills the agent of a pod, which holds its mounts.
    pub(crate) fn kill_agent(&self, pod: &Value) {
        self.kill(pod, "jfs-agent", &["jfs-agent"]);
    }

    /// Kills the whole client of a pod, with what would start it again.
    pub(crate) fn kill_runner(&self, pod: &Value) {
        self.kill(pod, "jfs-mount", &["jfs-agent"]);
    }

    /// Kills those processes of a container that have one of these names.
    fn kill(&self, pod: &Value, container: &str, names: &[&str]) {
        let statuses = pod["status"]["initContainerStatuses"].as_array().unwrap();
        let status = statuses.iter().find(|status| status["name"] == container).unwrap();
        let id = status["containerID"].as_str().unwrap().trim_start_matches("containerd://");
        let is_named = |pid: &i32| {
            let name = self.inside(&["cat", &format!("/proc/{pid}/comm")]).unwrap_or_default();
            names.contains(&name.trim())
        };
        // One that was killed just before may not have been started again yet.
        let pids = eventually("a process to kill", || {
            let listed = self.inside(&["ctr", "-n", "k8s.io", "tasks", "ps", id])?;
            let numbers =
                listed.lines().filter_map(|line| line.split_whitespace().next()?.parse::<i32>().ok());
            let pids: Vec<String> = numbers.filter(is_named).map(|pid| pid.to_string()).collect();
            if pids.is_empty() { Err(format!("none of {names:?} among {listed}")) } else { Ok(pids) }
        });
        let words: Vec<&str> = ["kill", "-9"].into_iter().chain(pids.iter().map(String::as_str)).collect();
        self.inside(&words).unwrap();
    }

    /// Waits until nothing is left on the node of a pod with this UID: no directory, no mount.
    pub(crate) fn gone(&self, uid: &str) {
        let directory = self.plane.state().join("var/lib/kubelet/pods").join(uid);
        eventually("the pod's directory to go", || {
            if directory.exists() { Err(directory.display().to_string()) } else { Ok(()) }
        });
        let table = self.inside(&["cat", "/proc/1/mountinfo"]).unwrap();
        let left: Vec<_> = table.lines().filter(|line| line.contains(uid)).collect();
        assert!(left.is_empty(), "mounts are left: {left:#?}");
    }
}

/// Controller and webhook, as they are shipped, with the rights that they have in a cluster; the API server finds the
/// webhook at its Service.
fn programs(plane: &ControlPlane) -> [Program; 2] {
    let kubectl = |words: &[&OsStr]| text(&plane.kubectl().args(words).output().unwrap()).unwrap();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config");
    kubectl(&["apply".as_ref(), "-k".as_ref(), manifests.as_os_str()]);
    kubectl(&["apply".as_ref(), "-k".as_ref(), manifests.join("janitor").as_os_str()]);
    // They run here, not on the node: its image of ours has the agent only.
    kubectl(&["delete", "deployments", "--all", "--namespace", OURS].map(OsStr::new));
    plane.has_endpoint(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kubeconfig =
        |name: &str| runtime.block_on(plane.kubeconfig(OURS, &format!("juicefs-sidecar-{name}")));
    let controller = Program::start(|command| {
        command.args(["controller", "--metrics-listen=127.0.0.1:0", "--tidy-after=1s", "--kubeconfig"]);
        command.arg(kubeconfig("controller")).env("POD_NAMESPACE", OURS);
    });
    let webhook = Program::start(|command| {
        command.args([
            "webhook",
            "--ce-mount-image=juicedata/mount:ce-v1.4.2",
            "--listen=127.0.0.1:0",
            "--metrics-listen=127.0.0.1:0",
            "--namespace",
            OURS,
        ]);
        command.arg("--kubeconfig").arg(kubeconfig("webhook"));
    });
    let [address, health] = webhook.listening();
    let path = [
        "get",
        "service",
        "juicefs-sidecar-webhook",
        "--namespace",
        OURS,
        "-o",
        "jsonpath={.spec.clusterIP}",
    ];
    let service = kubectl(&path.map(OsStr::new));
    let added =
        Command::new("ip").args(["address", "add", &format!("{service}/32"), "dev", "kube0"]).status();
    assert!(added.unwrap().success(), "the Service's address on the node's bridge");
    let ready = || get(health, "/readyz").map_err(|error| error.to_string());
    eventually("the webhook to be ready", || {
        ready().and_then(|text| if text == "ok\n" { Ok(()) } else { Err(text) })
    });
    Service::listen(&service).add(Backend { address, health });
    eventually("the registration", || {
        text(&plane.kubectl().args(["get", "mutatingwebhookconfiguration", OURS]).output().unwrap())
    });
    [controller, webhook]
}
