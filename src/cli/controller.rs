//! `juicefs-sidecar controller`: keeps certificates and registration, watches for pods without a client.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use clap::{Args, builder::BoolishValueParser};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::signals::Signals;
use crate::{
    admission::serve::{self, bind},
    cluster::client::ClientArguments,
    controller::{
        Controller, LEASE,
        keeper::Source,
        lease::{Candidate, Timing},
        registration::{FailurePolicy, Settings, policy::Action, selector},
        rights::{Needs, needed},
        start::{NoStart, check},
    },
    notation::duration,
    telemetry::{ApiCalls, ControllerMetrics, LogArguments, metrics},
    tls::rotation::Policy,
};

/// How long API servers may take to notice a new bundle, at the longest.
const PROPAGATION: Duration = Duration::from_secs(10);
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

    /// Namespace of juicefs-sidecar [default: the service account's]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Name of this pod, for the Lease and for events
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "juicefs-sidecar-controller")]
    pod_name: String,

    /// The driver's ConfigMap; who breaks it gets an event
    #[arg(
        long,
        env = "JUICEFS_CONFIG_NAME",
        value_name = "NAME",
        default_value = "juicefs-csi-driver-config"
    )]
    config_map: String,

    /// Have the running controller remove the registrations and not make them again, and wait for it
    #[arg(long, conflicts_with = "register")]
    unregister: bool,

    /// Undo --unregister
    #[arg(long)]
    register: bool,

    #[command(flatten)]
    election: ElectionArguments,

    #[command(flatten)]
    registration: RegistrationArguments,

    #[command(flatten)]
    certificates: CertificateArguments,

    #[command(flatten)]
    client: ClientArguments,

    #[command(flatten)]
    logs: LogArguments,
}

/// Who works, of several.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
#[expect(clippy::struct_field_names, reason = "they are the flags")]
struct ElectionArguments {
    /// Work only while holding a Lease; `false` where there is never more than one controller
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true",
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    leader_election: bool,

    /// Namespace of the Lease [default: --namespace]
    #[arg(long, value_name = "NAME")]
    leader_election_namespace: Option<String>,

    /// How long a leader that is silent is believed to work
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    leader_election_lease_duration: Duration,
}

/// How the webhook is registered.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registration")]
struct RegistrationArguments {
    /// Service of the webhook, in the same namespace
    #[arg(long, value_name = "NAME", default_value = "juicefs-sidecar-webhook")]
    service: String,

    /// Port of that Service
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    service_port: u16,

    /// Name of the CSI driver whose volumes are ours
    #[arg(long, env = "DRIVER_NAME", value_name = "NAME", default_value = "csi.juicefs.com", value_parser = driver)]
    driver_name: String,

    /// What the API server does with pods while no webhook answers
    #[arg(long, value_enum, default_value_t, ignore_case = true, value_name = "POLICY")]
    failure_policy: FailurePolicy,

    /// How long the API server waits for an injection, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=30))]
    webhook_timeout: i32,

    /// Namespaces whose pods are injected
    #[arg(long, value_name = "SELECTOR", default_value = "juicefs.com/enable-injection=true",
          value_parser = selector::parse)]
    namespace_selector: LabelSelector,

    /// Namespaces whose pods are injected for serverless nodes
    #[arg(long, value_name = "SELECTOR", default_value = "juicefs.com/enable-serverless-injection=true",
          value_parser = selector::parse)]
    serverless_namespace_selector: LabelSelector,

    /// What happens to a pod that lost an injected client to another webhook
    #[arg(long, value_enum, default_value_t, value_name = "ACTION")]
    guard: Action,

    /// `ClusterRole` that owns the registrations, so that they go with it; empty for none
    #[arg(long, value_name = "NAME", default_value = "juicefs-sidecar-controller")]
    owner_cluster_role: String,
}

/// Where certificates come from: by default they are made, stored and renewed here.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Certificates")]
struct CertificateArguments {
    /// PEM file with the authority of a certificate that the webhook gets from elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "inject_ca_from")]
    ca_file: Option<PathBuf>,

    /// cert-manager's Certificate of the webhook: cert-manager writes its authority into the registrations
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    inject_ca_from: Option<String>,

    /// How long an authority lasts; renewed at two thirds
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = lifetime)]
    ca_lifetime: Duration,

    /// How long a serving certificate lasts; renewed at two thirds; at most a third of an authority's
    #[arg(long, value_name = "DURATION", default_value = "720h", value_parser = lifetime)]
    certificate_lifetime: Duration,
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).ok().filter(|duration| duration.subsec_nanos() == 0);
    duration
        .filter(|duration| (3..=3_600).contains(&duration.as_secs()))
        .ok_or_else(|| "write whole seconds from 3s to 1h".to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let shortest = Duration::from_mins(1);
    let longest = Duration::from_hours(10 * 365 * 24);
    duration::parse(text)
        .ok()
        .filter(|duration| (shortest..=longest).contains(duration))
        .ok_or_else(|| "write a duration from 60s to 87600h".to_owned())
}

/// It becomes part of expressions.
fn driver(text: &str) -> Result<String, String> {
    let is_name = rustls::pki_types::DnsName::try_from(text).is_ok() && text == text.to_ascii_lowercase();
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("give the name of a CSI driver, like csi.juicefs.com".to_owned())
    }
}

fn namespaced(text: &str) -> Result<String, String> {
    let parts = text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    parts
        .filter(|(_, name)| !name.contains('/'))
        .map(|_| text.to_owned())
        .ok_or_else(|| "write NAMESPACE/NAME".to_owned())
}

impl ControllerArguments {
    /// Works until told to stop; the exit codes are in the help.
    pub(super) fn run(&self) -> u8 {
        self.logs.start();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!("cannot start threads: {error}");
                return 2;
            }
        };
        let code = match runtime.block_on(self.start()) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!("{error:#}");
                error.downcast_ref::<NoStart>().map_or(2, NoStart::code)
            }
        };
        runtime.shutdown_timeout(Duration::from_secs(1));
        code
    }

    async fn start(&self) -> anyhow::Result<()> {
        let signals = Signals::new().context("cannot wait for signals")?;
        let mut registry = Registry::with_prefix("juicefs_sidecar");
        let calls = ApiCalls::default();
        calls.register(&mut registry);
        let metrics = ControllerMetrics::register(&mut registry);
        let client = self.client.client("controller", calls).await.map_err(NoStart::from)?;
        let namespace = self.namespace(&client)?;
        let controller = self.controller(client, namespace, metrics)?;
        if self.unregister || self.register {
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
            checked = self.check(&controller) => checked?,
            _ = signals.next() => return Ok(()),
        }
        ready.store(true, Ordering::Relaxed);
        let mut candidate = self.election.leader_election.then(|| self.candidate(&controller));
        let work = async {
            match &mut candidate {
                Some(candidate) => Box::pin(controller.lead(candidate)).await,
                None => Box::pin(controller.work()).await,
            }
        };
        tokio::select! {
            () = work => {}
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

    fn namespace(&self, client: &kube::Client) -> Result<String, NoStart> {
        let given = self.namespace.clone().filter(|namespace| !namespace.is_empty());
        // A kubeconfig without a namespace means `default`, where nobody installs this.
        let of_client =
            || Some(client.default_namespace().to_owned()).filter(|namespace| namespace != "default");
        given.or_else(of_client).ok_or(NoStart::NamespaceUnknown)
    }

    fn controller(
        &self,
        client: kube::Client,
        namespace: String,
        metrics: ControllerMetrics,
    ) -> anyhow::Result<Controller> {
        let RegistrationArguments { service, .. } = &self.registration;
        let host = format!("{service}.{namespace}.svc");
        let names = vec![host.clone(), format!("{service}.{namespace}"), format!("{host}.cluster.local")];
        let settings = Settings {
            namespace,
            service: service.clone(),
            port: self.registration.service_port.into(),
            driver: self.registration.driver_name.clone(),
            failure_policy: self.registration.failure_policy,
            timeout: self.registration.webhook_timeout,
            namespaces: self.registration.namespace_selector.clone(),
            serverless_namespaces: self.registration.serverless_namespace_selector.clone(),
            policy: self.registration.guard,
            inject_ca_from: self.certificates.inject_ca_from.clone(),
        };
        Ok(Controller {
            client,
            settings,
            source: self.certificates.source(names)?,
            owner: self.registration.owner_cluster_role.clone(),
            configuration: self.config_map.clone(),
            pod: self.pod_name.clone(),
            metrics,
        })
    }

    fn candidate(&self, controller: &Controller) -> Candidate {
        let own = &controller.settings.namespace;
        let namespace = self.election.leader_election_namespace.as_ref().unwrap_or(own);
        let timing = Timing::of(self.election.leader_election_lease_duration);
        Candidate::new(controller.client.clone(), namespace, LEASE, &self.pod_name, timing)
    }

    async fn check(&self, controller: &Controller) -> Result<(), NoStart> {
        let needs = Needs {
            owner: &controller.owner,
            lease: LEASE,
            configuration: &controller.configuration,
            certificates: matches!(controller.source, Source::Managed(_)),
        };
        check(&controller.client, &controller.settings.namespace, &needed(&needs)).await
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

impl CertificateArguments {
    fn source(&self, names: Vec<String>) -> anyhow::Result<Source> {
        if self.inject_ca_from.is_some() {
            return Ok(Source::Injected);
        }
        if let Some(path) = &self.ca_file {
            return Ok(Source::File(path.clone()));
        }
        anyhow::ensure!(
            self.ca_lifetime >= self.certificate_lifetime * 3,
            "--ca-lifetime has to be three times --certificate-lifetime or more, so that no certificate outlives its \
             authority"
        );
        Ok(Source::Managed(Policy {
            authority_lifetime: self.ca_lifetime,
            leaf_lifetime: self.certificate_lifetime,
            propagation: PROPAGATION.min(self.certificate_lifetime / 12),
            names,
        }))
    }
}

/// Health and metrics.
async fn plain(listener: TcpListener, registry: Registry, ready: Arc<AtomicBool>) -> std::io::Result<()> {
    let registry = Arc::new(registry);
    let readiness = move || {
        let ready = ready.load(Ordering::Relaxed);
        async move {
            if ready {
                (StatusCode::OK, "ok\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n")
            }
        }
    };
    let render = move || {
        let registry = Arc::clone(&registry);
        async move {
            let mut text = String::new();
            // Writing into a String does not fail.
            let _ = encode(&mut text, &registry);
            ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(render));
    serve::plain(router, listener).await
}
