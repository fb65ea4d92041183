//! How reviews are served, as flags.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    admission::limits::Limits, cli::process::lenient_bool, controller::certificates::SERVING,
    notation::duration,
};

/// Everything about serving reviews, but what they are decided by.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Serving")]
pub(in crate::cli) struct ServingArguments {
    /// Where reviews are answered, over TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9444")]
    pub(super) listen: SocketAddr,

    /// PEM file with the certificate to serve with, leaf first, taken again when it changes; without it one is made
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,

    /// Secret with the certificate to serve with, taken again when it changes: the controller's, unless there are files
    /// or --ca-out
    #[arg(long, value_name = "NAME", default_value = SERVING, conflicts_with_all = ["tls_cert", "ca_out"])]
    pub(super) tls_secret: String,

    /// DNS name or IP address of the self-made certificate; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert", default_values = [
        "localhost", "127.0.0.1", "::1", "juicefs-admission-webhook", "juicefs-admission-webhook.kube-system",
        "juicefs-admission-webhook.kube-system.svc",
    ])]
    pub(super) tls_name: Vec<String>,

    /// Where to write the CA certificate of the self-made certificate, for the webhook's caBundle
    #[arg(long, value_name = "FILE", conflicts_with = "tls_cert")]
    pub(super) ca_out: Option<PathBuf>,

    /// PEM file of the CA whose certificates peers must have to get a review, taken again when it changes; without it
    /// anybody who can connect gets one
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<PathBuf>,

    /// Connections for reviews at once, each with one request at a time; when there are more, the slowest yield
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().connections,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub(super) max_connections: usize,

    /// After SIGTERM, how long to go on accepting connections while /readyz already says no
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration::parse)]
    pub(super) drain_delay: Duration,

    /// After that, how long requests in flight may take
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pub(super) drain_timeout: Duration,

    /// How often manifests, configuration and certificates are looked at
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive_duration)]
    pub(super) poll_interval: Duration,

    /// Take lists of objects from the API server's cache: cheaper for it, and perhaps a little old
    #[arg(long, env = "ENABLE_APISERVER_LIST_CACHE", num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true", value_parser = lenient_bool)]
    pub(super) cached_lists: bool,
}

impl ServingArguments {
    /// The Secret with the certificate, where that is served in a cluster and there are no files.
    pub(in crate::cli) fn secret(&self) -> Option<&str> {
        (self.tls_cert.is_none() && self.ca_out.is_none()).then_some(&self.tls_secret)
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("must not be zero".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}
