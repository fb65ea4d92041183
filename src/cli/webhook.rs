//! `juicefs-sidecar webhook`: the TLS admission server, over a cluster or over manifests.
//!
//! The command line names [`WebhookArguments`] as the subcommand and calls [`WebhookArguments::run`].

mod cluster;
mod manifests;
mod serving;
mod wiring;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::process::{ProcessArguments, lenient_bool};
use crate::{
    admission::limits::Limits, cluster::client::ClientArguments, controller::certificates::SERVING,
    notation::duration, offline::configuration::CONFIG_MAP, telemetry::LogArguments,
};

const EXAMPLES: &str = "\
Example, with a review sent by hand:
  juicefs-sidecar webhook --manifests cluster.yaml --ca-out ca.crt &
  curl --cacert ca.crt -H 'content-type: application/json' \\
      --data-binary @review.json https://localhost:9444/juicefs/inject-v1-pod

Exit code:
  0  told to stop (SIGTERM, SIGINT), after answering what was in flight; a
     second signal does not wait for that
  2  it cannot serve; the log says why";

/// Arguments of `webhook`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct WebhookArguments {
    /// File or directory of manifests that stand for the cluster: claims, volumes, classes, secrets, nodes;
    /// may be repeated; looked at again every few seconds; without it the cluster itself is watched
    #[arg(long, value_name = "PATH", conflicts_with_all = ["kubeconfig", "namespace"])]
    manifests: Vec<PathBuf>,

    /// The driver's ConfigMap, or just its config.yaml; wins over a ConfigMap among the manifests
    #[arg(long, value_name = "FILE", requires = "manifests")]
    config: Option<PathBuf>,

    /// Namespace of the ConfigMap in the cluster [default: that of this pod]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Name of the ConfigMap in the cluster
    #[arg(long, env = "JUICEFS_CONFIG_NAME", value_name = "NAME", default_value = CONFIG_MAP)]
    config_map: String,

    /// Take lists of objects from the API server's cache: cheaper for it, and perhaps a little old
    #[arg(long, env = "ENABLE_APISERVER_LIST_CACHE", num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true", value_parser = lenient_bool)]
    cached_lists: bool,

    #[command(flatten)]
    client: ClientArguments,

    /// Where reviews are answered, over TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9444")]
    listen: SocketAddr,

    /// Where /healthz, /readyz and /metrics are answered, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9445")]
    metrics_listen: SocketAddr,

    /// PEM file with the certificate to serve with, leaf first, taken again when it changes; without it one is made
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Secret with the certificate to serve with, taken again when it changes: the controller's, unless there are files
    /// or --ca-out
    #[arg(long, value_name = "NAME", default_value = SERVING, conflicts_with_all = ["manifests", "tls_cert", "ca_out"])]
    tls_secret: String,

    /// DNS name or IP address of the self-made certificate; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert", default_values = [
        "localhost", "127.0.0.1", "::1", "juicefs-admission-webhook", "juicefs-admission-webhook.kube-system",
        "juicefs-admission-webhook.kube-system.svc",
    ])]
    tls_name: Vec<String>,

    /// Where to write the CA certificate of the self-made certificate, for the webhook's caBundle
    #[arg(long, value_name = "FILE", conflicts_with = "tls_cert")]
    ca_out: Option<PathBuf>,

    /// PEM file of the CA whose certificates peers must have to get a review, taken again when it changes; without it
    /// anybody who can connect gets one
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// Connections for reviews at once, each with one request at a time; when there are more, the slowest yield
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().connections,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    max_connections: usize,

    /// After SIGTERM, how long to go on accepting connections while /readyz already says no
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration::parse)]
    drain_delay: Duration,

    /// After that, how long requests in flight may take
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    drain_timeout: Duration,

    /// How often manifests, configuration and certificates are looked at
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive_duration)]
    poll_interval: Duration,

    #[command(flatten)]
    process: ProcessArguments,

    #[command(flatten)]
    logs: LogArguments,
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("must not be zero".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

impl WebhookArguments {
    /// Serves until told to stop: exit code 0 after a drain, 2 with the reason in the log if it cannot serve.
    pub fn run(&self) -> u8 {
        self.logs.start();
        // What panicked is in the log with its place, not with its payload: that may quote the request.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "panicked; please report this");
        }));
        match wiring::start(self) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!("{error:#}");
                2
            }
        }
    }
}
