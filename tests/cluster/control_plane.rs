//! A real control plane (etcd, API server, controller manager, scheduler) for tests; `tests/kubernetes/README.md` says which.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};

/// A control plane of its own, on ports of its own. It ends with this value, and with this process however that ends:
/// `up` takes it down when the pipe to it closes.
pub(crate) struct ControlPlane {
    up: Child,
    state: PathBuf,
    program: PathBuf,
}

/// The one that the tests of this program share. None where there is no `kube` program and nobody insists on one.
pub(crate) fn shared() -> Option<&'static ControlPlane> {
    static SHARED: OnceLock<Option<ControlPlane>> = OnceLock::new();
    SHARED.get_or_init(ControlPlane::start).as_ref()
}

/// The `kube` program, if `make kubernetes` has built it.
fn program() -> Option<PathBuf> {
    built(&directory().join("build"))
}

/// What a script builds, if it has. The gate insists on it.
fn built(script: &Path) -> Option<PathBuf> {
    let output = Command::new(script).arg("--where").output().expect("a script that builds");
    let program = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end());
    if program.exists() {
        return Some(program);
    }
    assert!(env::var_os("CI").is_none(), "there is no {}: run `make kubernetes`", program.display());
    // Past the capture of test output, so that a run that passes says it too.
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ =
        writeln!(io::stderr(), "SKIPPED {test}: no Kubernetes to test with; `make kubernetes` builds one");
    None
}

/// Where the scripts are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes")
}

impl ControlPlane {
    /// Starts one and waits until it can be used.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with([])
    }

    /// Starts one with more arguments for `up`.
    pub(crate) fn start_with<const N: usize>(arguments: [&OsStr; N]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let program = program()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let state = env::temp_dir().join(format!("kube-{}-{count}", std::process::id()));
        let mut up = Command::new(directory().join("up"))
            .arg("--until-eof")
            .arg("--state")
            .arg(&state)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/kubernetes/up runs");
        let mut line = String::new();
        BufReader::new(up.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        if !line.starts_with("ready ") {
            let status = up.wait();
            panic!("no control plane: up ended with {status:?}; the reason is above");
        }
        Some(Self { up, state, program })
    }

    /// Starts one that has snapshots, and the controller of snapshots that clusters have.
    pub(crate) fn start_with_snapshots() -> Option<Self> {
        Self::snapshots()?;
        Self::start_with(["--snapshots".as_ref()])
    }

    /// The kinds of snapshots and their controller, if `make kubernetes` has built them: a directory.
    pub(crate) fn snapshots() -> Option<PathBuf> {
        built(&directory().join("snapshots/build"))
    }

    /// Starts one that has cert-manager.
    pub(crate) fn start_with_cert_manager() -> Option<Self> {
        built(&directory().join("cert-manager/build"))?;
        Self::start_with(["--cert-manager".as_ref()])
    }

    /// Where its files are: logs in `log/`, process ids in `run/`, kubeconfigs.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The kubeconfig of somebody who may do everything.
    pub(crate) fn admin(&self) -> PathBuf {
        self.state.join("admin.kubeconfig")
    }

    /// A client who may do everything; each test needs one of its own, since it lives on the test's runtime.
    pub(crate) async fn client(&self) -> Client {
        client(&self.admin()).await
    }

    /// `kubectl`, as somebody who may do everything.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("kubectl").arg("--kubeconfig").arg(self.admin());
        command
    }

    /// Says of a webhook that runs outside of any pod what Kubernetes says of one in a pod: whether the Service has an
    /// endpoint that is ready. Nothing is at its address.
    pub(crate) fn has_endpoint(&self, ready: bool) {
        let slice = serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "webhook-outside", "namespace": "juicefs-sidecar",
                "labels": {"kubernetes.io/service-name": "juicefs-sidecar-webhook"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": ready}}]});
        let mut kubectl = self.kubectl();
        let mut child =
            kubectl.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(slice.to_string().as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "an EndpointSlice");
    }

    /// Another part of the `kube` program.
    pub(crate) fn pid(&self, part: &str) -> i32 {
        let file = self.state.join(format!("run/{part}.pid"));
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // One that is just being started anew is written meanwhile.
            match fs::read_to_string(&file).expect("a part that runs").trim().parse() {
                Ok(pid) => return pid,
                Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
                Err(error) => panic!("{}: {error}", file.display()),
            }
        }
    }

    /// A namespace for one test, with the `ServiceAccount` that pods need.
    pub(crate) async fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let client = self.client().await;
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(client).create(&PostParams::default(), &namespace).await.expect("a namespace");
        self.account(name).await;
        name.to_owned()
    }

    /// Waits until pods can be made in a namespace.
    pub(crate) async fn account(&self, namespace: &str) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let what = "the namespace's ServiceAccount";
        eventually(what, async || accounts.get_opt("default").await.ok().flatten()).await;
    }

    /// A kubeconfig of a `ServiceAccount`, with a token as its pods would have it.
    pub(crate) async fn kubeconfig(&self, namespace: &str, account: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let token = answer.expect("the ServiceAccount").status.and_then(|status| status.token);
        let token = token.expect("a token");
        // Of the admin's all but who it is.
        let admin = fs::read_to_string(self.admin()).expect("the kubeconfig");
        let (server, _) = admin.split_once("users:\n").expect("users at its end");
        let text = format!("{server}users: [{{name: admin, user: {{token: {token}}}}}]\n");
        let path = self.state.join(format!("{namespace}-{account}.kubeconfig"));
        fs::write(&path, text).expect("the kubeconfig written");
        path
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.up.stdin.take());
        // It has nothing to wait for; one that hangs leaves its processes to the kernel.
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.up.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.up.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A client by a kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a usable kubeconfig")).expect("a client")
}

/// What the question answers, asked until it answers something.
pub(crate) async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
