//! `jfs-agent work` with the real client: as root without a capability, where only its scratch can be written.

mod clone;
mod ends;
mod failures;
mod removal;

use crate::container::Runner;
use crate::pod::{Engine, Pod, agent, juicefs};
use crate::process::{PATIENCE, Process, children_of, wait_until};
use juicefs_sidecar::worker::{Answer, Edition, Failed, FileSystem, Kind, Request, SubPath, Task};
use rustix::process::Pid;
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
};

/// Seconds that a request of these tests gets when it is not about time.
const LIMIT: u64 = 60;

/// The password of the pod's redis.
const PASSWORD: &str = "pass-of-redis";

/// A worker in its container.
struct Worker {
    process: Process,
    socket: PathBuf,
    scratch: PathBuf,
}

impl Worker {
    fn start(pod: &Pod) -> Self {
        Self::start_with(pod, &pod.path("juicefs"))
    }

    fn start_with(pod: &Pod, client: &str) -> Self {
        let script = "mount -o remount,bind,ro / && exec setpriv --bounding-set=-all --inh-caps=-all \
                      --no-new-privs --pdeathsig KILL \"$@\"";
        let (socket, scratch, agent) = (pod.path("work.sock"), pod.path("scratch"), agent());
        let words =
            [agent.to_str().unwrap(), "work", "--socket", &socket, "--scratch", &scratch, "--client", client];
        let words: Vec<&str> = ["sh", "-c", script, "sh"]
            .into_iter()
            .chain(words)
            .chain(["--enterprise-client", client])
            .collect();
        let process = pod.container("private", &[], &words, "worker.log");
        wait_until("the worker", || UnixStream::connect(&socket).is_ok());
        Self { process, socket: socket.into(), scratch: scratch.into() }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        stream
    }

    /// Asks without waiting for the answer.
    fn begin(&self, request: &Request) -> UnixStream {
        let mut stream = self.connect();
        let text = serde_json::to_string(request).unwrap() + "\n";
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, request: &Request) -> Answer {
        answer(self.begin(request))
    }

    fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Everything that the worker has started, and what that has.
    fn descendants(&self) -> Vec<Pid> {
        let requests = children_of(self.pid());
        let clients = requests.iter().flat_map(|pid| children_of(*pid));
        requests.iter().copied().chain(clients).collect()
    }
}

/// A file system that is mounted at the node, what serves the mount, and a worker.
fn mounted() -> (Pod, (Runner, Process), Worker) {
    let pod = Pod::on_redis();
    pod.format();
    let holder = pod.holder();
    let runner = pod.runner();
    let worker = Worker::start(&pod);
    (pod, (runner, holder), worker)
}

/// What a command in the mount prints.
fn shell(pod: &Pod, script: &str) -> String {
    let output = pod.on_node(&["sh", "-ec", &format!("cd {}\n{script}", pod.mountpoint("data"))]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn answer(mut stream: UnixStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn path(path: &str) -> SubPath {
    SubPath::try_from(path.to_owned()).unwrap()
}

fn request(pod: &Pod, task: Task) -> Request {
    Request { file_system: file_system(&pod.metadata()), task, limit: LIMIT }
}

fn file_system(address: &str) -> FileSystem {
    FileSystem { address: address.to_owned(), ..FileSystem::default() }
}

fn create(path_of_it: &str, quota: Option<u64>) -> Task {
    Task::Create { path: path(path_of_it), mode: 0o777, quota }
}

fn done() -> Answer {
    Answer::Done { identity: None }
}

/// The kind of a failure, and what it says.
fn failed(answer: Answer) -> (Kind, String) {
    match answer {
        Answer::Failed(Failed { kind, message }) => (kind, message),
        Answer::Done { .. } => panic!("it was done"),
    }
}

/// What the client itself says of a quota: its row of the table.
fn quota(pod: &Pod, path: &str) -> Option<String> {
    let output =
        Command::new(juicefs()).args(["quota", "get", &pod.metadata(), "--path", path]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.contains(path)).map(str::to_owned)
}

fn has(quota: Option<String>, size: &str) -> bool {
    quota.is_some_and(|quota| quota.contains(size))
}

#[test]
fn directories_and_quotas_are_what_a_mounted_client_sees() {
    const GIB: u64 = 1 << 30;
    let (pod, _mount, worker) = mounted();
    let mount = pod.mountpoint("data");
    let stat = |name: &str| {
        let output = pod.on_node(&["stat", "-c", "%F %a %u", &format!("{mount}/{name}")]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Twice: a controller that was killed before it could note the answer asks again.
    for _ in 0..2 {
        assert_eq!(worker.ask(&request(&pod, create("team/pv-1", Some(2 * GIB + 1)))), done());
    }
    assert_eq!(stat("team/pv-1"), "directory 777 0");
    assert!(has(quota(&pod, "/team/pv-1"), "3.0 GiB"));
    let task = Task::Create { path: path("team/pv 2;$(id)'\"\\é"), mode: 0o750, quota: None };
    assert_eq!(worker.ask(&request(&pod, task)), done());
    assert_eq!(stat("team/pv 2;$(id)'\"\\é"), "directory 750 0");
    let task = Task::SetQuota { path: path("team/pv-1"), bytes: 5 * GIB };
    assert_eq!(worker.ask(&request(&pod, task)), done());
    assert!(has(quota(&pod, "/team/pv-1"), "5.0 GiB"));
    // What an application finds below the directory of its volume.
    wait_until("the client to learn the quota", || {
        let output = pod.on_node(&["df", "--output=size", "-B1G", &format!("{mount}/team/pv-1")]);
        output.status.success() && quota(&pod, "/team/pv-1").is_some()
    });
    for _ in 0..2 {
        assert_eq!(worker.ask(&request(&pod, Task::DeleteQuota(path("team/pv-1")))), done());
    }
    assert_eq!(quota(&pod, "/team/pv-1"), None);
    assert_eq!(worker.ask(&request(&pod, Task::DeleteQuota(path("never/was")))), done());
    let task = Task::SetQuota { path: path("never/was"), bytes: GIB };
    assert_eq!(failed(worker.ask(&request(&pod, task))).0, Kind::Missing);
}

#[test]
fn an_older_client_does_the_same_and_one_without_quotas_says_so() {
    let mut pod = Pod::on_redis();
    pod.use_client(&crate::pod::older_juicefs());
    let format = Command::new(crate::pod::older_juicefs()).args(&pod.format_words()[1..]).output().unwrap();
    assert!(format.status.success(), "{format:?}");
    let worker = Worker::start(&pod);
    assert_eq!(worker.ask(&request(&pod, create("a/pv-1", Some(1)))), done());
    assert_eq!(worker.ask(&request(&pod, create("a/pv-2", None))), done());
    assert!(has(quota(&pod, "/a/pv-1"), "1.0 GiB"));
    assert_eq!(worker.ask(&request(&pod, Task::Remove(path("a/pv-1")))), done());
    let task = Task::SetQuota { path: path("a/pv-1"), bytes: 1 };
    assert_eq!(failed(worker.ask(&request(&pod, task))).0, Kind::Missing);
    let task = Task::SetQuota { path: path("a/pv-2"), bytes: 1 };
    assert_eq!(worker.ask(&request(&pod, task)), done());
    drop(worker);
    // The words of a client before quotas, which is not to be had any more.
    let ancient = stand_in(&pod, "echo \"No help topic for '$1'\" >&2; exit 3");
    let worker = Worker::start_with(&pod, &ancient);
    let (kind, message) = failed(worker.ask(&request(&pod, create("a/pv-3", Some(1)))));
    assert_eq!((kind, message.as_str()), (Kind::Unsupported, "exit code 3: No help topic for 'quota'"));
}

/// A script in place of a client.
fn stand_in(pod: &Pod, script: &str) -> String {
    let path = pod.path("stand-in");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    path
}

/// The enterprise client is not to be had: a script writes down how it was run.
#[test]
fn the_enterprise_client_logs_in_first_or_is_given_its_configuration() {
    let pod = Pod::on_sqlite();
    let seen = pod.path("seen");
    let client =
        stand_in(&pod, &format!("echo \"$* | $(cat $HOME/.juicefs/* 2>&1)\" >> {seen}; umask >> {seen}"));
    let worker = Worker::start_with(&pod, &client);
    let mut file_system = FileSystem {
        edition: Edition::Enterprise,
        address: "vol".into(),
        auth: ["auth", "vol", "--token=hunter22", "--conf-dir=/root/.juicefs"].map(str::to_owned).into(),
        ..FileSystem::default()
    };
    let ask = |file_system: &FileSystem, task: Task| {
        worker.ask(&Request { file_system: file_system.clone(), task, limit: LIMIT })
    };
    assert_eq!(ask(&file_system, create("pv-1", Some(1))), done());
    file_system.configuration = Some("the configuration".into());
    assert_eq!(ask(&file_system, Task::SetQuota { path: path("pv-1"), bytes: 1 }), done());
    let text = fs::read_to_string(&seen).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [auth, _, set, mask, again, _] = lines[..] else { panic!("{text}") };
    let scratch = worker.scratch.to_str().unwrap();
    assert!(auth.starts_with(&format!("auth vol --token=hunter22 --conf-dir={scratch}/")), "{auth}");
    assert!(set.starts_with("quota set vol --path=/pv-1 --create --capacity=1 | "), "{set}");
    assert_eq!(mask, "0000");
    assert_eq!(again, "quota set vol --path=/pv-1 --capacity=1 | the configuration");
    assert_eq!(failed(ask(&file_system, Task::Remove(path("pv-1")))).0, Kind::Unsupported);
    file_system.address = "../vol".into();
    assert_eq!(failed(ask(&file_system, create("pv-1", None))).0, Kind::Invalid);
    assert!(!pod.log("worker").contains("hunter22"));
}

/// The process of the pod's redis.
fn redis(pod: &Pod) -> &Process {
    match &pod.engine {
        Engine::Redis(redis) => &redis.process,
        Engine::Sqlite => panic!("a pod without redis"),
    }
}
