//! `juicefs-sidecar serve`: webhook and controller in one process, for clusters where that is enough.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;

use super::{
    controller::duties::{DutyArguments, checked, work},
    installation::InstallationArguments,
    process::ProcessArguments,
    program,
    signals::Signals,
    webhook::{arguments::ServingArguments, wiring::Webhook},
};
use crate::telemetry::{ControllerMetrics, LogArguments, Metrics};

const EXAMPLES: &str = "\
Installed by webhook-config/components/one-program. Several replicas all
answer reviews; one of them, by a Lease, does what the controller does.

Exit code:
  0  told to stop (SIGTERM, SIGINT), after answering what was in flight
  2  it cannot serve; the log says why
  3  the API server cannot be reached
  4  rights are missing; the log names them
  5  the namespace is not known or does not exist";

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArguments {
    /// Where /healthz, /readyz and /metrics are answered, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9445")]
    metrics_listen: SocketAddr,

    #[command(flatten)]
    pub(super) serving: ServingArguments,

    #[command(flatten)]
    pub(super) duties: DutyArguments,

    #[command(flatten)]
    pub(super) installation: InstallationArguments,

    #[command(flatten)]
    process: ProcessArguments,

    #[command(flatten)]
    logs: LogArguments,
}

impl ServeArguments {
    /// Serves and works until told to stop; the exit codes are in the help.
    pub(super) fn run(&self) -> u8 {
        program::run(&self.logs, self.serve())
    }

    async fn serve(&self) -> anyhow::Result<()> {
        let (metrics, duties_metrics) = Metrics::with(ControllerMetrics::register);
        let signals = Signals::new().context("cannot wait for signals")?;
        let installation = self.installation.find("serve", metrics.api_calls.clone()).await?;
        let arguments = tokio::select! {
            arguments = self.process.of(&installation, "serve") => arguments?,
            _ = signals.next() => return Ok(()),
        };
        let process = arguments.process();
        let driver = process.driver.clone();
        let webhook = Webhook::prepare(&self.serving, self.metrics_listen, process, None, metrics)?;
        let controller =
            self.duties.controller(installation.clone(), driver, arguments.pods(), duties_metrics)?;
        tokio::select! {
            checked = checked(&self.duties, &controller) => checked?,
            _ = signals.next() => return Ok(()),
        }
        let mut candidate = self.duties.candidate(&controller);
        // The work goes on while the webhook drains; then somebody else may have the Lease.
        let served = tokio::select! {
            served = webhook.serve(Some(&installation), &signals) => served,
            () = work(&controller, candidate.as_mut()) => Ok(()),
        };
        if let Some(candidate) = &mut candidate {
            candidate.release().await;
        }
        served
    }
}
