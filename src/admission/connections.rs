//! Who is connected, what each is doing, and who yields when there is not room for all.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::limits::STEP;

/// Idle connections of one peer that are left to it while others have not asked anything yet: as many as an API server
/// keeps.
const SPARED: usize = 25;

/// The connections to one port.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    patience: Duration,
    open: Mutex<Vec<Arc<Connection>>>,
    closed: Notify,
}

/// What a connection is doing; the numbers say in which order connections yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Phase {
    /// Nothing complete has come yet: handshake and first head.
    Opening = 0,
    /// Its answer is being sent.
    Sending = 1,
    /// A request's body is arriving.
    Reading = 2,
    /// Answered, and the next request may come.
    Idle = 3,
    /// It waits for us, not we for it.
    Ours = 4,
    /// It is about to be gone.
    GivenUp = 5,
}

impl Phase {
    fn of(number: u8) -> Self {
        [Self::Opening, Self::Sending, Self::Reading, Self::Idle, Self::GivenUp]
            .into_iter()
            .find(|phase| *phase as u8 == number)
            .unwrap_or(Self::Ours)
    }
}

/// One connection. What it says of itself is read only when somebody has to yield, so a glimpse is enough.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    epoch: Instant,
    phase: AtomicU8,
    /// Milliseconds since the epoch: since when it is in its phase, and when it last moved on.
    since: AtomicU64,
    moved: AtomicU64,
    /// Bytes of the body, in all and since it last moved on.
    bytes: AtomicUsize,
    fresh: AtomicUsize,
    /// Bytes it has been given beyond its own.
    held: AtomicUsize,
    given_up: Notify,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Room for another connection.
    Connections,
    /// Room for bodies and answers.
    Memory,
}

/// A connection's entry, removed when dropped.
#[derive(Debug)]
pub(super) struct Entry {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Connections {
    /// Room for so many, of which each may keep others waiting for so long.
    pub fn new(limit: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { limit, patience, open: Mutex::default(), closed: Notify::new() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        // Whole entries come and go: no panic can leave the list half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new connection as soon as there is room, for which another may have to yield.
    pub(super) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Entry {
        let connection = Arc::new(Connection::new(peer));
        loop {
            {
                let mut open = self.lock();
                if open.len() < self.limit {
                    open.push(Arc::clone(&connection));
                    return Entry { connections: Arc::clone(self), connection };
                }
            }
            self.make_room(Short::Connections, peer);
            // Somebody's patience may end before anybody leaves.
            let _ = tokio::time::timeout(self.patience / 5, self.closed.notified()).await;
        }
    }

    /// Gives up the one that should yield most to this peer, if anyone should and nobody is leaving already.
    pub(super) fn make_room(&self, short: Short, peer: IpAddr) {
        let open = self.lock();
        if open.iter().any(|connection| connection.phase() == Phase::GivenUp) {
            return;
        }
        let now = Instant::now();
        let yielding = open.iter().filter_map(|connection| {
            let order = connection.yields_to(peer, short, self.patience, now)?;
            (!is_spared(connection, &open)).then_some((order, connection))
        });
        if let Some((_, connection)) = yielding.min_by_key(|(order, _)| *order) {
            connection.give_up();
        }
    }
}

/// Whether a connection may rest while others come: a flood of those that only connect, each too new to have to yield
/// yet, must not cost an API server the connections that it keeps. Their own turn comes within the patience.
fn is_spared(connection: &Connection, open: &[Arc<Connection>]) -> bool {
    if connection.phase() != Phase::Idle || !open.iter().any(|one| one.phase() == Phase::Opening) {
        return false;
    }
    let kept = open.iter().filter(|one| one.peer == connection.peer && one.phase() == Phase::Idle);
    kept.take(SPARED + 1).count() <= SPARED
}

impl Connection {
    /// One that has just come.
    pub fn new(peer: IpAddr) -> Self {
        Self {
            peer,
            epoch: Instant::now(),
            phase: AtomicU8::new(Phase::Opening as u8),
            since: AtomicU64::default(),
            moved: AtomicU64::default(),
            bytes: AtomicUsize::default(),
            fresh: AtomicUsize::default(),
            held: AtomicUsize::default(),
            given_up: Notify::new(),
        }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// A request's body arrives, or goes on to.
    pub(super) fn reads(&self) {
        self.bytes.store(0, Relaxed);
        self.enters(Phase::Reading);
    }

    /// More of the body has arrived.
    pub(super) fn gained(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
        if self.fresh.fetch_add(bytes, Relaxed) + bytes >= STEP {
            self.fresh.store(0, Relaxed);
            self.moved.store(self.milliseconds(Instant::now()), Relaxed);
        }
    }

    /// From here on the peer waits for us.
    pub(super) fn waits(&self) {
        self.enters(Phase::Ours);
    }

    /// An answer is ready to be sent.
    pub(super) fn sends(&self) {
        self.enters(Phase::Sending);
    }

    /// The answer is sent.
    pub(super) fn rests(&self) {
        self.enters(Phase::Idle);
    }

    /// What it has been given beyond its own, in bytes.
    pub(super) fn holds(&self, bytes: usize) {
        self.held.store(bytes, Relaxed);
    }

    /// Waits until it has to yield.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    fn give_up(&self) {
        self.phase.store(Phase::GivenUp as u8, Relaxed);
        self.given_up.notify_one();
    }

    fn enters(&self, phase: Phase) {
        let now = self.milliseconds(Instant::now());
        self.since.store(now, Relaxed);
        self.moved.store(now, Relaxed);
        self.fresh.store(0, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Relaxed))
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// Where in the order of yielding it stands; `None` while it has a right to stay.
    ///
    /// Those of other peers yield before the same peer's, if they have been at it for longer than `patience`; the same
    /// peer may be the API server, and its body yields only if it stands still. Slower ones come before faster ones.
    /// Idle connections are the exception: who wants another connection gives up an idle one of its own first.
    fn yields_to(
        &self,
        peer: IpAddr,
        short: Short,
        patience: Duration,
        now: Instant,
    ) -> Option<(Phase, bool, u64)> {
        let phase = self.phase();
        let own = self.peer == peer;
        let now = self.milliseconds(now);
        let age = now.saturating_sub(self.since.load(Relaxed));
        let still = now.saturating_sub(self.moved.load(Relaxed));
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let candidate = match short {
            Short::Memory => matches!(phase, Phase::Reading | Phase::Sending) && self.held.load(Relaxed) > 0,
            Short::Connections => phase < Phase::Ours,
        };
        let waited = if own && phase == Phase::Reading { still } else { age };
        if !candidate || waited < patience {
            return None;
        }
        let pace = match phase {
            Phase::Reading => self.bytes.load(Relaxed) as u64 * 1000 / age.max(1),
            // The longest first.
            _ => u64::MAX - age,
        };
        Some((phase, own != (phase == Phase::Idle), pace))
    }
}

impl Entry {
    /// The connection that was entered.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(index) = open.iter().position(|open| Arc::ptr_eq(open, &self.connection)) {
            open.swap_remove(index);
        }
        drop(open);
        self.connections.closed.notify_one();
    }
}

#[cfg(test)]
mod tests;
