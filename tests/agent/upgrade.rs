//! The client is replaced.

use crate::pod::{Pod, juicefs, older_juicefs};

#[test]
fn replaced_twenty_times_while_files_are_open_for_writing() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    let application = pod.application("writers");
    let mut longest = 0;
    for _ in 0..20 {
        let (code, took) = runner.stop();
        assert_eq!(code, Some(0));
        longest = longest.max(took.as_millis());
        runner = pod.runner();
    }
    let report = application.finish(&pod);
    println!(
        "20 replacements: {} operations, {} errors, longest stall {} ms, longest hand-over {longest} ms",
        report.operations,
        report.errors.len(),
        report.longest,
    );
    assert_eq!(report.errors, [""; 0]);
    assert_eq!((report.checked, report.bad_descriptors), (4, 0));
}

#[test]
fn replaced_by_another_version_and_back() {
    let mut pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    pod.use_client(&older_juicefs());
    let mut runner = pod.runner();
    let older = pod.status("data")["clientVersion"].as_str().unwrap().to_owned();
    let application = pod.application("writers");
    assert_eq!(runner.stop().0, Some(0));
    pod.use_client(&juicefs());
    runner = pod.runner();
    let newer = pod.status("data")["clientVersion"].as_str().unwrap().to_owned();
    assert_ne!(older, newer);
    assert_eq!(runner.stop().0, Some(0));
    pod.use_client(&older_juicefs());
    let _runner = pod.runner();
    let report = application.finish(&pod);
    println!(
        "{older} to {newer} and back: {} operations, longest stall {} ms",
        report.operations, report.longest
    );
    assert_eq!(report.errors, [""; 0]);
    assert_eq!((report.checked, report.bad_descriptors), (4, 0));
}

#[test]
fn an_idle_mount_is_handed_over_at_once() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    let (code, took) = runner.stop();
    println!("idle hand-over: {} ms", took.as_millis());
    assert_eq!(code, Some(0));
    // Without requests that wake its readers the client gives up after ten seconds.
    assert!(took.as_secs() < 8, "{took:?}");
    assert!(pod.directory.join("run/data/client/state.json").exists());
}

#[test]
fn internal_files_may_have_other_names_or_be_hidden() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    for option in ["--prefix-internal", "--hide-internal"] {
        let words = pod.client_words(&[option]);
        let mut runner = pod.start_runner("data", &[], &words);
        pod.wait_until_ready();
        let session = &pod.status("data")["session"];
        assert!(session.is_u64(), "{option}: {session}");
        assert_eq!(runner.stop().0, Some(0), "{option}");
    }
}

#[test]
fn what_an_earlier_mount_left_is_ignored() {
    let pod = Pod::on_sqlite();
    pod.format();
    let mut holder = pod.holder();
    let mut runner = pod.runner();
    assert_eq!(runner.stop().0, Some(0));
    holder.kill();
    let _holder = pod.holder();
    let _runner = pod.runner();
    assert!(pod.node_writes("file"));
    let ignored = |message: &String| message.starts_with("ignoring what a client of an earlier mount left");
    assert!(pod.messages("runner").iter().any(ignored));
}

#[test]
fn a_broken_hand_over_file_is_ignored() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    assert_eq!(runner.stop().0, Some(0));
    std::fs::write(pod.directory.join("run/data/client/handover.json"), "{\"generation\":").unwrap();
    let _runner = pod.runner();
    assert!(pod.node_writes("file"));
}
