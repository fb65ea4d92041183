//! `juicefs-sidecar webhook`: the TLS admission server, over a cluster or over manifests.
//!
//! The command line names [`WebhookArguments`] as the subcommand and calls [`WebhookArguments::run`].

pub(super) mod arguments;
mod manifests;
mod serving;
pub(super) mod wiring;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use self::{arguments::ServingArguments, manifests::Files, wiring::Webhook};
use super::{installation::InstallationArguments, process::ProcessArguments, program, signals::Signals};
use crate::telemetry::{LogArguments, Metrics};

const EXAMPLES: &str = "\
Example, with a review sent by hand:
  juicefs-sidecar webhook --manifests cluster.yaml --ca-out ca.crt &
  curl --cacert ca.crt -H 'content-type: application/json' \\
      --data-binary @review.json https://localhost:9444/juicefs/inject-v1-pod

Exit code:
  0  told to stop (SIGTERM, SIGINT), after answering what was in flight; a
     second signal does not wait for that
  2  it cannot serve; the log says why
  3  the API server cannot be reached
  4  rights are missing; the log names them
  5  the namespace is not known";

/// Arguments of `webhook`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct WebhookArguments {
    /// File or directory of manifests that stand for the cluster: claims, volumes, classes, secrets, nodes;
    /// may be repeated; looked at again every few seconds; without it the cluster itself is watched
    #[arg(long, value_name = "PATH", conflicts_with_all = ["kubeconfig", "namespace", "tls_secret"])]
    manifests: Vec<PathBuf>,

    /// The driver's ConfigMap, or just its config.yaml; wins over a ConfigMap among the manifests
    #[arg(long, value_name = "FILE", requires = "manifests")]
    config: Option<PathBuf>,

    /// Where /healthz, /readyz and /metrics are answered, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9445")]
    metrics_listen: SocketAddr,

    #[command(flatten)]
    pub(super) serving: ServingArguments,

    #[command(flatten)]
    pub(super) installation: InstallationArguments,

    #[command(flatten)]
    process: ProcessArguments,

    #[command(flatten)]
    logs: LogArguments,
}

impl WebhookArguments {
    /// Serves until told to stop; the exit codes are in the help.
    pub fn run(&self) -> u8 {
        program::run(&self.logs, self.serve())
    }

    async fn serve(&self) -> anyhow::Result<()> {
        let files = (!self.manifests.is_empty()).then(|| Files {
            manifests: self.manifests.clone(),
            config: self.config.clone(),
            process: self.process.clone(),
        });
        let over_files = files.is_some();
        let signals = Signals::new().context("cannot wait for signals")?;
        let metrics = Metrics::new();
        let calls = metrics.api_calls.clone();
        let installation =
            if over_files { None } else { Some(self.installation.find("webhook", calls).await?) };
        let process = match &installation {
            Some(installation) => tokio::select! {
                process = self.process.of(installation, "webhook") => process?,
                _ = signals.next() => return Ok(()),
            },
            None => self.process.clone(),
        };
        let process = process.process();
        let webhook = Webhook::prepare(&self.serving, self.metrics_listen, process, files, metrics)?;
        webhook.serve(installation.as_ref(), &signals).await
    }
}
