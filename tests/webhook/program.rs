//! The real program: flags, files, signals, logs, exit codes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    client::Server,
    expected,
    recorded::{self, ENDPOINTS, reviews},
    within,
};

/// Values of the recorded cluster's secrets.
const CONFIDENTIAL: [&str; 4] =
    ["redis://:p%40ss@redis.data.svc:6379/1", "p%40ss", "s3cr3t$k&y;(with)|shell>chars", "0123456789abcdef"];

/// A running server, its log lines, and a directory of its own.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) lines: mpsc::Receiver<String>,
    pub(crate) server: Server,
    plain: SocketAddr,
    directory: PathBuf,
}

impl Program {
    /// Starts it over manifests, on ports of the system's choice.
    pub(crate) fn start(test: &str, manifests: &Path, more: &[&str]) -> Self {
        let directory = fresh(test);
        let ca_file = directory.join("ca.crt");
        let more = [&["--ca-out", ca_file.to_str().unwrap()], more].concat();
        let mut program = Self::start_in(directory, manifests, &more);
        program.server.ca = fs::read_to_string(ca_file).unwrap();
        program
    }

    /// Starts it with a directory of the test's making; the CA is for the test to fill in.
    pub(crate) fn start_in(directory: PathBuf, manifests: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"))
            .args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--log-format=json"])
            .args(["--poll-interval=100ms", "--manifests"])
            .arg(manifests)
            .args(more)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let listening = wait_for(&lines, "listening");
        let address = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
        let server = Server { address: address("address"), ca: String::new(), identity: None };
        Self { child, lines, server, plain: address("metrics_address"), directory }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What a path of the plain port answers.
    pub(crate) fn plain(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.plain).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Its exit status and the rest of its log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = ended(&mut self.child);
        fs::remove_dir_all(&self.directory).unwrap();
        (status, self.lines.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that failed must not leave a server behind; one that is gone cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn fresh(test: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("juicefs-sidecar-{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

pub(crate) fn wait_for(lines: &mpsc::Receiver<String>, message: &str) -> Value {
    loop {
        let line = lines.recv_timeout(Duration::from_secs(20)).expect("a log line in time");
        let line: Value = serde_json::from_str(&line).expect("JSON lines");
        if line["message"].as_str().is_some_and(|text| text.contains(message)) {
            return line;
        }
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs it with arguments it cannot start with; its exit code and what it says.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"))
        .args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"])
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn the_program_answers_as_the_library_logs_each_decision_and_tells_no_secret() {
    let program = Program::start("answers", &recorded::directory().join("cluster"), &["--drain-delay=300ms"]);
    let (mut connection, _) = program.server.http1().await.unwrap();
    for (name, body) in reviews() {
        for endpoint in ENDPOINTS {
            let response = connection.post(endpoint.path(), Bytes::from(body.clone())).await.unwrap();
            assert_eq!(response.body(), &expected(&body, endpoint).body, "{name}");
        }
    }
    let secret = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-secret", "operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Secret"},
        "namespace": "kube-system", "name": "wrong", "object": {"data": {
            "metaurl": "cmVkaXM6Ly86cCU0MHNzQHJlZGlzLmRhdGEuc3ZjOjYzNzkvMQ==", "envs": "MDEyMzQ1Njc4OWFiY2RlZg=="}}}});
    let response = connection.post("/juicefs/validate-secret", secret.to_string().into()).await.unwrap();
    let refusal: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(refusal["response"]["status"]["code"], 422, "{refusal}");

    let metrics = program.plain("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("reviews_total{endpoint=\"inject\",code=\"not-a-creation\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("reviews_total{endpoint=\"validate-secret\",code=\"secret-invalid\"} 1\n"),
        "{metrics}"
    );

    program.signal(Signal::TERM);
    let (status, log) = program.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let decisions: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .filter(|line: &Value| line.get("code").is_some())
        .collect();
    assert_eq!(decisions.len(), 37);
    let missing = decisions.iter().find(|line| line["uid"] == "u-secret").unwrap();
    assert_eq!((&missing["level"], &missing["code"]), (&json!("WARN"), &json!("secret-invalid")));
    assert_eq!((&missing["endpoint"], &missing["name"]), (&json!("validate-secret"), &json!("wrong")));
    assert!(decisions.iter().any(|line| line["dry_run"] == true && line["namespace"] == "team-a"));
    for value in CONFIDENTIAL {
        let answered = refusal.to_string().contains(value);
        assert!(!log.contains(value) && !metrics.contains(value) && !answered, "a secret value was told");
    }
}

#[tokio::test]
async fn sigterm_ends_readiness_first_then_connections_then_the_program() {
    let program = Program::start("sigterm", &recorded::directory().join("cluster"), &["--drain-delay=300ms"]);
    assert!(program.plain("/readyz").starts_with("HTTP/1.1 200"));
    let body = reviews().swap_remove(0).1;
    let (mut stream, _) = program.server.tls(&[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST /juicefs/inject-v1-pod HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();

    program.signal(Signal::TERM);
    wait_for(&program.lines, "not ready any more");
    assert!(program.plain("/readyz").starts_with("HTTP/1.1 503"));
    assert!(program.server.http1().await.is_ok(), "the delay is for connections that still come");

    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(TcpStream::connect(program.server.address).is_err(), "no more connections");
    stream.write_all(&body).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    within(5, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.ends_with(&expected(&body, ENDPOINTS[0]).body));
    let (status, log) = program.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"stopped\""), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let program = Program::start("signals", &recorded::directory().join("cluster"), &["--drain-delay=1m"]);
    program.signal(Signal::TERM);
    wait_for(&program.lines, "not ready any more");
    program.signal(Signal::TERM);
    let (status, log) = program.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopping at once"), "{log}");
}

#[tokio::test]
async fn changed_manifests_are_taken_and_broken_ones_are_not() {
    let manifests = fresh("manifests");
    let write = |name: &str, text: &str| fs::write(manifests.join(name), text).unwrap();
    write("empty.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a}\n");
    let program = Program::start("reload", &manifests, &[]);
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "first"},
        "spec": {"csi": {"driver": "csi.juicefs.com", "volumeHandle": "same",
                         "nodePublishSecretRef": {"name": "s", "namespace": "d"}}}});
    let mut twin = volume.clone();
    twin["metadata"]["name"] = "second".into();
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "operation": "CREATE", "name": "second", "object": twin,
        "kind": {"group": "", "version": "v1", "kind": "PersistentVolume"}}});
    let (mut connection, _) = program.server.http1().await.unwrap();
    let mut decision = async || {
        let response = connection.post("/juicefs/validate-pv", review.to_string().into()).await.unwrap();
        let review: Value = serde_json::from_slice(response.body()).unwrap();
        review["response"]["auditAnnotations"]["decision"].as_str().unwrap().to_owned()
    };
    assert_eq!(decision().await, "valid");

    write("volume.json", &volume.to_string());
    wait_for(&program.lines, "are in use");
    assert_eq!(decision().await, "handle-taken");

    write("volume.json", "{");
    let line = wait_for(&program.lines, "the old ones stay in use");
    assert!(line["error"].as_str().unwrap().contains("volume.json:1"), "{line}");
    assert_eq!(decision().await, "handle-taken");
    let metrics = program.plain("/metrics");
    assert!(metrics.contains("config_reloads_total{result=\"ok\"} 1\n"), "{metrics}");
    assert!(metrics.contains("config_reloads_total{result=\"failed\"} 1\n"), "{metrics}");
    assert!(program.plain("/readyz").starts_with("HTTP/1.1 200"));
    program.signal(Signal::INT);
    assert_eq!(program.end().0.code(), Some(0));
    fs::remove_dir_all(manifests).unwrap();
}

#[test]
fn what_cannot_be_served_with_is_said_and_ends_with_2() {
    let directory = fresh("refused");
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut expired = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 2);
    fs::write(path("tls.crt"), own.cert.pem()).unwrap();
    fs::write(path("tls.key"), other.signing_key.serialize_pem()).unwrap();
    fs::write(path("own.key"), own.signing_key.serialize_pem()).unwrap();
    fs::write(path("expired.crt"), expired.self_signed(&own.signing_key).unwrap().pem()).unwrap();
    fs::write(path("broken.yaml"), "kind: [").unwrap();
    fs::write(path("config.yaml"), "enableNativeSidecar: perhaps\n").unwrap();
    let cluster = recorded::directory().join("cluster").to_string_lossy().into_owned();
    let with = |more: &[&str]| refused(&[&["--manifests", &cluster], more].concat());

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--listen={}", taken.local_addr().unwrap());
    let cases = [
        (refused(&["--manifests", &path("none")]), "none: cannot be read: No such file"),
        (refused(&["--manifests", &path("broken.yaml")]), "broken.yaml:1"),
        (with(&["--config", &path("config.yaml")]), "enableNativeSidecar"),
        (with(&["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key")]), "the key does not go with"),
        (
            with(&["--tls-cert", &path("expired.crt"), "--tls-key", &path("own.key")]),
            "the certificate expired",
        ),
        (with(&["--tls-cert", &path("tls.crt"), "--tls-key", &path("none")]), "none: cannot be read"),
        (with(&["--tls-cert", &path("tls.crt")]), "--tls-key <FILE>"),
        (with(&["--tls-name", "not a name"]), "neither a DNS name nor an IP address"),
        (with(&["--ca-out", &path("no/such/ca.crt")]), "ca.crt: cannot be written"),
        (with(&["--drain-delay", "soon"]), "like 10s or 1m30s"),
        (with(&["--max-connections", "0"]), "0 is not in 1..="),
        (refused(&["--kubeconfig", &path("none")]), "none: failed to read kubeconfig"),
    ];
    for ((code, text), expected) in cases {
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{expected} in {text}");
        assert!(!text.contains('\u{1b}'), "colours are for terminals");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"))
        .args(["webhook", "--metrics-listen=127.0.0.1:0", "--manifests", &cluster, &address])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("cannot listen: 127.0.0.1:") && text.contains("in use"), "{text}");
    fs::remove_dir_all(directory).unwrap();
}
