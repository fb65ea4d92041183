//! The webhook server: its router, its TLS, and the real program.

#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod certificates;
mod client;
mod damaged;
mod memory;
mod program;
mod recorded;
mod router;
mod slow;
mod wire;

use juicefs_sidecar::admission::{Answer, Endpoint, answer};

/// Held by tests that load the machine or look at the clock, so that they do not disturb each other.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What the library answers over the recorded cluster.
fn expected(body: &[u8], endpoint: Endpoint) -> Answer {
    answer(body, endpoint, &recorded::state().engine())
}

/// Keeps a failing test from waiting for ever.
async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(seconds);
    tokio::time::timeout(limit, future).await.expect("done in time")
}
