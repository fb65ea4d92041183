//! The holder dies, with or without the client, or is told to stop.

use crate::pod::Pod;
use crate::process::{Process, exit_code, wait_until};
use rustix::process::{Signal, kill_process};

/// Resident memory of a process in KiB.
fn resident(pid: rustix::process::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_killed_holder_is_not_noticed_and_the_next_one_keeps_the_mount() {
    let pod = Pod::on_sqlite();
    pod.format();
    let mut holder = pod.holder();
    let mut runner = pod.runner();
    let application = pod.application("busy");
    for _ in 0..3 {
        holder.kill();
        // The client may die while there is no holder: the runner has all it needs.
        runner.kill_client();
        wait_until("the client to serve again", || {
            runner.client().len() == 2 && pod.node_reads("busy-0/steady")
        });
        holder = pod.holder();
        wait_until("the holder to have the mount", || pod.status("data")["holder"] == "held");
        runner.kill_client();
        pod.wait_until_ready();
        // And then the whole client, with all that the new holder was given.
        runner.kill();
        runner = pod.runner();
    }
    assert_eq!(pod.layers("data"), 1);
    println!(
        "resident: holder {} KiB, runner {} KiB",
        resident(holder.pid()),
        resident(runner.pid().unwrap())
    );
    assert!(resident(holder.pid()) < 6 * 1024);
    assert!(resident(runner.pid().unwrap()) < 6 * 1024);
    let report = application.finish(&pod);
    println!("holder killed: {} operations, longest stall {} ms", report.operations, report.longest);
    assert_eq!(report.errors, [""; 0]);
}

/// A look that hangs keeps its container from ending, and so the next client from starting, while the holder keeps the
/// mount: the runner's own, which it needs while there is no holder, has to end before.
#[test]
fn a_look_of_the_runners_own_ends_with_its_use() {
    let pod = Pod::on_sqlite();
    pod.format();
    // Without sending again the looks take long enough to be met.
    let mut holder = pod.holder();
    let mut runner = pod.start_runner("data", &["--resend", "no"], &pod.client_words(&[]));
    pod.wait_until_ready();
    assert!(pod.node_writes("file"));
    let hanging_look = |holder: &mut Process| {
        holder.kill();
        runner.kill_client();
        wait_until("a look", || runner.own_look().is_some());
        let look = runner.own_look().unwrap();
        kill_process(look, Signal::STOP).unwrap();
        look
    };
    for again in [false, true] {
        let look = hanging_look(&mut holder);
        if again {
            runner.kill_client();
        } else {
            holder = pod.holder();
        }
        wait_until("the look to end", || runner.own_look() != Some(look));
    }
    holder = pod.holder();
    pod.wait_until_ready();
    assert!(pod.node_reads("file"));
    let messages = pod.messages("runner");
    assert!(!messages.iter().any(|message| message.contains("did not answer in time")), "{messages:?}");
    assert_eq!(runner.stop().0, Some(0));
    holder.signal(Signal::TERM);
    assert_eq!(exit_code(holder.end()), Some(0));
}

#[test]
fn holder_and_client_killed_together_leave_one_clean_layer() {
    let pod = Pod::on_sqlite();
    pod.format();
    let mut holder = pod.holder();
    let mut runner = pod.runner();
    for _ in 0..3 {
        assert!(pod.node_writes("file"));
        holder.kill();
        runner.kill();
        holder = pod.holder();
        runner = pod.runner();
        assert!(pod.node_reads("file"));
        assert_eq!(pod.layers("data"), 1);
    }
    assert_eq!(runner.stop().0, Some(0));
    holder.signal(Signal::TERM);
    assert_eq!(exit_code(holder.end()), Some(0));
    assert_eq!(pod.layers("data"), 0);
}

#[test]
fn nothing_is_left_mounted_whoever_stops_first() {
    let pod = Pod::on_sqlite();
    pod.format();
    let mut holder = pod.holder();
    let runner = pod.runner();
    holder.signal(Signal::TERM);
    assert_eq!(exit_code(holder.end()), Some(0));
    assert_eq!(pod.layers("data"), 0);
    drop(runner);
    // A holder that nobody ever fetched from.
    let mut holder = pod.holder();
    assert_eq!(pod.layers("data"), 1);
    holder.signal(Signal::TERM);
    assert_eq!(exit_code(holder.end()), Some(0));
    assert_eq!(pod.layers("data"), 0);
}

#[test]
fn of_two_volumes_the_good_one_serves_and_the_bad_one_is_retried() {
    let pod = Pod::on_sqlite();
    pod.format();
    // A file cannot be a mountpoint.
    std::fs::write(pod.mountpoint("bad"), "").unwrap();
    let _holder = pod.start_holder(&["bad", "data"]);
    wait_until("the holder", || pod.ready(None).0 == Some(0));
    let _runner = pod.runner();
    assert!(pod.node_writes("file"));
    let (code, reason) = pod.ready(Some("bad"));
    assert_eq!(code, Some(2), "{reason}");
    assert!(reason.contains("Not a directory"), "{reason}");
    assert_eq!(pod.status("bad")["state"], "failed");
    std::fs::remove_file(pod.mountpoint("bad")).unwrap();
    wait_until("the bad volume to be mounted", || pod.status("bad")["state"] == "mounted");
    assert_eq!(pod.layers("bad"), 1);
    // Now both are served, each by a client of its own, and either may die without the other.
    let other = pod.start_runner("bad", &[], &pod.client_words(&[]));
    wait_until("the other volume", || pod.ready(Some("bad")).0 == Some(0));
    other.kill_client();
    assert!(pod.node_reads("file"));
    wait_until("the other volume again", || pod.ready(Some("bad")).0 == Some(0));
    assert_eq!((&pod.status("data")["restarts"], &pod.status("bad")["restarts"]), (&0.into(), &1.into()));
}

#[test]
fn a_mount_of_somebody_else_is_left_alone() {
    let pod = Pod::on_sqlite();
    pod.format();
    std::fs::create_dir(pod.mountpoint("data")).unwrap();
    assert!(pod.on_node(&["mount", "-t", "tmpfs", "foreign", &pod.mountpoint("data")]).status.success());
    let mut holder = pod.start_holder(&["data"]);
    wait_until("the refusal", || pod.ready(Some("data")).0 == Some(2));
    let reason = pod.ready(Some("data")).1;
    assert!(reason.contains("mount of type tmpfs") && reason.contains("foreign"), "{reason}");
    assert_eq!(pod.layers("data"), 1);
    holder.signal(Signal::TERM);
    assert_eq!(exit_code(holder.end()), Some(1));
    assert_eq!(pod.layers("data"), 1);
}

#[test]
fn a_dead_mount_is_released_without_privilege_by_who_does_not_see_it() {
    let pod = Pod::on_sqlite();
    pod.format();
    let mut holder = pod.holder();
    let mut runner = pod.runner();
    assert!(pod.node_writes("file"));
    holder.kill();
    runner.kill();
    assert_eq!(pod.layers("data"), 1);
    assert!(!pod.on_node(&["stat", &pod.mountpoint("data")]).status.success(), "it is dead");
    // Here, outside of the node's namespace, nothing is mounted.
    let release = || {
        let directory = pod.path("volume");
        let words = ["release", "--directory", &directory, "--mountpoint", "data"];
        let mut command = std::process::Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--no-new-privs"]).arg(crate::pod::agent()).args(words);
        command.output().unwrap()
    };
    let output = release();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(pod.layers("data"), 0);
    assert!(pod.on_node(&["rmdir", &pod.path("volume")]).status.success(), "nothing is left in there");
    std::fs::create_dir(pod.path("volume")).unwrap();
    assert!(release().status.success(), "a second time is as good");
}

#[test]
fn a_mount_has_the_flags_that_its_options_ask_for() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder =
        pod.start_holder_with(&["data", "open"], &["--flags=data=noexec,sync", "--flags=open=suid"]);
    wait_until("the holder", || pod.ready(None).0 == Some(0));
    let table = String::from_utf8(pod.on_node(&["cat", "/proc/self/mountinfo"]).stdout).unwrap();
    let flags = |volume: &str| {
        let place = pod.mountpoint(volume);
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(&place)).unwrap();
        line.split(' ').nth(5).unwrap().to_owned()
    };
    assert_eq!(flags("open"), "rw,nodev,relatime");
    assert!(flags("data").starts_with("rw,nosuid,nodev,noexec"), "{}", flags("data"));
    assert!(table.lines().any(|line| line.contains(&pod.mountpoint("data")) && line.contains(" rw,sync,")));
    let _runner = pod.runner();
    assert!(pod.node_writes("script"));
    let script = format!("{}/script", pod.mountpoint("data"));
    assert!(pod.on_node(&["chmod", "755", &script]).status.success());
    let run = pod.on_node(&["sh", "-c", &script]);
    assert!(String::from_utf8_lossy(&run.stderr).contains("Permission denied"), "{run:?}");
}
