//! The signals that end a program.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};

use crate::admission::serve::Stop;

/// SIGTERM and SIGINT; none is missed once this exists.
pub(super) struct Signals(Mutex<(Signal, Signal)>);

impl Signals {
    /// From here on they end nothing by themselves.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Mutex::new((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))))
    }

    /// The next one, and what it asks for.
    pub(super) async fn next(&self) -> Stop {
        let (terminate, interrupt) = &mut *self.0.lock().await;
        tokio::select! {
            _ = terminate.recv() => Stop::Managed,
            _ = interrupt.recv() => Stop::Interactive,
        }
    }
}
