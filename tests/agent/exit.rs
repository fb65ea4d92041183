//! What is written last is kept.

use crate::pod::Pod;

#[test]
fn what_waits_for_upload_is_uploaded_before_the_client_leaves() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let mut runner =
        pod.start_runner("data", &[], &pod.client_words(&["--writeback", "--upload-limit", "40"]));
    pod.wait_until_ready();
    let path = format!("{}/large", pod.mountpoint("data"));
    let written =
        pod.on_node(&["dd", "if=/dev/urandom", &format!("of={path}"), "bs=1M", "count=12", "conv=fsync"]);
    assert!(written.status.success(), "{written:?}");
    let (code, took) = runner.stop();
    println!("hand-over with 12 MiB to upload at 40 Mbit/s: {} ms", took.as_millis());
    assert_eq!(code, Some(0));
    let waited = |message: &String| message.ends_with("blocks are still to be uploaded");
    assert!(pod.messages("runner").iter().any(waited), "{:?}", pod.messages("runner"));
    let stored = std::process::Command::new("du").args(["-sb", &pod.path("store")]).output().unwrap();
    let stored: u64 = String::from_utf8_lossy(&stored.stdout).split('\t').next().unwrap().parse().unwrap();
    assert!(stored >= 12 << 20, "{stored} bytes are in the store");
}
