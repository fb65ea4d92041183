//! The client's mount with this process in place of the kernel.
//!
//! Cloning and removing trees are done by a mounted client, asked through a file in its root, and a mount takes FUSE and
//! privilege. But where a client is given a descriptor to serve (`/dev/fd/N`) it does not look what it is: here it is
//! one end of a pair of sockets, whose messages are whole as those of the device are. This process asks at the other
//! end what the kernel would, of which it takes five operations; nothing is mounted anywhere.

use super::{
    client::{Job, failure},
    request::Outcome,
};
use crate::{
    command::Running,
    packet::{self, Nothing},
};
use juicefs_sidecar::worker::{Failed, Kind, words};
use rustix::{
    fd::{AsFd, AsRawFd, OwnedFd},
    io::{Errno, FdFlags, fcntl_setfd},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};
use std::time::{Duration, Instant};

/// The inode of the root.
const ROOT: u64 = 1;

/// Operations of FUSE.
const LOOKUP: u32 = 1;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const INIT: u32 = 26;

/// The protocol's version; all that is used is as old as it is.
const VERSION: (u32, u32) = (7, 31);

/// To open a file for reading and writing.
const READ_WRITE: u32 = 2;

/// So much of an answer of the client's tools is read at once.
const PART: u32 = 1024;

/// Where in an entry its inode's mode is.
const MODE: usize = 100;

/// How often to see whether the client is done.
const PAUSE: Duration = Duration::from_millis(20);

/// How long it may take to end its session.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Tells a client that somebody watches over it, so that it starts no second process, which would write to `/tmp`.
const ALONE: (&str, &str) = ("JFS_SUPERVISOR", "1");

/// What begins a report of progress in an answer of the client, and how long it is.
const PROGRESS: (u8, usize) = (0xfe, 17);

/// A client that serves us.
pub(super) struct Mount<'a> {
    job: &'a Job<'a>,
    client: Running,
    socket: OwnedFd,
    unique: u64,
}

impl<'a> Mount<'a> {
    /// Starts a client.
    pub(super) fn start(job: &'a Job<'a>) -> Outcome<Self> {
        let other = |error: Errno| Failed::new(Kind::Other, error.to_string());
        let ends = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (socket, device) = ends.map_err(other)?;
        fcntl_setfd(&device, FdFlags::empty()).map_err(other)?;
        // An empty cache in memory and no fixed port for metrics: several may run at the same time.
        let mut words: Vec<String> = [
            "--no-agent",
            "mount",
            "--no-usage-report",
            "--no-bgjob",
            "--cache-dir=memory",
            "--metrics=127.0.0.1:0",
        ]
        .map(str::to_owned)
        .into();
        words.extend([job.address.to_owned(), format!("/dev/fd/{}", device.as_raw_fd())]);
        let client = job.start(&words::Command { words, environment: Vec::new() }, &[ALONE])?;
        drop(device);
        let mut mount = Self { job, client, socket, unique: 0 };
        mount.must(INIT, ROOT, &[pair(VERSION.0, VERSION.1), 0, 0, 0, 0, 0, 0, 0], b"")?;
        Ok(mount)
    }

    /// The inode of a directory, by its path from the root. No link is followed.
    pub(super) fn directory(&mut self, path: &str) -> Outcome<u64> {
        let mut inode = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let entry = match self.ask(LOOKUP, inode, &[], &terminated(name))? {
                Ok(entry) if number(&entry, 0) != 0 => entry,
                Ok(_) | Err(Errno::NOENT) => {
                    return Err(Failed::new(Kind::Missing, format!("{path} is not there")));
                }
                Err(error) => return Err(refused(error)),
            };
            inode = number(&entry, 0);
            // A directory's mode begins so, and no other's.
            if entry.get(MODE + 1).is_none_or(|mode| mode >> 4 != 4) {
                return Err(Failed::new(Kind::NotADirectory, format!("{path} leads to no directory")));
            }
        }
        Ok(inode)
    }

    /// Has the client do something with its own tools, to the end: a number, inodes, a name in the last of them and what
    /// else there is to say.
    pub(super) fn control(&mut self, command: u32, inodes: &[u64], name: &str, more: &[u8]) -> Outcome<()> {
        let mut content: Vec<u8> = inodes.iter().flat_map(|inode| inode.to_be_bytes()).collect();
        // No name of a path is longer than 255 bytes.
        content.push(u8::try_from(name.len()).unwrap_or_default());
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(more);
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        content.splice(..0, length.to_be_bytes());
        content.splice(..0, command.to_be_bytes());
        let inode = number(&self.must(LOOKUP, ROOT, &[], b".control\0")?, 0);
        let handle = number(&self.must(OPEN, inode, &[pair(READ_WRITE, 0)], b"")?, 0);
        self.must(WRITE, inode, &[handle, 0, pair(length + 8, 0), 0, 0], &content)?;
        let mut offset = content.len() as u64;
        content.clear();
        loop {
            let more = self.must(READ, inode, &[handle, offset, pair(PART, 0), 0, 0], b"")?;
            offset += more.len() as u64;
            content.extend_from_slice(&more);
            while content.len() >= PROGRESS.1 && content[0] == PROGRESS.0 {
                content.drain(..PROGRESS.1);
            }
            match content.first() {
                Some(0) => return Ok(()),
                Some(&error) if error != PROGRESS.0 => {
                    return Err(refused(Errno::from_raw_os_error(error.into())));
                }
                _ => self.job.wait(&self.client, None, Some(PAUSE))?,
            }
        }
    }

    /// Ends it, with its session.
    pub(super) fn end(self) -> Outcome<()> {
        let Self { job, mut client, socket, .. } = self;
        drop(socket);
        let end = Instant::now() + END_LIMIT;
        while client.proceed(job.label, "mount", &job.mask).is_none() && Instant::now() < end {
            job.wait(&client, None, Some(PAUSE))?;
        }
        Ok(())
    }

    fn must(&mut self, operation: u32, inode: u64, body: &[u64], more: &[u8]) -> Outcome<Vec<u8>> {
        self.ask(operation, inode, body, more)?.map_err(refused)
    }

    /// Asks for an operation, as root, and waits for the answer.
    fn ask(
        &mut self,
        operation: u32,
        inode: u64,
        body: &[u64],
        more: &[u8],
    ) -> Outcome<Result<Vec<u8>, Errno>> {
        self.unique += 2;
        let length = u32::try_from(40 + 8 * body.len() + more.len()).unwrap_or(u32::MAX);
        let header = [pair(length, operation), self.unique, inode, 0, 0];
        let mut message: Vec<u8> =
            header.iter().chain(body).flat_map(|number| number.to_ne_bytes()).collect();
        message.extend_from_slice(more);
        // One that has ended says why.
        _ = packet::send(&self.socket, &message, &[]);
        let mut closed = false;
        loop {
            match packet::receive(&self.socket) {
                Ok(mut packet) if number(&packet.bytes, 8) == self.unique => {
                    let error = packet.bytes[4..8].try_into().map_or(0, i32::from_ne_bytes);
                    packet.bytes.drain(..16);
                    return Ok(match error.saturating_neg() {
                        0 => Ok(packet.bytes),
                        number @ 1..4096 => Err(Errno::from_raw_os_error(number)),
                        _ => Err(Errno::IO),
                    });
                }
                // A notification.
                Ok(_) => continue,
                Err(Nothing::Later) => {}
                Err(_) => closed = true,
            }
            if let Some(ended) = self.client.proceed(self.job.label, "mount", &self.job.mask) {
                return Err(failure(&self.client, &ended.describe()));
            }
            let socket = (!closed).then(|| self.socket.as_fd());
            self.job.wait(&self.client, socket, None)?;
        }
    }
}

/// What the client says with a number.
fn refused(error: Errno) -> Failed {
    let kind = if error == Errno::EXIST { Kind::Exists } else { Kind::Other };
    Failed::new(kind, format!("the client refuses: {error}"))
}

/// A name as FUSE has it.
fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Two numbers, one after the other in memory.
fn pair(first: u32, second: u32) -> u64 {
    let (first, second) = (u64::from(first), u64::from(second));
    if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
}

/// A number in an answer; zero where it is too short.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
