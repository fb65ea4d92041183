//! The client is replaced.

use crate::pod::Pod;

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
