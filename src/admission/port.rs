//! A port: its connections, as many as there is room for, each served until it ends or has to yield.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    connections::{Connection, Connections, Entry},
    limits::{Limits, OWN},
    stalled::Stalled,
};
use crate::telemetry::Metrics;

/// Headers of one request: an API server sends less than ten.
const HEADERS: usize = 64;
/// After an accept that failed for want of descriptors, say.
const PAUSE: Duration = Duration::from_millis(50);

/// How a port is served.
#[derive(Clone)]
pub(super) struct Port {
    pub(super) router: Router,
    /// What is spoken with new connections; without it no TLS is.
    pub(super) tls: Option<Arc<ArcSwap<ServerConfig>>>,
    pub(super) connections: Arc<Connections>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
}

impl Port {
    /// Serves until `drain` is set and the requests in flight are answered; dropped, it ends at once.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        mut drain: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut served = JoinSet::new();
        {
            // One future through all turns of the loop: it may hold a connection that waits for room.
            let mut accepting = std::pin::pin!(self.accept(&listener));
            loop {
                tokio::select! {
                    (stream, entry) = &mut accepting => {
                        served.spawn(self.clone().connection(stream, entry, drain.clone()));
                        accepting.set(self.accept(&listener));
                    }
                    // Reaped, or their results would pile up.
                    Some(_) = served.join_next() => {}
                    () = set(&mut drain) => break,
                }
            }
        }
        // Closed now, so that who comes late is refused and goes elsewhere.
        drop(listener);
        while served.join_next().await.is_some() {}
        Ok(())
    }

    /// The next connection, as soon as there is room for it.
    async fn accept(&self, listener: &tokio::net::TcpListener) -> (TcpStream, Entry) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    return (stream, self.connections.enter(peer.ip().to_canonical()).await);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, entry: Entry, drain: watch::Receiver<bool>) {
        let connection = Arc::clone(entry.connection());
        tokio::select! {
            () = connection.given_up() => {
                self.metrics.connection_yielded();
                tracing::warn!(peer = %connection.peer(), "a slow connection was ended: others waited for its room");
            }
            () = self.speak(stream, &connection, drain) => {}
        }
    }

    async fn speak(&self, stream: TcpStream, connection: &Arc<Connection>, drain: watch::Receiver<bool>) {
        // Answers are small and awaited: none may wait for the acknowledgement of the one before. On failure the
        // connection is gone, which the first read will tell.
        let _ = stream.set_nodelay(true);
        let stream = Stalled::new(stream, self.limits.stall);
        let Some(tls) = &self.tls else { return self.http(stream, connection, drain).await };
        let handshake = TlsAcceptor::from(tls.load_full()).accept(stream);
        let handshake = tokio::time::timeout(self.limits.handshake, handshake).await;
        match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => self.http(stream, connection, drain).await,
            Err(error) => {
                self.metrics.handshake_failed();
                let peer = connection.peer();
                // Probes and port scans connect and go; the API server's complaint about us is worth a warning.
                if error.kind() == io::ErrorKind::InvalidData {
                    tracing::warn!(%peer, %error, "tls handshake failed; does the webhook's caBundle match?");
                } else {
                    tracing::debug!(%peer, %error, "tls handshake failed");
                }
            }
        }
    }

    /// HTTP/1.1 only: what API servers speak with webhooks, and no more to bound than one request at a time.
    async fn http<S>(&self, stream: S, connection: &Arc<Connection>, mut drain: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let router = self.router.clone().layer(Extension(Arc::clone(connection)));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(OWN)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = set(&mut drain) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %connection.peer(), %error, "a connection ended early");
        }
    }
}

/// Waits until it is set, or nobody is left to set it.
async fn set(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}
