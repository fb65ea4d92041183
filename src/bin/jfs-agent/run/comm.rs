//! `JFS_SUPER_COMM`, the JuiceFS client's own way to be given its descriptor and to give it back.
//!
//! The client connects, at least twice a start. It is sent one message: a placeholder descriptor and, when the mount
//! has been served before, the FUSE descriptor with the setting. It answers with the setting once it serves.

use crate::{
    connections::{Connections, WhenFull},
    device::Setting,
    failure::{During, Result},
    foreign,
    layout::Place,
    message::Kept,
    packet,
};
use rustix::{
    event::PollFd,
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags},
    net::SocketType,
};
use std::time::{Duration, Instant};

/// What is said when no setting is known yet.
const NO_SETTING: &[u8] = b"FUSE";

/// How long a client may take to answer.
const LIMIT: Duration = Duration::from_mins(1);

/// The socket and who is connected to it.
pub(super) struct Comm {
    /// A client has one or two.
    connections: Connections,
    placeholder: OwnedFd,
}

impl Comm {
    /// Listens in the client's directory.
    pub(super) fn listen(place: &Place) -> Result<Self> {
        let listener = packet::listen(&place.client_socket(), Mode::RUSR | Mode::WUSR, SocketType::STREAM)?;
        let placeholder = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during(|| "open /dev/null")?;
        Ok(Self { connections: Connections::new(listener, LIMIT, WhenFull::RefuseNewest), placeholder })
    }

    /// What to poll for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.connections.descriptors()
    }

    /// When the next connection has been open for too long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.connections.due()
    }

    /// Serves whoever has connected; the setting, when a client brought one.
    pub(super) fn serve(&mut self, kept: Option<&Kept>) -> Option<Setting> {
        let placeholder = &self.placeholder;
        self.connections.accept(|socket| {
            let own = rustix::process::geteuid().as_raw();
            foreign::peer_uid(socket) == Some(own) && greet(socket, placeholder, kept).is_ok()
        });
        // Anything else is `CLOSE`. The descriptor that comes along is one we have.
        let answers = self.connections.receive().into_iter().filter_map(|(_, answer)| answer.ok());
        answers.filter_map(|answer| Setting::new(&answer.bytes)).next_back()
    }

    /// Forgets the connections of a client that has ended.
    pub(super) fn forget(&mut self) {
        self.connections.clear();
    }
}

/// Tells a client which descriptor it serves, if one has served before it.
fn greet(socket: &OwnedFd, placeholder: &OwnedFd, kept: Option<&Kept>) -> rustix::io::Result<()> {
    let placeholder = placeholder.as_fd();
    match kept.and_then(|kept| Some((kept.device.as_fd(), kept.setting.as_ref()?))) {
        Some((device, setting)) => packet::send(socket, setting.as_bytes(), &[placeholder, device]),
        None => packet::send(socket, NO_SETTING, &[placeholder]),
    }
}
