//! `juicefs-sidecar webhook`: the TLS admission server over manifests.
//!
//! The command line names [`WebhookArguments`] as the subcommand and calls [`WebhookArguments::run`].

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use clap::Args;

use super::{
    process::{ProcessArguments, lenient_bool},
    signals::Signals,
};
use crate::{
    admission::{
        limits::Limits,
        serve::{Drain, Listeners, serve},
        state::{App, Source, State, follow},
    },
    cluster::{Caches, Live, Settings, client::ClientArguments},
    notation::duration,
    offline::{self, Configuration, Manifests, configuration::CONFIG_MAP},
    telemetry::{LogArguments, Metrics},
    tls::{self, Identity, files, issue::issue},
    volume::Catalog,
};

/// Where a pod finds its own namespace.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

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

    /// PEM file with the certificate to serve with, leaf first; without it one is made
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// DNS name or IP address of the self-made certificate; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert", default_values = [
        "localhost", "127.0.0.1", "::1", "juicefs-admission-webhook", "juicefs-admission-webhook.kube-system",
        "juicefs-admission-webhook.kube-system.svc",
    ])]
    tls_name: Vec<String>,

    /// Where to write the CA certificate of the self-made certificate, for the webhook's caBundle
    #[arg(long, value_name = "FILE", conflicts_with = "tls_cert")]
    ca_out: Option<PathBuf>,

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

    /// How often manifests and configuration are looked at
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
        match start(self) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!("{error:#}");
                2
            }
        }
    }
}

fn start(arguments: &WebhookArguments) -> anyhow::Result<()> {
    let source = (!arguments.manifests.is_empty()).then(|| Files {
        manifests: arguments.manifests.clone(),
        config: arguments.config.clone(),
        process: arguments.process.clone(),
    });
    let process = arguments.process.process();
    let (state, seen) = match &source {
        Some(files) => {
            let seen = files.fingerprint()?;
            (files.load()?, seen)
        }
        None => (
            State { catalog: Catalog::default(), config: Arc::default(), process: process.clone().into() },
            0,
        ),
    };
    let metrics = Metrics::new();
    let (identity, ca_pem) = identity(arguments)?;
    let validity = tls::check(&identity, SystemTime::now())?;
    metrics.serving_certificate_until(validity.not_after);
    let tls = Arc::new(ArcSwap::from_pointee(tls::server_config(identity)?));
    let listeners = Listeners::bind(arguments.listen, arguments.metrics_listen).context("cannot listen")?;
    // Only now: a second server on the same port must not overwrite the CA of the first.
    if let (Some(path), Some(ca_pem)) = (&arguments.ca_out, &ca_pem) {
        files::publish(path, ca_pem)?;
    }
    let limits = Limits { connections: arguments.max_connections, ..Limits::default() };
    let app = Arc::new(App::new(state, metrics, limits));
    let drain = Drain { delay: arguments.drain_delay, limit: arguments.drain_timeout };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let served = runtime.block_on(async {
        let signals = Signals::new().context("cannot wait for signals")?;
        let mut caches = match &source {
            Some(_) => None,
            None => Some(watch(arguments, process.driver, &app).await?),
        };
        announce(&listeners, arguments)?;
        let follower =
            source.map(|files| tokio::spawn(follow(Arc::clone(&app), files, seen, arguments.poll_interval)));
        let serving = serve(Arc::clone(&app), listeners, tls, drain, || signals.next());
        let served = match &mut caches {
            None => serving.await.context("the server ended"),
            Some(caches) => {
                let mut serving = pin!(serving);
                tokio::select! {
                    served = &mut serving => served.context("the server ended"),
                    Err(error) = caches.synced(&app) => Err(error.into()),
                }
            }
        };
        if let Some(follower) = follower {
            follower.abort();
        }
        served
    });
    // A file that cannot be read for long must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Begins to watch the cluster.
async fn watch(arguments: &WebhookArguments, driver: String, app: &Arc<App>) -> anyhow::Result<Caches> {
    let client = arguments.client.client("webhook", app.metrics.api_calls.clone()).await?;
    let given = arguments.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = given.or_else(|| fs::read_to_string(OWN_NAMESPACE).ok()).context(
        "it is not known in which namespace the configuration is: set --namespace or POD_NAMESPACE",
    )?;
    let settings = Settings {
        driver,
        namespace: namespace.trim().to_owned(),
        config_map: arguments.config_map.clone(),
        cached_lists: arguments.cached_lists,
    };
    app.complete_with(Arc::new(Live::new(client.clone())));
    Ok(Caches::start(&client, settings, app).await?)
}

/// The certificate to serve with; with it the CA's, if both are self-made.
fn identity(arguments: &WebhookArguments) -> anyhow::Result<(Identity, Option<String>)> {
    if let (Some(certificate), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) {
        return Ok((files::read(certificate, key)?, None));
    }
    let issued = issue(&arguments.tls_name, SystemTime::now()).context("--tls-name")?;
    Ok((issued.identity, Some(issued.ca_pem)))
}

fn announce(listeners: &Listeners, arguments: &WebhookArguments) -> anyhow::Result<()> {
    let address = listeners.admission.local_addr().context("--listen")?;
    let metrics_address = listeners.plain.local_addr().context("--metrics-listen")?;
    if arguments.tls_cert.is_none() && arguments.ca_out.is_none() {
        tracing::warn!("the certificate is self-made and --ca-out is not set: nobody can verify it");
    }
    tracing::info!(
        %address,
        %metrics_address,
        version = env!("CARGO_PKG_VERSION"),
        self_made_certificate = arguments.tls_cert.is_none(),
        "listening"
    );
    Ok(())
}

/// Manifests and configuration, as files.
struct Files {
    manifests: Vec<PathBuf>,
    config: Option<PathBuf>,
    process: ProcessArguments,
}

impl Source for Files {
    fn fingerprint(&self) -> anyhow::Result<u64> {
        let mut hasher = DefaultHasher::new();
        for path in self.manifests.iter().chain(&self.config) {
            hash(path, &mut hasher).with_context(|| format!("{}: cannot be read", path.display()))?;
        }
        Ok(hasher.finish())
    }

    fn load(&self) -> anyhow::Result<State> {
        let sources: Vec<_> = self.manifests.iter().cloned().map(offline::files::Source::Path).collect();
        let documents = offline::files::read(&sources)?;
        let (manifests, notices) = Manifests::gather(&documents, "default")?;
        for notice in notices {
            tracing::warn!("{notice}");
        }
        let given = match &self.config {
            Some(path) => {
                let source = offline::files::Source::Path(path.clone());
                Some(Configuration::of_file(&source.to_string(), &offline::files::read_text(&source)?)?)
            }
            None => None,
        };
        let (config, notices) = manifests.config(given.as_ref())?;
        for notice in notices {
            tracing::warn!("{notice}");
        }
        Ok(State {
            catalog: manifests.catalog,
            config: config.into(),
            process: self.process.process().into(),
        })
    }
}

/// Feeds names and contents of a file, or of the files right in a directory.
fn hash(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if !path.is_dir() {
        fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let mut files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        file.hash(hasher);
        fs::read(file)?.hash(hasher);
    }
    Ok(())
}
