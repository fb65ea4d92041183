//! Peers that say nothing, requests that are killed, and the worker's own end.

use super::{Worker, answer, create, done, failed, redis, request};
use crate::pod::Pod;
use crate::process::{children_of, wait_until};
use juicefs_sidecar::worker::Kind;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn the_silent_and_the_slow_keep_nobody_waiting() {
    let pod = Pod::on_redis();
    pod.format();
    let worker = Worker::start(&pod);
    let descriptors = |pid: Pid| fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count();
    let before = descriptors(worker.pid());
    let silent: Vec<UnixStream> = (0..40).map(|_| worker.connect()).collect();
    // Fewer than there are places: whoever has begun has a place until its time is over.
    let mut slow: Vec<UnixStream> = (0..6).map(|_| worker.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"{\"fileSystem\":").unwrap();
    }
    let begin = Instant::now();
    assert_eq!(worker.ask(&request(&pod, create("pv-1", Some(1)))), done());
    println!("beside 40 silent and 6 slow peers: {} ms", begin.elapsed().as_millis());
    for stream in slow {
        assert_eq!(failed(answer(stream)).0, Kind::Invalid);
    }
    drop(silent);
    wait_until("connections to be closed", || descriptors(worker.pid()) <= before);
    assert!(pod.messages("worker").iter().all(|message| !message.contains("another user")));
}

/// Another user's side of the next test: asks, and says what it was answered.
#[test]
#[ignore = "the peer of another test"]
fn peer() {
    let mut stream = UnixStream::connect(std::env::var("JFS_TEST_SOCKET").unwrap()).unwrap();
    // The worker may hang up before it has read.
    _ = stream.write_all(b"{}\n");
    let mut text = String::new();
    _ = stream.read_to_string(&mut text);
    println!("answered: {text}");
}

#[test]
fn only_the_controllers_user_may_ask() {
    let pod = Pod::on_sqlite();
    let worker = Worker::start(&pod);
    // The test may lie where other users cannot go.
    let copy = pod.path("peer");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let answered = |uid: &str| {
        let words =
            ["--reuid", uid, "--regid", uid, "--clear-groups", &copy, "--exact", "worker::ends::peer"];
        let mut command = Command::new("setpriv");
        command.args(words).args(["--ignored", "--nocapture"]).env("JFS_TEST_SOCKET", &worker.socket);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).contains("answered: {\"failed\"")
    };
    assert!(answered("65532"));
    assert!(!answered("1000"));
    assert!(pod.messages("worker").contains(&"refused a peer that runs as another user".to_owned()));
}

#[test]
fn more_requests_than_places_wait_for_their_turn() {
    let pod = Pod::on_redis();
    pod.format();
    let worker = Worker::start(&pod);
    redis(&pod).signal(Signal::STOP);
    let streams: Vec<UnixStream> = (0..20)
        .map(|number| worker.begin(&request(&pod, create(&format!("pv-{number}"), Some(1)))))
        .collect();
    wait_until("eight at the same time", || children_of(worker.pid()).len() == 8);
    // Longer than who says nothing may take: those who wait have said something.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(children_of(worker.pid()).len(), 8);
    redis(&pod).signal(Signal::CONT);
    let answers: Vec<_> = streams.into_iter().map(answer).collect();
    assert!(answers.iter().all(|answer| *answer == done()), "{answers:?}");
}

#[test]
fn a_killed_request_leaves_nothing_behind() {
    let pod = Pod::on_redis();
    pod.format();
    let worker = Worker::start(&pod);
    redis(&pod).signal(Signal::STOP);
    let stream = worker.begin(&request(&pod, create("pv-1", Some(1))));
    wait_until("the client", || worker.descendants().len() == 2);
    kill_process(children_of(worker.pid())[0], Signal::KILL).unwrap();
    wait_until("the client to be gone", || worker.descendants().is_empty());
    wait_until("its files to be gone", || fs::read_dir(&worker.scratch).unwrap().count() == 0);
    drop(stream);
    redis(&pod).signal(Signal::CONT);
    assert_eq!(worker.ask(&request(&pod, create("pv-1", Some(1)))), done());
}

#[test]
fn told_to_stop_it_calls_off_what_is_under_way() {
    let pod = Pod::on_redis();
    pod.format();
    let mut worker = Worker::start(&pod);
    redis(&pod).signal(Signal::STOP);
    let stream = worker.begin(&request(&pod, create("pv-1", Some(1))));
    wait_until("the client", || worker.descendants().len() == 2);
    let client = worker.descendants()[1];
    worker.process.signal(Signal::TERM);
    let (kind, message) = failed(answer(stream));
    assert_eq!(kind, Kind::CalledOff, "{message}");
    assert!(worker.process.end().success());
    assert!(!fs::exists(format!("/proc/{}", client.as_raw_nonzero())).unwrap());
    assert!(!worker.socket.exists());
    assert_eq!(fs::read_dir(&worker.scratch).unwrap().count(), 0);
    redis(&pod).signal(Signal::CONT);
    // A new one clears up after one that could not.
    fs::create_dir_all(worker.scratch.join("123/.juicefs")).unwrap();
    drop(worker);
    let worker = Worker::start(&pod);
    assert_eq!(fs::read_dir(&worker.scratch).unwrap().count(), 0);
    assert_eq!(worker.ask(&request(&pod, create("pv-1", Some(1)))), done());
}
