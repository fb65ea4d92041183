//! What goes wrong has a name, and no secret in it.

use super::{LIMIT, PASSWORD, Worker, answer, create, done, failed, file_system, path, redis, request};
use crate::pod::Pod;
use crate::process::{free_port, wait_until};
use juicefs_sidecar::worker::{Answer, FileSystem, Kind, Request, Task};
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// The command lines that the worker's processes have while something is done.
fn command_lines(worker: &Worker, what: impl FnOnce()) -> BTreeSet<String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                for pid in worker.descendants() {
                    let line =
                        fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
                    seen.insert(String::from_utf8_lossy(&line).replace('\0', " "));
                }
            }
            seen
        });
        what();
        over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    })
}

#[test]
fn an_unformatted_file_system_is_formatted_and_secrets_stay_secret() {
    let pod = Pod::on_redis();
    let worker = Worker::start(&pod);
    let (address, store) = (pod.metadata(), pod.path("scratch/store"));
    let key = std::process::Command::new("openssl")
        .args(["genrsa", "-aes256", "-passout", "pass:hunter-phrase", "2048"])
        .output();
    let key = key
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8(output.stdout).unwrap());
    let mut file_system = file_system(&address);
    file_system.environment.insert("JFS_RSA_PASSPHRASE".into(), "hunter-phrase".into());
    file_system.rsa_key.clone_from(&key);
    let ask = |task: Task| worker.ask(&Request { file_system: file_system.clone(), task, limit: LIMIT });
    let mut words: Vec<String> = ["format", "--storage=file"].map(str::to_owned).into();
    words.push(format!("--bucket={store}/"));
    words.extend(["--access-key=hunter-who", "--secret-key=hunter-key"].map(str::to_owned));
    words.extend([address.clone(), "vol".to_owned(), "--session-token=hunter-token".to_owned()]);
    words.extend(key.map(|_| "--encrypt-rsa-key=/root/.rsa/rsa-key.pem".to_owned()));
    let mut messages = Vec::new();
    let lines = command_lines(&worker, || {
        let (kind, message) = failed(ask(create("pv-1", Some(1))));
        assert_eq!(kind, Kind::NotFormatted, "{message}");
        messages.push(message);
        let mut broken = words.clone();
        broken[2] = "--bucket=/proc/nothing/".into();
        let (kind, message) = failed(ask(Task::Format(broken)));
        assert_eq!(kind, Kind::StorageUnusable, "{message}");
        messages.push(message);
        // Again: as the client of a pod does at every start.
        for _ in 0..2 {
            assert_eq!(ask(Task::Format(words.clone())), done());
        }
        assert_eq!(ask(create("pv-1", Some(1))), done());
        assert_eq!(ask(Task::Remove(path("pv-1"))), done());
    });
    let Answer::Done { identity: Some(identity) } = ask(Task::Identify) else { panic!("no identity") };
    assert_eq!((identity.name.as_str(), identity.uuid.len()), ("vol", 36));
    assert!(
        lines.iter().any(|line| line.contains(" format ") && line.contains(" redis://@127.0.0.1:")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.contains(" mount ")), "{lines:?}");
    let told = format!("{lines:?} {messages:?} {}", pod.log("worker"));
    for secret in [PASSWORD, "hunter-who", "hunter-key", "hunter-token", "hunter-phrase", "PRIVATE KEY"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    let setting =
        std::process::Command::new(crate::pod::juicefs()).args(["config", &address]).output().unwrap();
    let setting = String::from_utf8_lossy(&setting.stdout).into_owned();
    assert!(setting.contains("hunter-who") && setting.contains("\"SessionToken\""), "{setting}");
    wait_until("nothing but the store to be left", || fs::read_dir(&worker.scratch).unwrap().count() == 1);
}

#[test]
fn a_metadata_engine_that_is_down_and_a_wrong_password_are_told_apart() {
    let pod = Pod::on_redis();
    pod.format();
    let worker = Worker::start(&pod);
    let nobody = format!("redis://:{PASSWORD}@127.0.0.1:{}/1", free_port());
    for task in [create("pv-1", Some(1)), Task::Remove(path("pv-1")), Task::Identify] {
        let request = Request { file_system: file_system(&nobody), task, limit: 3 };
        let (kind, message) = failed(worker.ask(&request));
        assert_eq!(kind, Kind::MetadataUnreachable, "{message}");
        assert!(message.starts_with("not done within 3 s: ") && !message.contains(PASSWORD), "{message}");
    }
    let wrong = pod.metadata().replace(PASSWORD, "hunter-wrong");
    let (kind, message) = failed(
        worker.ask(&Request { file_system: file_system(&wrong), ..request(&pod, create("pv-1", None)) }),
    );
    assert_eq!(kind, Kind::WrongPassword, "{message}");
    // In a variable of the file system's own, as secrets have it too.
    let bare = pod.metadata().replace(&format!(":{PASSWORD}@"), "");
    let mut with_variable = file_system(&bare);
    let ask = |file_system: &FileSystem| {
        worker.ask(&Request { file_system: file_system.clone(), ..request(&pod, create("pv-1", None)) })
    };
    assert_eq!(failed(ask(&with_variable)).0, Kind::WrongPassword);
    with_variable.environment.insert("META_PASSWORD".into(), PASSWORD.into());
    assert_eq!(ask(&with_variable), done());
    assert!(!pod.log("worker").contains("hunter-wrong") && !pod.log("worker").contains(PASSWORD));
}

#[test]
fn what_takes_too_long_is_ended_with_all_it_started() {
    let pod = Pod::on_redis();
    pod.format();
    let worker = Worker::start(&pod);
    redis(&pod).signal(Signal::STOP);
    let late = Request { limit: 2, ..request(&pod, create("pv-1", Some(1))) };
    let begin = Instant::now();
    let (kind, message) = failed(worker.ask(&late));
    assert_eq!(kind, Kind::Late, "{message}");
    assert!(begin.elapsed() >= Duration::from_secs(2));
    wait_until("the client to be gone", || worker.descendants().is_empty());
    // Who asked hangs up.
    let stream = worker.begin(&request(&pod, create("pv-1", Some(1))));
    wait_until("the client", || worker.descendants().len() == 2);
    drop(stream);
    wait_until("the client to be gone", || worker.descendants().is_empty());
    redis(&pod).signal(Signal::CONT);
    assert_eq!(worker.ask(&request(&pod, create("pv-1", Some(1)))), done());
    wait_until("its files to be gone", || fs::read_dir(&worker.scratch).unwrap().count() == 0);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let pod = Pod::on_sqlite();
    let worker = Worker::start(&pod);
    let good = request(&pod, create("pv-1", Some(1)));
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = good.clone();
        change(&mut request);
        failed(worker.ask(&request))
    };
    let set = |name: &str, value: &str| {
        let (name, value) = (name.to_owned(), value.to_owned());
        with(&|request| _ = request.file_system.environment.insert(name.clone(), value.clone()))
    };
    for (kind, message) in [
        with(&|request| request.limit = 0),
        with(&|request| request.limit = u64::MAX),
        with(&|request| request.file_system.address = String::new()),
        with(&|request| request.file_system.address = "--config=/etc/passwd".into()),
        with(&|request| request.file_system.address = "redis://h/1\n".into()),
        with(&|request| request.file_system.address = "etcd://u:hunter22@h/p".into()),
        with(&|request| request.task = Task::Create { path: path("a"), mode: 0o1777, quota: None }),
        with(&|request| request.task = Task::Format(vec!["destroy".into(), "--force".into()])),
        set("LD_PRELOAD", "/x"),
        set("JFS_SUPER_COMM", "/x"),
        set("A=B", "x"),
        set("A", "\0"),
    ] {
        assert_eq!(kind, Kind::Invalid, "{message}");
        assert!(!message.contains("hunter22"), "{message}");
    }
    for bytes in [&b"garbage\n"[..], b"\n", b"{}\n", b"\0\n", b"{\"task\":{\"conquer\":\"hunter22\"}}\n"] {
        let mut stream = worker.connect();
        stream.write_all(bytes).unwrap();
        let (kind, message) = failed(answer(stream));
        assert!(kind == Kind::Invalid && !message.contains("hunter22"), "{message}");
    }
    let mut stream = worker.connect();
    // It may hang up before all of it is written.
    _ = stream.write_all(&vec![b' '; 600 * 1024]);
    let mut text = String::new();
    if std::io::Read::read_to_string(&mut stream, &mut text).is_ok() {
        assert!(text.contains("too long"), "{text:?}");
    }
}

#[test]
fn a_client_that_is_not_there_is_said_to_be_unsupported() {
    let pod = Pod::on_sqlite();
    let worker = Worker::start_with(&pod, "/nowhere/juicefs");
    let (kind, message) = failed(worker.ask(&request(&pod, create("pv-1", None))));
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("/nowhere/juicefs"), "{message}");
}
