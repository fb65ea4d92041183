//! `juicefs-sidecar controller`: keeps certificates and registration, watches for pods without a client.

pub(super) mod duties;
mod health;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use prometheus_client::registry::Registry;

use self::{
    duties::{DutyArguments, checked, work},
    health::plain,
};
use super::{
    installation::InstallationArguments,
    process::{DriverArguments, PodArguments},
    program,
    signals::Signals,
};
use crate::{
    admission::serve::bind,
    controller::Controller,
    telemetry::{ApiCalls, ControllerMetrics, LogArguments},
};

/// For how long registrations have to stay away before `--unregister` believes it.
const GONE_FOR: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Before an installation is removed, so that nothing is left behind that could
keep pods from starting:
  kubectl -n juicefs-sidecar exec deploy/juicefs-sidecar-controller -- \\
      /juicefs-sidecar controller --unregister

Exit code:
  0  told to stop (SIGTERM, SIGINT); or done, with --unregister and --register
  2  arguments, kubeconfig or port cannot be used
  3  the API server cannot be reached
  4  rights are missing; the log names them
  5  the namespace is not known or does not exist";

/// Arguments of `controller`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ControllerArguments {
    /// Where /healthz, /readyz and /metrics are answered, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9445")]
    metrics_listen: SocketAddr,

    /// Have the running controller remove the registrations and not make them again, and wait for it
    #[arg(long, conflicts_with = "register")]
    unregister: bool,

    /// Undo --unregister
    #[arg(long)]
    register: bool,

    #[command(flatten)]
    driver: DriverArguments,

    #[command(flatten)]
    pods: PodArguments,

    #[command(flatten)]
    pub(super) duties: DutyArguments,

    #[command(flatten)]
    pub(super) installation: InstallationArguments,

    #[command(flatten)]
    logs: LogArguments,
}

impl ControllerArguments {
    /// Works until told to stop; the exit codes are in the help.
    pub(super) fn run(&self) -> u8 {
        program::run(&self.logs, self.start())
    }

    async fn start(&self) -> anyhow::Result<()> {
        let signals = Signals::new().context("cannot wait for signals")?;
        let mut registry = Registry::with_prefix("juicefs_sidecar");
        let calls = ApiCalls::default();
        calls.register(&mut registry);
        let metrics = ControllerMetrics::register(&mut registry);
        let installation = self.installation.find("controller", calls).await?;
        let switches = self.unregister || self.register;
        let pods = if switches {
            self.pods.clone()
        } else {
            tokio::select! {
                pods = self.pods.of(&installation, "controller") => pods?,
                _ = signals.next() => return Ok(()),
            }
        };
        let controller = self.duties.controller(installation, self.driver.name(), &pods, metrics)?;
        if switches {
            return tokio::select! {
                done = self.switch(&controller) => done,
                _ = signals.next() => Err(anyhow::anyhow!("interrupted")),
            };
        }
        let listener = bind(self.metrics_listen).context("--metrics-listen")?;
        let ready = Arc::new(AtomicBool::new(false));
        let address = listener.local_addr()?;
        tokio::spawn(plain(listener, registry, Arc::clone(&ready)));
        tracing::info!(
            metrics_address = %address,
            version = env!("CARGO_PKG_VERSION"),
            namespace = controller.settings.namespace,
            "listening"
        );
        tokio::select! {
            checked = checked(&self.duties, &controller) => checked?,
            _ = signals.next() => return Ok(()),
        }
        ready.store(true, Ordering::Relaxed);
        let mut candidate = self.duties.candidate(&controller);
        tokio::select! {
            () = work(&controller, candidate.as_mut()) => {}
            _ = signals.next() => {
                ready.store(false, Ordering::Relaxed);
                tracing::info!("stopping");
            }
        }
        if let Some(candidate) = &mut candidate {
            candidate.release().await;
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// `--unregister` and `--register`.
    async fn switch(&self, controller: &Controller) -> anyhow::Result<()> {
        let publisher = controller.publisher();
        publisher.hold_back(self.unregister).await?;
        if self.register {
            tracing::info!("the controller registers again, within a minute");
            return Ok(());
        }
        // A leader may have looked just before; what it still registers is removed as well.
        let mut gone_since = tokio::time::Instant::now();
        while gone_since.elapsed() < GONE_FOR {
            if publisher.withdraw().await? {
                gone_since = tokio::time::Instant::now();
            }
            tokio::time::sleep(GONE_FOR / 10).await;
        }
        tracing::info!("nothing is registered any more; `controller --register` undoes this");
        Ok(())
    }
}
