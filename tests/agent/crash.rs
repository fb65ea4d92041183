//! The client dies.

use crate::pod::Pod;
use crate::process::{exit_code, wait_until};
use rustix::process::{Signal, kill_process};
use std::{collections::BTreeSet, time::Duration};

const KILLS: u64 = 100;

/// What an application may notice on a machine that does nothing else: no operation takes longer than this, ...
const LONGEST_STALL: Duration = Duration::from_millis(500);

/// ... and one in so many may be lost with the client that had it in hand.
const OPERATIONS_FOR_A_LOSS: u128 = 500;

/// How long the client takes there at most to start by itself, without the agent. It is measured here too, beside the
/// same application; where it takes longer the machine is busy, and the bars move with it.
const PLAIN_START: Duration = Duration::from_millis(300);

/// How many slowest plain starts the longest stall may take on a busy machine. There are more kills than plain starts,
/// so that more of the machine's own pauses fall into them.
const STARTS_IN_A_STALL: u32 = 5;

/// So many kills to a plain start.
const KILLS_TO_A_START: u64 = 5;

/// A number that differs from call to call and is the same in every run (xorshift).
pub(crate) fn next(state: &mut u64, below: u64) -> u64 {
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
    let mut slowest_start = PLAIN_START;
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
        if kill % KILLS_TO_A_START == 0 {
            slowest_start = slowest_start.max(pod.plain_start());
        }
    }
    pod.wait_until_ready();
    let restarts = pod.status("data")["restarts"].as_u64().unwrap();
    let report = application.finish(&pod);
    let longest = Duration::from_millis(report.longest);
    let lost = u128::from(report.bad_descriptors + report.repeated);
    let start = slowest_start.as_millis();
    println!(
        "{KILLS} kills ({restarts} restarts): {} operations, {} errors, {} files checked, longest stall {longest:?} \
         (slowest start of the client by itself {start} ms, of the next one after a kill {} ms), \
         {} descriptors open for writing lost, {} renames repeated",
        report.operations,
        report.errors.len(),
        report.checked,
        start_times(&pod).iter().max().unwrap(),
        report.bad_descriptors,
        report.repeated,
    );
    assert!(restarts >= KILLS);
    assert_eq!(report.errors, [""; 0]);
    assert!(report.checked > 10 && report.operations > 1000);
    let longest_stall =
        if slowest_start > PLAIN_START { slowest_start * STARTS_IN_A_STALL } else { LONGEST_STALL };
    assert!(longest <= longest_stall, "a stall of {longest:?}, more than {longest_stall:?}");
    let bearable = u128::from(report.operations) * start / PLAIN_START.as_millis() / OPERATIONS_FOR_A_LOSS;
    assert!(lost <= bearable, "{lost} operations lost, more than {bearable}");
}

/// As with a kernel older than 6.9: who has an operation in flight waits for seconds and is then told so, but nobody waits
/// for ever, and nothing that was confirmed is lost.
#[test]
fn what_the_kernel_cannot_send_again_is_interrupted() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.start_runner("data", &["--resend", "no"], &pod.client_words(&[]));
    pod.wait_until_ready();
    let application = pod.application("busy");
    for kill in 0..3 {
        runner.kill_client();
        wait_until("the next client to serve", || {
            pod.status("data")["restarts"].as_u64() > Some(kill) && pod.ready(Some("data")).0 == Some(0)
        });
    }
    let report = application.finish(&pod);
    println!(
        "3 kills without sending again: {} operations, longest stall {} ms, {} interrupted",
        report.operations,
        report.longest,
        report.errors.len()
    );
    assert!(report.longest > 1000, "nothing was in flight: {report:?}");
    assert!(report.errors.iter().all(|error| error.contains("os error 4")), "{report:?}");
    assert!(report.checked > 10 && report.operations > 100, "{report:?}");
}

/// Who would rather begin anew than go on beside what is lost gets an error from everything, at once and for good.
#[test]
fn a_mount_that_is_to_fail_with_its_client_fails() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let start = || {
        let runner = pod.start_runner("data", &["--on-crash", "fail"], &pod.client_words(&[]));
        pod.wait_until_ready();
        runner
    };
    // First the client dies, then its whole container.
    for whole in [false, true] {
        let mut runner = start();
        assert!(pod.node_writes("file"));
        let application = pod.application("abandoned");
        if whole {
            runner.kill();
            let next = start();
            drop(next);
        } else {
            runner.kill_client();
            assert_eq!(exit_code(runner.container.end()), Some(73));
            let (code, said) = pod.ready(Some("data"));
            assert!(code != Some(0) && said.contains("its mount is given up"), "{code:?}: {said}");
        }
        let report = application.finish(&pod);
        assert_eq!(report.errors, [""; 0]);
        assert_eq!(report.checked, 3);
        let _runner = start();
        assert!(pod.node_reads("file") && pod.node_writes("another"));
        assert_eq!(pod.layers("data"), 1);
    }
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
