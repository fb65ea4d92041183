//! The server: the port for reviews, the port for health, and an end that loses no request.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::Router;
use rustls::ServerConfig;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    connections::Connections,
    http::{plain_router, router},
    limits::Limits,
    port::Port,
    state::App,
};

/// Connections that may wait to be accepted; many, so that those who only connect do not keep others out.
const BACKLOG: i32 = 1024;

/// How the server ends.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Between ceasing to be ready and accepting no more connections: what a Service's endpoints take to change.
    pub delay: Duration,
    /// How long requests in flight may take after that.
    pub limit: Duration,
}

/// Why the server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Asked for by whoever manages the process, behind a Service.
    Managed,
    /// Asked for by a person at a terminal, who does not want to wait.
    Interactive,
}

/// Bound sockets, so that a port in use is known before anything is announced.
#[derive(Debug)]
pub struct Listeners {
    /// For reviews, over TLS.
    pub admission: TcpListener,
    /// For health and metrics.
    pub plain: TcpListener,
}

impl Listeners {
    /// Binds both addresses.
    pub fn bind(admission: SocketAddr, plain: SocketAddr) -> io::Result<Self> {
        Ok(Self { admission: bind(admission)?, plain: bind(plain)? })
    }
}

/// A socket that listens.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    let listener = TcpListener::bind(address).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    // The standard library listens with 128; asked again, the system takes the new number.
    rustix::net::listen(&listener, BACKLOG).map_err(|error| named(error.into()))?;
    Ok(listener)
}

/// Serves until `stop` is ready and the requests in flight are answered; a second `stop` ends it at once.
///
/// New connections are spoken to with whatever `tls` holds at the time.
pub async fn serve<F: Future<Output = Stop>>(
    app: Arc<App>,
    listeners: Listeners,
    tls: Arc<ArcSwap<ServerConfig>>,
    drain: Drain,
    stop: impl Fn() -> F,
) -> io::Result<()> {
    let (drained, draining) = watch::channel(false);
    let (ports, never) = (ports(&app, tls), watch::channel(false));
    let mut reviews = Task(tokio::spawn(ports.0.serve(listeners.admission, draining)));
    let mut health = Task(tokio::spawn(ports.1.serve(listeners.plain, never.1)));
    let stopped = tokio::select! {
        stopped = stop() => stopped,
        ended = &mut reviews.0 => return flat(ended),
        ended = &mut health.0 => return flat(ended),
    };
    app.drain();
    tracing::info!(connections = app.connections.count(), "stopping: not ready any more");
    let ending = async {
        if stopped == Stop::Managed {
            tokio::time::sleep(drain.delay).await;
        }
        drained.send_replace(true);
        // Those who take longer than the limit are left.
        tokio::time::timeout(drain.limit, &mut reviews.0).await.map_or(Ok(()), flat)
    };
    let ended = tokio::select! {
        ended = ending => ended,
        _ = stop() => {
            tracing::warn!(connections = app.connections.count(), "stopping at once: asked to a second time");
            Ok(())
        }
    };
    tracing::info!("stopped");
    ended
}

/// Serves a router without TLS for ever, with the bounds of the port for health.
pub async fn plain(router: Router, listener: TcpListener) -> io::Result<()> {
    let limits = Limits::default();
    let port = Port {
        router,
        tls: None,
        connections: Connections::new(limits.plain_connections, limits.patience),
        // What it counts is of interest beside the port for reviews only.
        metrics: Arc::default(),
        limits,
    };
    let (_never, draining) = watch::channel(false);
    port.serve(listener, draining).await
}

fn flat(joined: Result<io::Result<()>, tokio::task::JoinError>) -> io::Result<()> {
    joined.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A task that ends with its owner.
struct Task(JoinHandle<io::Result<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The port for reviews and the one for health and metrics.
fn ports(app: &Arc<App>, tls: Arc<ArcSwap<ServerConfig>>) -> (Port, Port) {
    let limits = app.limits;
    let reviews = Port {
        router: router(app),
        tls: Some(tls),
        connections: Arc::clone(&app.connections),
        metrics: Arc::clone(&app.metrics),
        limits,
    };
    let health = Port {
        router: plain_router(app),
        tls: None,
        connections: Connections::new(limits.plain_connections, limits.patience),
        ..reviews.clone()
    };
    (reviews, health)
}
