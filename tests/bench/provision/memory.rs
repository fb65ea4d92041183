//! What the controller occupies among ten thousand volumes.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    control_plane::ControlPlane,
    controller,
    figures::Table,
    objects::{self, MANY},
    service::series,
    usage::{memory, processor},
};

pub(crate) async fn measure(plane: &ControlPlane, table: &mut Table) {
    objects::fill(plane).await;
    // Binding ten thousand claims takes it an hour, in which nothing could be measured.
    let binder = Pid::from_raw(plane.pid("kube-controller-manager")).expect("a process id");
    kill_process(binder, Signal::STOP).expect("a process of ours");
    // What is measured is what it occupies, not how slowly it is allowed to write ten thousand secrets.
    let (program, metrics) = controller(plane, &[("KUBE_QPS", "1000"), ("KUBE_BURST", "1000")]).await;
    let begun = Instant::now();
    let written = "juicefs_sidecar_reconciles_total{task=\"secrets\",outcome=\"ok\"}";
    while series(metrics, written).is_none_or(|count| count < MANY as u64) {
        assert!(begun.elapsed() < Duration::from_mins(5), "it does not write its secrets");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    table.note(
        "10,000 claims' secrets written after a start, KUBE_QPS=1000",
        format!("{:.2} s", begun.elapsed().as_secs_f64()),
    );
    table.at_most("resident memory with 10,000 volumes", memory(program.pid(), "VmRSS"), 64.0, "MiB");
    table.at_most("the same, at its highest", memory(program.pid(), "VmHWM"), 64.0, "MiB");
    table.note("processor time until then", format!("{:.2} s", processor(program.pid())));
}
