//! What goes wrong around the agent, and what an operator is told.

use crate::container::Runner;
use crate::pod::{Engine, Pod, Redis, agent};
use crate::process::{exit_code, free_port, wait_until};
use rustix::process::{Signal, kill_process};
use std::time::{Duration, Instant};

/// The client command failed before it ever served.
const CLIENT_FAILED: Option<i32> = Some(71);
/// A first command failed.
const FIRST_FAILED: Option<i32> = Some(70);
/// Ended by SIGTERM before anything was served.
const TERMINATED: Option<i32> = Some(143);

/// Waits for the end of a runner that gives up; its exit code and its last words, which the probe repeats.
fn give_up(pod: &Pod, mut runner: Runner) -> (Option<i32>, String) {
    let code = exit_code(runner.container.end());
    let (probe, words) = pod.ready(Some("data"));
    assert_eq!(probe, Some(2), "{words}");
    let said = pod.messages("runner").pop().unwrap();
    let repeated: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!(repeated["message"], said);
    (code, said)
}

fn redis(pod: &mut Pod) -> &mut Redis {
    match &mut pod.engine {
        Engine::Redis(redis) => redis,
        Engine::Sqlite => panic!("this pod has no redis"),
    }
}

/// Stops redis, which saves what it has.
fn stop_redis(pod: &mut Pod) {
    let process = &mut redis(pod).process;
    process.signal(Signal::TERM);
    process.end();
}

fn start_redis(pod: &mut Pod) {
    let directory = pod.directory.clone();
    let redis = redis(pod);
    *redis = Redis::start_on(redis.port, &directory, "pass-of-redis");
}

#[test]
fn a_wrong_command_line_is_refused_with_what_is_wrong() {
    let wrong: [(&[&str], &str); 9] = [
        (&[], "a command is missing"),
        (&["mount"], "unknown command: mount"),
        (&["hold", "--run-dir", "/nowhere"], "--volume is missing"),
        (&["hold", "--run-dir", "nowhere", "--volume", "a=/a"], "--run-dir must be an absolute path"),
        (&["hold", "--run-dir", "/nowhere", "--volume", "a"], "no mountpoint in"),
        (&["hold", "--run-dir", "/nowhere", "--volume", "a=/a", "--volume", "a=/b"], "there twice: a=/b"),
        (&["run", "--run-dir", "/nowhere", "--volume", "a"], "the client's command is missing"),
        (
            &["run", "--run-dir", "/nowhere", "--volume", "a", "--first", "true", "--", "true"],
            "is not a JSON array",
        ),
        (&["wait-exit", "--strategy", "never", "--limit", "1"], "--strategy is one of"),
    ];
    for (words, what) in wrong {
        let output = std::process::Command::new(agent()).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn a_metadata_engine_that_comes_late_is_waited_for() {
    let mut pod = Pod::on_redis();
    pod.format();
    stop_redis(&mut pod);
    let _holder = pod.holder();
    let mut runner = pod.start_runner("data", &[], &pod.client_words(&[]));
    wait_until("the client to have started", || pod.status("data")["state"] == "starting");
    assert_eq!(pod.ready(Some("data")).0, Some(1));
    let (code, took) = runner.stop();
    assert_eq!(code, TERMINATED);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let _runner = pod.start_runner("data", &[], &pod.client_words(&[]));
    wait_until("the client to have started", || pod.status("data")["state"] == "starting");
    start_redis(&mut pod);
    pod.wait_until_ready();
    assert!(pod.node_writes("file"));
}

#[test]
fn a_metadata_engine_that_goes_and_comes_back_is_survived_even_by_a_killed_client() {
    let mut pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    assert!(pod.node_writes("file"));
    stop_redis(&mut pod);
    runner.kill_client();
    wait_until("the next client", || runner.client().len() == 1 || pod.status("data")["restarts"] == 1);
    assert_eq!(pod.ready(Some("data")).0, Some(1));
    start_redis(&mut pod);
    pod.wait_until_ready();
    assert!(pod.node_reads("file"));
}

#[test]
fn a_slow_metadata_engine_is_waited_for() {
    let mut pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let application = pod.application("busy");
    let process = redis(&mut pod).process.pid();
    for _ in 0..2 {
        kill_process(process, Signal::STOP).unwrap();
        runner.kill_client();
        std::thread::sleep(Duration::from_secs(1));
        kill_process(process, Signal::CONT).unwrap();
        pod.wait_until_ready();
    }
    let report = application.finish(&pod);
    println!("redis stopped for a second while the client restarts: longest stall {} ms", report.longest);
    assert_eq!(report.errors, [""; 0]);
}

#[test]
fn an_unformatted_volume_is_named_as_the_reason() {
    let pod = Pod::on_sqlite();
    let _holder = pod.holder();
    let runner = pod.start_runner("data", &[], &pod.client_words(&[]));
    let (code, said) = give_up(&pod, runner);
    assert_eq!(code, CLIENT_FAILED);
    assert!(said.contains("ended 5 times before it ever served") && said.contains("not formatted"), "{said}");
}

#[test]
fn a_wrong_password_is_named_as_the_reason_and_not_repeated() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let mut client = pod.client_words(&[]);
    for word in &mut client {
        *word = word.replace("pass-of-redis", "another-secret");
    }
    let first = serde_json::to_string(
        &client[..1]
            .iter()
            .map(String::as_str)
            .chain(["status", &client[client.len() - 2]])
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let runner = pod.start_runner("data", &["--first", &first], &client);
    let (code, said) = give_up(&pod, runner);
    assert_eq!(code, FIRST_FAILED);
    assert!(said.contains("WRONGPASS"), "{said}");
    let runner = pod.start_runner("data", &[], &client);
    let (code, said) = give_up(&pod, runner);
    assert_eq!(code, CLIENT_FAILED);
    assert!(said.contains("WRONGPASS"), "{said}");
    assert!(!pod.log("runner").contains("another-secret"));
}

#[test]
fn first_commands_run_in_order_and_their_failure_is_the_runners() {
    let pod = Pod::on_sqlite();
    let _holder = pod.holder();
    let client = pod.client_words(&[])[0].clone();
    let mut format = pod.format_words();
    format[0].clone_from(&client);
    let format = serde_json::to_string(&format).unwrap();
    let check = serde_json::to_string(&[client.as_str(), "status", &pod.metadata()]).unwrap();
    let mut runner =
        pod.start_runner("data", &["--first", &format, "--first", &check], &pod.client_words(&[]));
    pod.wait_until_ready();
    assert_eq!(runner.stop().0, Some(0));
    let fail = r#"["sh","-c","echo the --secret-key is $1; exit 9","sh","topsecret"]"#;
    let masked = r#"["true","--secret-key","topsecret"]"#;
    let words = pod.client_words(&[]);
    let runner =
        pod.start_runner("data", &["--first", masked, "--first", fail, "--first", r#"["false"]"#], &words);
    let (code, said) = give_up(&pod, runner);
    assert_eq!(code, FIRST_FAILED);
    assert!(said.ends_with("failed: exit code 9: the --secret-key is ****"), "{said}");
    assert!(!pod.log("runner").contains("topsecret"));
}

#[test]
fn a_first_command_that_hangs_is_limited_and_can_be_interrupted() {
    let pod = Pod::on_sqlite();
    let _holder = pod.holder();
    let hang = r#"["sh","-c","echo waiting for godot; sleep 1000"]"#;
    let options = ["--first", hang, "--first-limit", "1"];
    let runner = pod.start_runner("data", &options, &pod.client_words(&[]));
    let (code, said) = give_up(&pod, runner);
    assert_eq!(code, FIRST_FAILED);
    assert!(said.contains("not done within 1.0 s; its last words: waiting for godot"), "{said}");
    let mut runner = pod.start_runner("data", &["--first", hang], &pod.client_words(&[]));
    wait_until("the command to run", || pod.log("runner").matches("\"waiting for godot\"").count() == 2);
    let (code, took) = runner.stop();
    assert_eq!(code, TERMINATED);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_busy_metrics_port_costs_the_metrics_only() {
    let mut pod = Pod::on_sqlite();
    pod.format();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    pod.metrics_port = listener.local_addr().unwrap().port();
    let _holder = pod.holder();
    let _runner = pod.runner();
    assert!(pod.node_writes("file"));
    pod.metrics_port = free_port();
}

#[test]
fn a_full_cache_disk_costs_the_cache_only() {
    let pod = Pod::on_sqlite();
    pod.format();
    assert!(
        pod.on_node(&["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", &pod.path("cache")])
            .status
            .success()
    );
    _ = pod.on_node(&["dd", "if=/dev/zero", &format!("of={}/fill", pod.path("cache")), "bs=4k"]);
    let _holder = pod.holder();
    let runner = pod.runner();
    let application = pod.application("busy");
    runner.kill_client();
    pod.wait_until_ready();
    let report = application.finish(&pod);
    assert_eq!(report.errors, [""; 0]);
}

#[test]
fn a_client_that_does_not_hand_over_is_ended_at_the_limit() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.start_runner("data", &["--grace", "3"], &pod.client_words(&[]));
    pod.wait_until_ready();
    for pid in runner.client() {
        kill_process(pid, Signal::STOP).unwrap();
    }
    let (code, took) = runner.stop();
    assert_eq!(code, Some(1));
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(15), "{took:?}");
    assert!(pod.messages("runner").iter().any(|said| said.contains("did not hand over in time")));
    let _runner = pod.runner();
    assert!(pod.node_writes("file"));
}

#[test]
fn a_client_that_cannot_be_started_is_named() {
    let pod = Pod::on_sqlite();
    let _holder = pod.holder();
    let runner = pod.start_runner("data", &[], &["/no/such/client".to_owned()]);
    let (code, said) = give_up(&pod, runner);
    assert_eq!(code, Some(1));
    assert!(said.contains("start /no/such/client: No such file or directory"), "{said}");
}

/// Whatever a client starts looks like the client until it runs something else, which on a busy machine is not soon.
#[test]
fn what_a_client_starts_is_not_taken_for_the_one_that_serves() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let script = "(end=$((SECONDS + 1)); while ((SECONDS < end)); do :; done); exec \"$@\"";
    let mut words = ["bash", "-c", script, "bash"].map(str::to_owned).to_vec();
    words.extend(pod.client_words(&[]));
    let mut runner = pod.start_runner("data", &[], &words);
    pod.wait_until_ready();
    assert_eq!(pod.status("data")["restarts"].as_u64(), Some(0), "it was taken for a crash");
    assert_eq!(runner.stop().0, Some(0));
}

#[test]
fn told_to_stop_at_any_moment_of_the_start_it_stops() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut slowest = Duration::ZERO;
    for step in 0..12 {
        let mut runner = pod.start_runner("data", &[], &pod.client_words(&[]));
        wait_until("the runner", || runner.pid().is_some());
        let begin = Instant::now();
        wait_until("the moment", || begin.elapsed() >= Duration::from_millis(30 * step));
        // Until the agent is process 1 and has its handlers, no signal reaches that.
        wait_until("the agent's handlers", || {
            let place = runner.pid().map(|pid| format!("/proc/{}", pid.as_raw_nonzero()));
            let read = |name| {
                place.as_ref().and_then(|place| std::fs::read_to_string(format!("{place}/{name}")).ok())
            };
            read("comm").is_some_and(|name| name.trim() == "jfs-agent")
                && read("status").is_some_and(|status| catches_sigterm(&status))
        });
        let (code, took) = runner.stop();
        assert!(code == TERMINATED || code == Some(0), "{code:?} after {step} steps");
        slowest = slowest.max(took);
    }
    println!("told to stop while starting: gone after {} ms at most", slowest.as_millis());
    assert!(slowest < Duration::from_secs(20));
    let _runner = pod.runner();
    assert!(pod.node_writes("file"));
    assert_eq!(pod.layers("data"), 1);
}

/// Whether `/proc/PID/status` shows a handler for signal 15.
fn catches_sigterm(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> 14 & 1 == 1
}
