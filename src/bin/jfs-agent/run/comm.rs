//! `JFS_SUPER_COMM`, the JuiceFS client's own way to be given its descriptor and to give it back.
//!
//! The client connects, at least twice a start. It is sent one message: a placeholder descriptor and, when the mount
//! has been served before, the FUSE descriptor with the setting. It answers with the setting once it serves.

use crate::{
    device::Setting,
    failure::{During, Result},
    foreign,
    layout::Place,
    message::Kept,
    packet::{self, Nothing},
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags},
    net::{SocketFlags, SocketType},
};
use std::time::{Duration, Instant};

/// What is said when no setting is known yet.
const NO_SETTING: &[u8] = b"FUSE";

/// How long a client may take to answer.
const LIMIT: Duration = Duration::from_mins(1);

/// Open connections; a client has one or two.
const MOST_CONNECTIONS: usize = 16;

/// The socket and who is connected to it.
pub(super) struct Comm {
    listener: OwnedFd,
    placeholder: OwnedFd,
    connections: Vec<(OwnedFd, Instant)>,
}

impl Comm {
    /// Listens in the client's directory.
    pub(super) fn listen(place: &Place) -> Result<Self> {
        let listener = packet::listen(&place.client_socket(), Mode::RUSR | Mode::WUSR, SocketType::STREAM)?;
        let placeholder = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during(|| "open /dev/null")?;
        Ok(Self { listener, placeholder, connections: Vec::new() })
    }

    /// What to poll for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let connections = self.connections.iter().map(|(socket, _)| socket);
        std::iter::once(&self.listener).chain(connections).map(|socket| PollFd::new(socket, PollFlags::IN))
    }

    /// Serves whoever has connected; the setting, when a client brought one.
    pub(super) fn serve(&mut self, kept: Option<&Kept>) -> Option<Setting> {
        while let Ok(socket) =
            rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            let own = rustix::process::geteuid().as_raw();
            let admitted = foreign::peer_uid(&socket).is_some_and(|uid| uid == own);
            if admitted && self.connections.len() < MOST_CONNECTIONS && self.greet(&socket, kept).is_ok() {
                self.connections.push((socket, Instant::now() + LIMIT));
            }
        }
        let mut brought = None;
        self.connections.retain(|(socket, end)| match packet::receive(socket) {
            Ok(answer) => {
                // Anything else is `CLOSE`. The descriptor that comes along is one we have.
                brought = Setting::new(&answer.bytes).or(brought.take());
                false
            }
            Err(Nothing::Later) => Instant::now() < *end,
            Err(Nothing::Closed | Nothing::Refused(_)) => false,
        });
        brought
    }

    fn greet(&self, socket: &OwnedFd, kept: Option<&Kept>) -> rustix::io::Result<()> {
        let placeholder = self.placeholder.as_fd();
        match kept.and_then(|kept| Some((kept.device.as_fd(), kept.setting.as_ref()?))) {
            Some((device, setting)) => packet::send(socket, setting.as_bytes(), &[placeholder, device]),
            None => packet::send(socket, NO_SETTING, &[placeholder]),
        }
    }

    /// Forgets the connections of a client that has ended.
    pub(super) fn forget(&mut self) {
        self.connections.clear();
    }
}
