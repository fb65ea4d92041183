//! What requests and connections may take. `docs/limits.md` tells the same to those who run the program.

use std::time::Duration;

/// Bytes that a body may take without being charged: they come with its connection. Most reviews fit.
pub(super) const OWN: usize = 16 << 10;
/// Bytes that a body has to gain to count as having moved while others wait.
pub(super) const STEP: usize = 16 << 10;

/// Bounds on what peers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one body. An API server takes requests of 3 MiB, and a review holds one of these as JSON.
    pub body: usize,
    /// Bytes of all bodies at once, each connection's first 16 KiB aside. Another [`Self::body`] beyond these serves
    /// one body at a time, so that bodies which wait for each other always come to an end.
    pub bodies: usize,
    /// Bytes of answers that their peers have not read yet, beyond which nothing new is answered.
    pub answers: usize,
    /// Connections to the port for reviews; each has one request at a time.
    pub connections: usize,
    /// Connections to the port for health and metrics.
    pub plain_connections: usize,
    /// Until a new connection has to be TLS.
    pub handshake: Duration,
    /// Until a request's head has to be complete, idle time included: longer than the 90 s after which Kubernetes
    /// itself closes an idle connection, lest a request meet a connection that is just being closed.
    pub head: Duration,
    /// How long a body may gain nothing, and how long an answer may be left unread.
    pub stall: Duration,
    /// How long a peer may keep others waiting before it yields to them; counts only while somebody waits.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 20,
            bodies: 4 << 20,
            answers: 2 << 20,
            connections: 256,
            plain_connections: 32,
            handshake: Duration::from_secs(5),
            head: Duration::from_mins(2),
            stall: Duration::from_secs(2),
            patience: Duration::from_millis(150),
        }
    }
}
