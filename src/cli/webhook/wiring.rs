//! From flags to a running server.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::SystemTime};

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use tokio::task::JoinSet;

use super::{
    arguments::ServingArguments,
    manifests::Files,
    serving::{Certificate, Serving},
};
use crate::{
    admission::{
        limits::Limits,
        reload::{Source as _, follow},
        serve::{Drain, Listeners, serve},
        state::{App, State},
    },
    cli::{installation::Installation, signals::Signals},
    cluster::{Caches, Live, Settings, serving_certificate},
    config::Process,
    telemetry::Metrics,
    tls::{files::publish, inspect::Validity, issue::issue},
    volume::Catalog,
};

/// What is waited for, as `/readyz` has it.
const CERTIFICATE: &str = "the serving certificate";

/// A webhook that is about to serve.
pub(in crate::cli) struct Webhook<'a> {
    arguments: &'a ServingArguments,
    files: Option<(Files, u64)>,
    serving: Arc<Serving>,
    serving_seen: u64,
    tls: Arc<ArcSwap<ServerConfig>>,
    listeners: Listeners,
    app: Arc<App>,
    self_made: bool,
}

impl<'a> Webhook<'a> {
    /// Reads files, makes what certificate is to be made, and binds the ports; without files it is a cluster's.
    pub(in crate::cli) fn prepare(
        arguments: &'a ServingArguments,
        metrics_listen: SocketAddr,
        process: Process,
        files: Option<Files>,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let over_cluster = files.is_none();
        let (state, files) = state(process, files)?;
        let (certificate, ca_pem) = certificate(arguments, over_cluster)?;
        let serving = Arc::new(Serving { certificate, client_ca: arguments.client_ca.clone() });
        let serving_seen = serving.fingerprint()?;
        let (tls, validity) = serving.load()?;
        let listeners = Listeners::bind(arguments.listen, metrics_listen).context("cannot listen")?;
        // Only now: a second server on the same port must not overwrite the CA of the first.
        if let (Some(path), Some(ca_pem)) = (&arguments.ca_out, &ca_pem) {
            publish(path, ca_pem)?;
        }
        let limits = Limits { connections: arguments.max_connections, ..Limits::default() };
        let app = Arc::new(App::new(state, metrics, limits));
        app.awaits(CERTIFICATE);
        dated(&app, validity);
        let tls = Arc::new(ArcSwap::from_pointee(tls));
        Ok(Self { arguments, files, serving, serving_seen, tls, listeners, app, self_made: ca_pem.is_some() })
    }

    /// Serves until a signal, then drains.
    pub(in crate::cli) async fn serve(
        self,
        cluster: Option<&Installation>,
        signals: &Signals,
    ) -> anyhow::Result<()> {
        let Self { arguments, files, serving, serving_seen, tls, listeners, app, self_made } = self;
        let every = arguments.poll_interval;
        let mut followers = JoinSet::new();
        let take_tls = || take_tls(Arc::clone(&app), Arc::clone(&tls));
        followers.spawn(follow(Arc::clone(&serving), serving_seen, every, take_tls()));
        if let Some((files, seen)) = files {
            followers.spawn(follow(files, seen, every, take_state(Arc::clone(&app))));
        }
        let mut caches = None;
        if let Some(Installation { client, namespace, config_map, .. }) = cluster {
            if let Certificate::Secret(_) = &serving.certificate {
                let (client, namespace) = (client.clone(), namespace.clone());
                let (secret, mut take_tls) = (arguments.tls_secret.clone(), take_tls());
                followers.spawn(async move {
                    let take = |identity| {
                        let loaded = serving.renewed(identity);
                        let taken = loaded.is_ok();
                        take_tls(loaded);
                        taken
                    };
                    serving_certificate(client, &namespace, &secret, take).await;
                });
            }
            let settings = Settings {
                driver: app.state().process.driver.clone(),
                namespace: namespace.clone(),
                config_map: config_map.clone(),
                cached_lists: arguments.cached_lists,
            };
            app.complete_with(Arc::new(Live::new(client.clone())));
            caches = Some(Caches::start(client, settings, &app).await?);
        }
        announce(&listeners, self_made, arguments.ca_out.is_some())?;
        let drain = Drain { delay: arguments.drain_delay, limit: arguments.drain_timeout };
        let mut served = pin!(serve(Arc::clone(&app), listeners, tls, drain, || signals.next()));
        let synced = async {
            match &mut caches {
                Some(caches) => caches.synced(&app).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            served = &mut served => served.context("the server ended"),
            Err(error) = synced => Err(error.into()),
        }
    }
}

/// The state to begin with, and what it is made of with its fingerprint; a cluster's comes later.
fn state(process: Process, files: Option<Files>) -> anyhow::Result<(State, Option<(Files, u64)>)> {
    let Some(files) = files else {
        let state = State { catalog: Catalog::default(), config: Arc::default(), process: process.into() };
        return Ok((state, None));
    };
    let seen = files.fingerprint()?;
    Ok((files.load()?, Some((files, seen))))
}

/// Takes changed manifests and configuration; what cannot be used is told and not taken.
fn take_state(app: Arc<App>) -> impl FnMut(anyhow::Result<State>) {
    move |loaded| {
        app.metrics.reloaded(loaded.is_ok());
        match loaded {
            Ok(state) => {
                app.replace(state);
                tracing::info!("files changed: the new manifests and configuration are in use");
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "files changed and cannot be used: the old ones stay in use"
            ),
        }
    }
}

/// Takes a changed certificate or client CA for the connections to come; those that are open go on.
fn take_tls(
    app: Arc<App>,
    tls: Arc<ArcSwap<ServerConfig>>,
) -> impl FnMut(anyhow::Result<(ServerConfig, Option<Validity>)>) {
    move |loaded| {
        app.metrics.certificate_reloaded(loaded.is_ok());
        match loaded {
            Ok((config, validity)) => {
                tls.store(Arc::new(config));
                dated(&app, validity);
                let not_after = validity.map(|validity| validity.not_after);
                tracing::info!(not_after, "the new certificate or client CA is in use");
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "certificate or client CA changed and cannot be used: the old ones stay in use"
            ),
        }
    }
}

/// Notes until when the certificate is good; with one there is no more to wait for.
fn dated(app: &App, validity: Option<Validity>) {
    if let Some(validity) = validity {
        app.metrics.serving_certificate_until(validity.not_after);
        app.has(CERTIFICATE);
    }
}

/// The certificate to serve with; with it the CA's, if both are self-made.
fn certificate(
    arguments: &ServingArguments,
    over_cluster: bool,
) -> anyhow::Result<(Certificate, Option<String>)> {
    if let (Some(certificate), Some(key)) = (arguments.tls_cert.clone(), arguments.tls_key.clone()) {
        return Ok((Certificate::Files { certificate, key }, None));
    }
    if over_cluster && arguments.ca_out.is_none() {
        return Ok((Certificate::Secret(ArcSwapOption::empty()), None));
    }
    let issued = issue(&arguments.tls_name, SystemTime::now()).context("--tls-name")?;
    Ok((Certificate::Made(issued.identity), Some(issued.ca_pem)))
}

fn announce(listeners: &Listeners, self_made: bool, told: bool) -> anyhow::Result<()> {
    let address = listeners.admission.local_addr().context("--listen")?;
    let metrics_address = listeners.plain.local_addr().context("--metrics-listen")?;
    if self_made && !told {
        tracing::warn!("the certificate is self-made and --ca-out is not set: nobody can verify it");
    }
    tracing::info!(
        %address,
        %metrics_address,
        version = env!("CARGO_PKG_VERSION"),
        self_made_certificate = self_made,
        "listening"
    );
    Ok(())
}
