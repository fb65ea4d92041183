//! The webhook in a cluster of ten thousand claims, against the bars of the project; loopback only.
//!
//! `cargo bench --bench cluster` starts a real control plane (`tests/kubernetes/README.md`), fills it, starts the release
//! binary with the `ServiceAccount` that is shipped, and prints one table. It fails where a figure is beyond its bar.
//! Client, API server and webhook share the machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up has failed"
)]

#[path = "../../webhook/client.rs"]
mod client;
#[path = "../../cluster/control_plane.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod control_plane;
mod creation;
mod figures;
mod objects;
#[path = "../../cluster/program.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod program;
mod reviews;
#[path = "../../cluster/service.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod service;
#[path = "../usage.rs"]
mod usage;
mod webhook;

use std::process::ExitCode;

use control_plane::ControlPlane;
use figures::Table;
use rustix::process::{Pid, Signal, kill_process};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(plane) = ControlPlane::start() else { return ExitCode::FAILURE };
    let mut table = Table::default();
    objects::fill(&plane).await;
    // Binding ten thousand claims takes it an hour, in which nothing could be measured.
    let binder = Pid::from_raw(plane.pid("kube-controller-manager")).expect("a process id");
    kill_process(binder, Signal::STOP).expect("a process of ours");
    webhook::measure(&plane, &mut table).await;
    reviews::measure(&mut table).await;
    creation::measure(&plane, &mut table).await;
    table.print();
    if table.within() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
