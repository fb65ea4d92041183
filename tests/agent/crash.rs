//! The client dies.

use crate::pod::{Pod, wait_until};
use rustix::process::{Signal, kill_process};
use std::{collections::BTreeSet, time::Duration};

const KILLS: u64 = 100;

/// A number that differs from call to call and is the same in every run (xorshift).
fn next(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

/// How long the client itself took from its start until it served, as the runner measured it.
fn start_times(pod: &Pod) -> Vec<u64> {
    let messages = pod.messages("runner");
    let times = messages
        .iter()
        .filter_map(|message| message.strip_prefix("serving: took over after ")?.split_once(" ms"));
    times.map(|(time, _)| time.parse().unwrap()).collect()
}

#[test]
fn a_hundred_kills_of_the_whole_client_go_unnoticed() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let application = pod.application("busy");
    let mut numbers = 0x5eed_u64;
    for kill in 1..=KILLS {
        std::thread::sleep(Duration::from_millis(next(&mut numbers, 200)));
        let before: BTreeSet<_> =
            runner.client().into_iter().map(rustix::process::Pid::as_raw_nonzero).collect();
        runner.kill_client();
        wait_until("the next client", || {
            let now = runner.client();
            now.len() == 2 && now.iter().all(|pid| !before.contains(&pid.as_raw_nonzero()))
        });
        // Most kills hit a client that serves, every seventh one that has only just been started.
        if kill % 7 != 0 {
            wait_until("the next client to serve", || pod.ready(Some("data")).0 == Some(0));
        }
    }
    pod.wait_until_ready();
    let restarts = pod.status("data")["restarts"].as_u64().unwrap();
    let report = application.finish(&pod);
    let starts = start_times(&pod);
    println!(
        "{KILLS} kills ({restarts} restarts): {} operations, {} errors, {} files checked, longest stall {} ms \
         (longest start of the client {} ms), {} descriptors open for writing lost, {} renames repeated",
        report.operations,
        report.errors.len(),
        report.checked,
        report.longest,
        starts.iter().max().unwrap(),
        report.bad_descriptors,
        report.repeated,
    );
    assert!(restarts >= KILLS);
    assert_eq!(report.errors, [""; 0]);
    assert!(report.checked > 10 && report.operations > 1000);
    // The bar is half a second; the machine may be busy with anything else.
    assert!(report.longest < 10_000);
}

#[test]
fn either_of_the_two_client_processes_may_die_alone() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let application = pod.application("busy");
    for which in [0, 1, 0, 1] {
        let before = runner.client();
        kill_process(before[which], Signal::KILL).unwrap();
        wait_until("both to be replaced", || {
            let now = runner.client();
            now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
        });
        pod.wait_until_ready();
    }
    let report = application.finish(&pod);
    println!("supervisor or server killed alone: longest stall {} ms", report.longest);
    assert_eq!(report.errors, [""; 0]);
}

#[test]
fn the_whole_client_container_may_die() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    let application = pod.application("busy");
    for _ in 0..5 {
        runner.kill();
        runner = pod.runner();
    }
    let report = application.finish(&pod);
    println!("client container killed: longest stall {} ms", report.longest);
    assert_eq!(report.errors, [""; 0]);
}
