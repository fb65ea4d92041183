//! How a program that serves or works until it is told to stop begins and ends.

use std::{future::Future, time::Duration};

use anyhow::Context as _;

use crate::{cluster::NoCaches, controller::start::NoStart, telemetry::LogArguments};

/// How long what is still running at the end may take: a file that cannot be read for long must not hold that up.
const LAST: Duration = Duration::from_secs(1);

/// Runs a program to its end; the exit code says how that was, and the log why.
pub(super) fn run(logs: &LogArguments, program: impl Future<Output = anyhow::Result<()>>) -> u8 {
    logs.start();
    report_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    exit_code(runtime.context("cannot start threads").and_then(|runtime| {
        let ended = runtime.block_on(program);
        runtime.shutdown_timeout(LAST);
        ended
    }))
}

/// Waits for what a command does that ends by itself.
pub(super) fn wait_for<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(command)
}

/// What panics from here on is in the log with its place, not with its payload: that may quote a request.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked; please report this");
    }));
}

fn exit_code(ended: anyhow::Result<()>) -> u8 {
    let Err(error) = ended else { return 0 };
    tracing::error!("{error:#}");
    let start = error.downcast_ref::<NoStart>().map(NoStart::code);
    start.or_else(|| error.downcast_ref::<NoCaches>().map(NoCaches::code)).unwrap_or(2)
}
