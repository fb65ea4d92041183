//! `ready`, `status` and `wait-exit`.

use crate::pod::Pod;
use crate::process::{holds_within, wait_until};
use rustix::process::{Signal, kill_process};
use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

#[test]
fn ready_never_hangs_and_tells_not_yet_from_failed() {
    let pod = Pod::on_sqlite();
    pod.format();
    assert_eq!(pod.ready(Some("data")).0, Some(1), "nobody is there");
    let _holder = pod.holder();
    assert_eq!(pod.ready(Some("data")).0, Some(1), "no client is there");
    let runner = pod.runner();
    // A client that stands still is what no attribute cache may hide.
    for pid in runner.client() {
        kill_process(pid, Signal::STOP).unwrap();
    }
    for _ in 0..3 {
        let begin = Instant::now();
        let (code, reason) = pod.ready(Some("data"));
        assert_eq!(code, Some(1), "{reason}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    for pid in runner.client() {
        kill_process(pid, Signal::CONT).unwrap();
    }
    pod.wait_until_ready();
}

#[test]
fn ready_waits_when_it_is_told_to_and_no_longer() {
    let pod = Pod::on_sqlite();
    pod.format();
    let run = pod.path("run");
    let wait = |seconds: &str| {
        let begin = Instant::now();
        let words = ["ready", "--run-dir", &run, "--volume", "data", "--wait", seconds];
        (pod.agent(&words).status.code(), begin.elapsed())
    };
    let (code, took) = wait("1");
    assert_eq!(code, Some(1), "nobody is there");
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "{took:?}");
    let _holder = pod.holder();
    let (runner, (code, took)) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait("60"));
        let runner = pod.start_runner("data", &[], &pod.client_words(&[]));
        (runner, waiting.join().unwrap())
    });
    assert_eq!(code, Some(0), "{}", pod.log("runner"));
    assert!(took < Duration::from_secs(30), "{took:?}");
    drop(runner);
}

#[test]
fn status_says_who_serves_and_what_is_open() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let status = pod.status("data");
    assert_eq!((&status["state"], &status["holder"]), (&"serving".into(), &"held".into()), "{status}");
    assert!(status["clientVersion"].as_str().unwrap().starts_with(char::is_numeric), "{status}");
    assert!(status["session"].is_u64() && status["since"].is_string(), "{status}");
    assert_eq!((&status["restarts"], &status["openHandles"]), (&0.into(), &0.into()), "{status}");
    let application = pod.application("writers");
    wait_until("four handles", || pod.status("data")["openHandles"] == 4);
    runner.kill_client();
    wait_until("a restart", || pod.status("data")["restarts"] == 1);
    pod.wait_until_ready();
    assert!(pod.status("data")["lastError"].as_str().unwrap().contains("signal 9"));
    application.finish(&pod);
}

/// Runs `wait-exit`: how long it took and what it said.
fn wait_exit(pod: &Pod, words: &[&str]) -> (Duration, String) {
    let begin = Instant::now();
    let words: Vec<&str> = ["wait-exit", "--strategy"].iter().chain(words).copied().collect();
    let output = pod.agent(&words);
    assert!(output.status.success(), "{output:?}");
    (begin.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn wait_exit_waits_for_what_it_was_told() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let mount = pod.mountpoint("data");
    let (took, said) = wait_exit(&pod, &["idle", "--mountpoint", &mount, "--quiet", "0.5", "--limit", "20"]);
    assert!(said.contains("no open handles for 0.5 s") && took < Duration::from_secs(10), "{said}");
    let application = pod.application("writers");
    wait_until("four handles", || pod.status("data")["openHandles"] == 4);
    let (took, said) = wait_exit(&pod, &["idle", "--mountpoint", &mount, "--quiet", "0.5", "--limit", "1.5"]);
    assert!(said.contains("gave up at the limit with 4 open handles"), "{said}");
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(6), "{took:?}");
    application.finish(&pod);
    let (_, said) = wait_exit(&pod, &["staging", "--mountpoint", &mount, "--limit", "5"]);
    assert!(said.contains("everything is uploaded"), "{said}");
    let (took, said) = wait_exit(&pod, &["sleep", "--limit", "0.3"]);
    assert!(said.contains("slept") && took >= Duration::from_millis(300), "{said}");
    // A mount that does not answer does not hold it beyond the limit.
    for pid in runner.client() {
        kill_process(pid, Signal::STOP).unwrap();
    }
    let (took, said) = wait_exit(&pod, &["idle", "--mountpoint", &mount, "--limit", "1"]);
    assert!(said.contains("gave up at the limit") && took < Duration::from_secs(6), "{took:?} {said}");
    for pid in runner.client() {
        kill_process(pid, Signal::CONT).unwrap();
    }
    let (_, said) = wait_exit(&pod, &["idle", "--mountpoint", &pod.path("store"), "--limit", "5"]);
    assert!(said.contains("nothing to wait for"), "{said}");
}

#[test]
fn wait_exit_sees_a_port_close() {
    let pod = Pod::on_sqlite();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (took, said) = wait_exit(&pod, &["port", "--port", &port, "--limit", "0.6"]);
    assert!(said.contains("still open") && took >= Duration::from_millis(600), "{said}");
    drop(listener);
    let (_, said) = wait_exit(&pod, &["port", "--port", &port, "--limit", "20"]);
    assert!(said.contains("refuses"), "{said}");
}

#[test]
fn the_mount_is_ready_only_while_it_is_served() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    assert_eq!(runner.stop().0, Some(0));
    assert!(holds_within(Duration::from_secs(5), || pod.ready(Some("data")).0 == Some(1)));
    let _runner = pod.runner();
}
