//! Health and metrics of a program that serves nothing else.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::{admission::serve, telemetry::metrics};

/// Answers for ever.
pub(super) async fn plain(
    listener: TcpListener,
    registry: Registry,
    ready: Arc<AtomicBool>,
) -> std::io::Result<()> {
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
