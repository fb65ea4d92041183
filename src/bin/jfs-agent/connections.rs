//! Who is connected to a socket of ours and has not yet asked: the accept loop of holder, runner, client's comm and worker.
//!
//! A peer that is slow, silent or hostile costs one of a few places for a limited time, and nothing else.

use crate::packet::{self, Nothing, Packet};
use rustix::{
    event::{PollFd, PollFlags},
    fd::OwnedFd,
    net::SocketFlags,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Open connections to one socket.
const MOST: usize = 16;

/// Who has to go when there are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The one that has been silent longest.
    DropOldest,
    /// The one that comes last.
    RefuseNewest,
}

/// A socket, who is connected to it, and what they may take.
#[derive(Debug)]
pub(crate) struct Connections {
    listener: OwnedFd,
    /// Silent until now, with the end of the time that each has; the oldest first.
    silent: VecDeque<(OwnedFd, Instant)>,
    silence_limit: Duration,
    when_full: WhenFull,
}

impl Connections {
    /// Nobody, yet, at a socket that listens without blocking.
    pub(crate) fn new(listener: OwnedFd, silence_limit: Duration, when_full: WhenFull) -> Self {
        Self { listener, silent: VecDeque::new(), silence_limit, when_full }
    }

    /// Takes in whoever knocks and is admitted. More than there are places for wait for the next turn.
    pub(crate) fn accept(&mut self, mut admit: impl FnMut(&OwnedFd) -> bool) {
        for _ in 0..MOST {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
            let full = self.silent.len() >= MOST;
            if full && self.when_full == WhenFull::RefuseNewest || !admit(&socket) {
                continue;
            }
            if full {
                self.silent.pop_front();
            }
            self.silent.push_back((socket, Instant::now() + self.silence_limit));
        }
    }

    /// Whoever has asked, with the question or why it is refused; lets go of those who left or said nothing in time.
    pub(crate) fn receive(&mut self) -> Vec<(OwnedFd, Result<Packet, &'static str>)> {
        self.take(MOST, |socket| packet::receive(socket))
    }

    /// So many at most of those who have begun to ask, in parts perhaps; lets go of others as [`Self::receive`] does.
    pub(crate) fn readable(&mut self, most: usize) -> Vec<OwnedFd> {
        self.take(most, |socket| packet::readable(socket)).into_iter().map(|(socket, _)| socket).collect()
    }

    fn take<T>(
        &mut self,
        most: usize,
        look: impl Fn(&OwnedFd) -> Result<T, Nothing>,
    ) -> Vec<(OwnedFd, Result<T, &'static str>)> {
        let mut asked = Vec::new();
        for (socket, end) in std::mem::take(&mut self.silent) {
            // Who may have asked without being heard was not silent.
            if asked.len() >= most {
                self.silent.push_back((socket, end));
                continue;
            }
            match look(&socket) {
                Ok(question) => asked.push((socket, Ok(question))),
                Err(Nothing::Refused(reason)) => asked.push((socket, Err(reason))),
                Err(Nothing::Later) if Instant::now() < end => self.silent.push_back((socket, end)),
                Err(Nothing::Later | Nothing::Closed) => {}
            }
        }
        asked
    }

    /// What to poll for.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let silent = self.silent.iter().map(|(socket, _)| socket);
        std::iter::once(&self.listener).chain(silent).map(|socket| PollFd::new(socket, PollFlags::IN))
    }

    /// When the next of them has been silent for too long.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.silent.front().map(|(_, end)| *end)
    }

    /// Lets go of all.
    pub(crate) fn clear(&mut self) {
        self.silent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::SocketType;
    use std::path::PathBuf;

    const LONG: Duration = Duration::from_mins(1);

    /// A socket in a directory that goes with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("connections-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("s")
        }

        fn connections(&self, silence_limit: Duration, when_full: WhenFull) -> Connections {
            let mode = rustix::fs::Mode::RWXU;
            let listener = packet::listen(&self.socket(), mode, SocketType::SEQPACKET).unwrap();
            Connections::new(listener, silence_limit, when_full)
        }

        fn peer(&self) -> OwnedFd {
            packet::connect(&self.socket()).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Which of the peers are still connected: those that can still be written to.
    fn open(peers: &[OwnedFd]) -> Vec<usize> {
        let alive = |peer: &OwnedFd| packet::send(peer, b"?", &[]).is_ok();
        (0..peers.len()).filter(|number| alive(&peers[*number])).collect()
    }

    #[test]
    fn the_oldest_make_room_or_the_newest_are_refused() {
        for (name, when_full, left) in [
            ("oldest", WhenFull::DropOldest, (4..20).collect::<Vec<_>>()),
            ("newest", WhenFull::RefuseNewest, (0..16).collect()),
        ] {
            let place = Place::new(name);
            let mut connections = place.connections(LONG, when_full);
            let peers: Vec<OwnedFd> = (0..20).map(|_| place.peer()).collect();
            for _ in 0..2 {
                connections.accept(|_| true);
            }
            assert_eq!(open(&peers), left);
            assert_eq!(connections.receive().len(), MOST);
            assert_eq!(connections.due(), None);
        }
    }

    #[test]
    fn the_silent_and_those_who_left_are_let_go_of() {
        let place = Place::new("silent");
        let mut connections = place.connections(Duration::ZERO, WhenFull::DropOldest);
        let peers = [place.peer(), place.peer(), place.peer()];
        connections.accept(|_| true);
        assert!(connections.due().is_some());
        packet::send(&peers[1], b"asks", &[]).unwrap();
        packet::send(&peers[2], &[b' '; 5000], &[]).unwrap();
        let asked = connections.receive();
        let questions: Vec<Result<&[u8], &str>> = asked
            .iter()
            .map(|(_, question)| question.as_ref().map(|packet| &*packet.bytes).map_err(|reason| *reason))
            .collect();
        assert_eq!(questions, [Ok(&b"asks"[..]), Err("message too long")]);
        assert_eq!(open(&peers[..1]), [0; 0]);
    }

    #[test]
    fn those_who_have_begun_to_ask_wait_for_their_turn() {
        let place = Place::new("turn");
        let mut connections = place.connections(Duration::ZERO, WhenFull::DropOldest);
        let peers = [place.peer(), place.peer(), place.peer()];
        connections.accept(|_| true);
        for peer in &peers {
            packet::send(peer, b"asks", &[]).unwrap();
        }
        let turns: Vec<usize> = (0..3).map(|_| connections.readable(2).len()).collect();
        assert_eq!(turns, [2, 1, 0]);
    }

    #[test]
    fn who_is_not_admitted_takes_no_place() {
        let place = Place::new("admitted");
        let mut connections = place.connections(LONG, WhenFull::DropOldest);
        let peers = [place.peer(), place.peer()];
        let mut first = true;
        connections.accept(|_| std::mem::take(&mut first));
        assert_eq!(open(&peers), [0]);
        connections.clear();
        assert_eq!(open(&peers), [0; 0]);
    }
}
