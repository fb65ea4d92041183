//! Bodies: read as they arrive, charged as they grow, answered within the same bounds.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::Request,
    http::{HeaderMap, header::CONTENT_TYPE},
};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    connections::{Connection, Short},
    limits::OWN,
    shares::Share,
    state::App,
    timeout::budget,
    turned_away::TurnedAway,
};

/// What may be thrown away of a body that is too large, so that its sender gets to read why.
const DISCARDED: usize = 16 << 20;

/// A request's room in memory beyond what comes with its connection; given back when dropped.
struct Room {
    app: Arc<App>,
    connection: Arc<Connection>,
    deadline: Instant,
    shares: Vec<Share>,
    bytes: usize,
    /// The right to go on beyond the bound, which one request has at a time.
    last: Option<Share>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.connection.holds(0);
    }
}

impl Room {
    /// Makes room for so many bytes in all; waits for it until the request's deadline.
    async fn grow(&mut self, bytes: usize) -> Result<(), TurnedAway> {
        let Some(more) = bytes.checked_sub(OWN + self.bytes).filter(|more| *more > 0) else { return Ok(()) };
        if self.last.is_none() {
            match self.app.memory.try_take(more) {
                Some(share) => self.shares.push(share),
                None => self.wait_for(more).await?,
            }
        }
        self.bytes += more;
        self.connection.holds(self.bytes);
        Ok(())
    }

    async fn wait_for(&mut self, more: usize) -> Result<(), TurnedAway> {
        let (app, peer) = (&self.app, self.connection.peer());
        let either = async {
            tokio::select! {
                share = app.memory.take(peer, more) => (Some(share), None),
                last = app.last.take(peer, 1) => (None, Some(last)),
            }
        };
        let (share, last) = self.wait(either).await?;
        self.shares.extend(share);
        self.last = last;
        // The wait was not the peer's fault.
        self.connection.reads();
        Ok(())
    }

    /// Waits until the request's deadline, while those yield that hold others up.
    async fn wait<T>(&self, taking: impl Future<Output = T>) -> Result<T, TurnedAway> {
        self.connection.waits();
        let slow_ones_yield = async {
            loop {
                self.app.connections.make_room(Short::Memory, self.connection.peer());
                tokio::time::sleep(self.app.limits.patience / 5).await;
            }
        };
        tokio::select! {
            biased;
            taken = taking => Ok(taken),
            () = slow_ones_yield => Err(TurnedAway::Overload),
            () = tokio::time::sleep_until(self.deadline) => Err(TurnedAway::Overload),
        }
    }
}

/// A whole body, and the room it takes.
pub(super) struct Received {
    bytes: Vec<u8>,
    room: Room,
}

/// Reads a request that looks like a review.
pub(super) async fn receive(
    app: &Arc<App>,
    connection: &Arc<Connection>,
    request: Request,
) -> Result<Received, TurnedAway> {
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    if !is_json(&head.headers) {
        return Err(TurnedAway::ContentType);
    }
    let deadline = started + budget(timeout_of(head.uri.query())).ok_or(TurnedAway::Timeout)?;
    let length = body.size_hint().exact().ok_or(TurnedAway::LengthMissing)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > app.limits.body {
        discard(&mut body, deadline, app.limits.stall).await;
        return Err(TurnedAway::TooLarge);
    }
    let mut room = Room {
        app: Arc::clone(app),
        connection: Arc::clone(connection),
        deadline,
        shares: Vec::new(),
        bytes: 0,
        last: None,
    };
    let bytes = read(body, length, &mut room).await?;
    Ok(Received { bytes, room })
}

async fn read(mut body: Body, length: usize, room: &mut Room) -> Result<Vec<u8>, TurnedAway> {
    let mut bytes = Vec::with_capacity(length.min(OWN));
    room.connection.reads();
    loop {
        let limit = room.deadline.min(Instant::now() + room.app.limits.stall);
        let frame = timeout_at(limit, body.frame()).await.map_err(|_| TurnedAway::TooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| TurnedAway::Broken)?.into_data() else { continue };
        let needed = bytes.len() + data.len();
        if needed > length {
            return Err(TurnedAway::Broken);
        }
        if needed > bytes.capacity() {
            // In few steps, as each may have to wait; an eighth of what is charged has come, and memory that nothing
            // was written to costs nothing.
            let capacity = (bytes.capacity() * 8).clamp(needed, length);
            room.grow(capacity).await?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
        room.connection.gained(data.len());
    }
    room.connection.waits();
    if bytes.len() < length { Err(TurnedAway::Broken) } else { Ok(bytes) }
}

/// Reads on and forgets: closing a connection while its peer still sends loses the answer.
async fn discard(body: &mut Body, deadline: Instant, stall: Duration) {
    let mut left = DISCARDED;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline.min(Instant::now() + stall), body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl Received {
    /// Calls `answer` with the body when it may be parsed and there is room for what comes of it.
    pub(super) async fn answered<A>(&self, answer: impl FnOnce(&[u8]) -> A) -> Result<A, TurnedAway> {
        let Self { bytes, room } = self;
        let (app, peer) = (&room.app, room.connection.peer());
        // Nothing is taken, as nobody knows yet how much it will be; but those who left too much unread come first.
        if app.answers.try_take(0).is_none() {
            room.wait(app.answers.take(peer, 0)).await?;
        }
        // Small ones need no turn: there are never more of them at once than threads.
        let _turn = match bytes.len() {
            0..=OWN => None,
            length => Some(room.wait(app.parsing.take(peer, length)).await?),
        };
        Ok(answer(bytes))
    }

    /// When the answer has to be given.
    pub(super) fn deadline(&self) -> Instant {
        self.room.deadline
    }
}

/// An answer on its way, with the room it takes.
struct Sending {
    bytes: Vec<u8>,
    connection: Arc<Connection>,
    _share: Option<Share>,
}

/// Bytes that hold their room until they are written, or their connection is gone.
pub(super) fn sending(bytes: Vec<u8>, app: &App, connection: &Arc<Connection>) -> Bytes {
    let share = (bytes.len() > OWN).then(|| app.answers.overdraw(bytes.len()));
    connection.holds(share.as_ref().map_or(0, |_| bytes.len()));
    connection.sends();
    Bytes::from_owner(Sending { bytes, connection: Arc::clone(connection), _share: share })
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.connection.holds(0);
        self.connection.rests();
    }
}

/// Parameters of the media type, a charset for example, change nothing about JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// The value of `timeout` in a query; durations need no percent-encoding but for the micro sign, which we do without.
fn timeout_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("timeout="))
}
