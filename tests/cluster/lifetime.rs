//! Nothing that a control plane is made of outlives the test that started it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::control_plane::{self, ControlPlane, directory};

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn alive(pid: i32) -> bool {
    // One that has ended and waits to be collected is no process any more.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()) && !state.contains(") Z ")
}

#[test]
fn dropping_it_ends_every_process_and_removes_every_file() {
    let Some(plane) = ControlPlane::start() else { return };
    let parts = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let pids = parts.map(|part| plane.pid(part));
    assert!(pids.into_iter().all(alive));
    let state = plane.state().to_owned();
    drop(plane);
    assert!(!pids.into_iter().any(alive));
    assert!(!state.exists());
}

#[test]
fn killing_what_supervises_it_ends_every_process() {
    if control_plane::shared().is_none() {
        return;
    }
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("killed-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let state = scratch.join("state");
    let mut up = Command::new(directory().join("up"))
        .args(["--until-eof", "--state"])
        .arg(&state)
        .env("TMPDIR", &scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = || fs::read_to_string(state.join("run/etcd.pid")).ok()?.trim().parse::<i32>().ok();
    // No earlier: what becomes etcd asks the kernel for this first.
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    wait_until("etcd runs", || {
        pid().is_some_and(|pid| name(pid).contains("\0etcd\0") && !name(pid).starts_with("setpriv"))
    });
    let etcd = pid().unwrap();
    kill_process(Pid::from_child(&up), Signal::KILL).unwrap();
    up.wait().unwrap();
    wait_until("etcd has ended", || !alive(etcd));
    fs::remove_dir_all(scratch).unwrap();
}
