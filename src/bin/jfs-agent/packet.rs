//! Messages with descriptors between holder, runner and probe.
//!
//! The sockets are `SOCK_SEQPACKET`: the kernel delivers a message whole or not at all, so there are no half messages
//! to wait for. Everything that does not fit is refused, with its descriptors closed.

use crate::failure::{During, Failure, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    },
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    path::Path,
    time::{Duration, Instant},
};

/// Longest message: many times what any of ours needs.
const LONGEST: usize = 4096;

/// Most descriptors in a message: the FUSE device and the root of its mount.
pub(crate) const MOST_DESCRIPTORS: usize = 2;

/// A message as it arrived.
#[derive(Debug)]
pub(crate) struct Packet {
    /// What it says.
    pub(crate) bytes: Vec<u8>,
    /// What came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Why there is no packet.
#[derive(Debug)]
pub(crate) enum Nothing {
    /// Not yet.
    Later,
    /// The peer has gone.
    Closed,
    /// It was refused, for this reason.
    Refused(&'static str),
}

/// Receives one message without waiting.
pub(crate) fn receive(socket: impl AsFd) -> std::result::Result<Packet, Nothing> {
    let mut bytes = vec![0; LONGEST];
    // Room for one more descriptor than is allowed: too many must be told from enough.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
    {
        Ok(received) => received,
        Err(Errno::AGAIN | Errno::INTR) => return Err(Nothing::Later),
        Err(_) => return Err(Nothing::Closed),
    };
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if descriptors.len() > MOST_DESCRIPTORS || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Nothing::Refused("too many descriptors"));
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Nothing::Refused("message too long"));
    }
    if received.bytes == 0 {
        return Err(Nothing::Closed);
    }
    bytes.truncate(received.bytes);
    Ok(Packet { bytes, descriptors })
}

/// Whether something has come, without taking it.
pub(crate) fn readable(socket: impl AsFd) -> std::result::Result<(), Nothing> {
    match rustix::net::recv(socket, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((0, _)) => Err(Nothing::Closed),
        Ok(_) => Ok(()),
        Err(Errno::AGAIN | Errno::INTR) => Err(Nothing::Later),
        Err(_) => Err(Nothing::Closed),
    }
}

/// Sends one message without waiting; a peer that does not take it is not waited for.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).map(|_| ())
}

/// Listens at a path, in place of whatever socket was left there.
pub(crate) fn listen(path: &Path, mode: rustix::fs::Mode, kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).during(|| "make a socket")?;
    let address = SocketAddrUnix::new(path).during(|| format!("socket {}", path.display()))?;
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(Failure::new(format!("remove {}: {error}", path.display()))),
    }
    rustix::net::bind(&socket, &address).during(|| format!("bind {}", path.display()))?;
    rustix::fs::chmod(path, mode).during(|| format!("chmod {}", path.display()))?;
    rustix::net::listen(&socket, 64).during(|| format!("listen on {}", path.display()))?;
    Ok(socket)
}

/// What a question came to.
#[derive(Debug)]
pub(crate) enum Asked {
    /// An answer.
    Answer(Packet),
    /// Nobody listens there.
    Nobody,
    /// Somebody listens but did not answer properly.
    NoAnswer(String),
}

/// Asks a question and waits for the answer, for a limited time.
pub(crate) fn ask(path: &Path, question: &[u8], descriptors: &[BorrowedFd<'_>], limit: Duration) -> Asked {
    match try_ask(path, question, descriptors, limit) {
        Ok(packet) => Asked::Answer(packet),
        Err(Some(reason)) => Asked::NoAnswer(reason),
        Err(None) => Asked::Nobody,
    }
}

fn try_ask(
    path: &Path,
    question: &[u8],
    descriptors: &[BorrowedFd<'_>],
    limit: Duration,
) -> std::result::Result<Packet, Option<String>> {
    let end = Instant::now() + limit;
    let socket = loop {
        match connect(path) {
            Ok(socket) => break socket,
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Err(None),
            // The queue of the listener is full.
            Err(Errno::AGAIN) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(Some(error.to_string())),
        }
    };
    send(&socket, question, descriptors).map_err(|error| Some(error.to_string()))?;
    loop {
        match receive(&socket) {
            Ok(packet) => return Ok(packet),
            Err(Nothing::Closed) => return Err(Some("closed without an answer".to_owned())),
            Err(Nothing::Refused(reason)) => return Err(Some(reason.to_owned())),
            Err(Nothing::Later) => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Some("no answer in time".to_owned()));
        }
        wait(&mut [PollFd::new(&socket, PollFlags::IN)], Some(left));
    }
}

/// Connects to a socket of ours without waiting.
pub(crate) fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Waits for descriptors, at most for a time; an interruption ends the wait like an event.
pub(crate) fn wait(descriptors: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    if poll(descriptors, limit.as_ref()).is_err() {
        for descriptor in descriptors {
            descriptor.clear_revents();
        }
    }
}
