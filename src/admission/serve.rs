//! The server: TLS connections to the router, a plain port beside it, and an end that loses no request.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle, Server,
    accept::{Accept, DefaultAcceptor, NoDelayAcceptor},
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::{
    http::{Limits, plain_router, router},
    idle::Idle,
    state::App,
};

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

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    let listener = TcpListener::bind(address).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    Ok(listener)
}

/// Serves until `stop` is ready and the requests in flight are answered; a second `stop` ends it at once.
pub async fn serve<F: Future<Output = Stop>>(
    app: Arc<App>,
    listeners: Listeners,
    tls: Arc<ServerConfig>,
    drain: Drain,
    stop: impl Fn() -> F,
) -> io::Result<()> {
    let admission = Handle::new();
    let plain = Handle::new();
    let mut reviews = tokio::spawn(tls_server(&app, listeners.admission, tls, &admission)?);
    let mut health = tokio::spawn(plain_server(&app, listeners.plain, &plain)?);
    let stopped = tokio::select! {
        stopped = stop() => stopped,
        ended = &mut reviews => return flat(ended),
        ended = &mut health => return flat(ended),
    };
    app.drain();
    tracing::info!(connections = admission.connection_count(), "stopping: not ready any more");
    let ending = async {
        if stopped == Stop::Managed {
            tokio::time::sleep(drain.delay).await;
        }
        admission.graceful_shutdown(Some(drain.limit));
        flat((&mut reviews).await)
    };
    let ended = tokio::select! {
        ended = ending => ended,
        _ = stop() => {
            tracing::warn!(connections = admission.connection_count(), "stopping at once: asked to a second time");
            admission.shutdown();
            Ok(())
        }
    };
    plain.shutdown();
    tracing::info!("stopped");
    ended
}

fn flat(joined: Result<io::Result<()>, tokio::task::JoinError>) -> io::Result<()> {
    joined.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn tls_server(
    app: &Arc<App>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handle: &Handle<SocketAddr>,
) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
        .handshake_timeout(app.limits.handshake)
        // Answers are small and awaited: none may wait for the acknowledgement of the one before.
        .acceptor(NoDelayAcceptor::new());
    let acceptor = Watched { acceptor, app: Arc::clone(app) };
    let mut server = axum_server::from_tcp(listener)?.handle(handle.clone()).acceptor(acceptor);
    bound(&mut server, &app.limits);
    let router: Router = router(app);
    Ok(async move { server.serve(router.into_make_service()).await })
}

fn plain_server(
    app: &Arc<App>,
    listener: TcpListener,
    handle: &Handle<SocketAddr>,
) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
    let mut server: Server<SocketAddr, DefaultAcceptor> =
        axum_server::from_tcp(listener)?.handle(handle.clone());
    bound(&mut server, &app.limits);
    let router = plain_router(app);
    Ok(async move { server.serve(router.into_make_service()).await })
}

fn bound<A>(server: &mut Server<SocketAddr, A>, limits: &Limits) {
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head / 4)
        .keep_alive_timeout(limits.head / 8);
}

/// Tells of connections that never become TLS, and ends those on which nothing happens.
#[derive(Clone)]
struct Watched<A> {
    acceptor: A,
    app: Arc<App>,
}

impl<A, S> Accept<TcpStream, S> for Watched<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send,
    A::Service: Send,
{
    type Stream = Idle<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = stream.peer_addr().ok();
        let accepting = self.acceptor.accept(stream, service);
        let app = Arc::clone(&self.app);
        Box::pin(async move {
            match accepting.await {
                Ok((stream, service)) => Ok((Idle::new(stream, app.limits.head), service)),
                Err(error) => {
                    app.metrics.handshake_failed();
                    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
                    // Probes and port scans connect and go; the API server's complaint about us is worth a warning.
                    if error.kind() == io::ErrorKind::InvalidData {
                        tracing::warn!(peer, %error, "tls handshake failed; does the webhook's caBundle match?");
                    } else {
                        tracing::debug!(peer, %error, "tls handshake failed");
                    }
                    Err(error)
                }
            }
        })
    }
}
