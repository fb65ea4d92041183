//! The controller among claims, against the bars of the project: with a real control plane, the real client, redis and
//! the worker, all of which share the machine; loopback only.
//!
//! `cargo bench --bench provision` starts the release binary with the `ServiceAccount` that is shipped, and prints one
//! table. It fails where a figure is beyond its bar.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up has failed"
)]

mod claims;
#[path = "../../cluster/control_plane.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod control_plane;
#[path = "../cluster/figures.rs"]
#[expect(dead_code, reason = "the webhook's figures need more of it")]
mod figures;
#[path = "../../cluster/file_system.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod file_system;
mod memory;
#[path = "../cluster/objects.rs"]
#[expect(dead_code, reason = "the webhook's figures need more of it")]
mod objects;
#[path = "../../cluster/program.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod program;
#[path = "../../cluster/service.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod service;
#[path = "../usage.rs"]
mod usage;

use std::{net::SocketAddr, process::ExitCode};

use control_plane::ControlPlane;
use figures::Table;
use objects::OWN;
use program::Program;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(plane) = ControlPlane::start() else { return ExitCode::FAILURE };
    let mut table = Table::default();
    claims::measure(&plane, &mut table).await;
    memory::measure(&plane, &mut table).await;
    table.print();
    if table.within() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The controller as it is shipped, with its worker, and where it answers for metrics.
async fn controller(plane: &ControlPlane, variables: &[(&str, &str)]) -> (Program, SocketAddr) {
    plane.has_endpoint(true);
    let kubeconfig = plane.kubeconfig(OWN, "juicefs-sidecar-controller").await;
    let worker = format!("--worker={}", file_system::shared().socket().display());
    let program = Program::start(|command| {
        command.args(["controller", "--metrics-listen=127.0.0.1:0", &worker, "--kubeconfig"]).arg(kubeconfig);
        command.env("POD_NAMESPACE", OWN).envs(variables.iter().copied());
    });
    let line = program.wait_for("listening");
    let metrics = line["metrics_address"].as_str().and_then(|address| address.parse().ok());
    program.wait_for("leading");
    (program, metrics.expect("an address"))
}

/// A count as a figure.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).expect("not as many"))
}
