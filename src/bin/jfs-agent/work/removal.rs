//! Trees are removed by a WebDAV server of the client, which has one directory for its root and one request to serve.
//!
//! The client's `rmr` needs a mount. Its `sync --delete-dst` does not, but follows symbolic links: emptying a directory
//! empties those that its links lead to. The server removes as `rmr` does, by inode and respecting trash, and cannot be
//! led away: with the parent for its root the client refuses to follow a link on the way there, and the name that is
//! left is removed whatever it is. That the tree is gone is what the client says afterwards, not an HTTP status.

use super::{
    client::{Job, failure},
    request::Outcome,
};
use crate::command::Running;
use juicefs_sidecar::worker::{Failed, Kind, SubPath, words};
use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
    net::{
        AddressFamily, Ipv4Addr, SendFlags, SocketAddrV4, SocketFlags, SocketType, bind, connect,
        getsockname, send, socket_with,
    },
    process::Signal,
};
use std::{
    fmt::Write,
    fs::File,
    io::Read,
    time::{Duration, Instant},
};

/// How often to see whether the server has come up, or has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the server may take to end its session.
const END_LIMIT: Duration = Duration::from_secs(5);

/// So often another port is tried: between its choice and its use somebody else may take it.
const MOST_TRIES: u32 = 3;

/// The user of the server, for whom there is a password: others may reach its port.
const USER: &str = "worker";

/// Removes a directory with its quota and everything in it.
pub(super) fn remove(job: &Job<'_>, path: &SubPath) -> Outcome<()> {
    // Fails on anything that is not a directory and on whatever leads through a link.
    if !job.delete_quota(path)? {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let said = serve(job, path)?;
        if !job.delete_quota(path)? {
            return Ok(());
        }
        if tries >= MOST_TRIES {
            return Err(Failed::new(said.kind, format!("not removed: {}", said.message)));
        }
    }
}

/// Starts the server, has it remove the tree, ends it; what there is to say if that did not help.
fn serve(job: &Job<'_>, path: &SubPath) -> Outcome<Failed> {
    let other = |failure: &dyn std::fmt::Display| Failed::new(Kind::Other, failure.to_string());
    let (parent, name) = path.split();
    let address = free_port().map_err(|error| other(&error))?;
    let password = password().map_err(|error| other(&error))?;
    let mut words: Vec<String> =
        ["--no-agent", "webdav", "--no-usage-report", "--no-bgjob"].map(str::to_owned).into();
    // An empty cache in memory and no fixed port for metrics: several may run at the same time.
    words.extend(["--cache-dir=memory", "--metrics=127.0.0.1:0"].map(str::to_owned));
    words.extend([format!("--subdir={parent}"), job.address.to_owned(), address.to_string()]);
    let command = words::Command { words, environment: Vec::new() };
    let mut server = job.start(&command, &[("WEBDAV_USER", USER), ("WEBDAV_PASSWORD", &password)])?;
    let take = |server: &mut Running| server.proceed(job.label, "webdav", &job.mask);
    let socket = loop {
        if let Some(ended) = take(&mut server) {
            return Ok(failure(&server, &ended.describe()));
        }
        match connected(address) {
            Ok(socket) => break socket,
            Err(_) => job.wait(&server, None, Some(PAUSE))?,
        }
    };
    let request = format!(
        "DELETE /{} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {}\r\nConnection: close\r\n\r\n",
        encoded(name),
        base64(format!("{USER}:{password}").as_bytes()),
    );
    send(&socket, request.as_bytes(), SendFlags::NOSIGNAL).map_err(|error| other(&error))?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    // The first line says it all.
    while !answer.contains(&b'\n') && answer.len() < part.len() {
        match rustix::io::read(&socket, &mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(Errno::AGAIN | Errno::INTR) => job.wait(&server, Some(socket.as_fd()), None)?,
            Err(error) => return Ok(other(&error)),
        }
        if let Some(ended) = take(&mut server) {
            return Ok(failure(&server, &ended.describe()));
        }
    }
    server.signal(Signal::TERM);
    let end = Instant::now() + END_LIMIT;
    while take(&mut server).is_none() && Instant::now() < end {
        job.wait(&server, None, Some(PAUSE))?;
    }
    let line = String::from_utf8_lossy(&answer);
    Ok(failure(&server, line.lines().next().unwrap_or_default().trim()))
}

/// An address of this host on which nobody listens.
fn free_port() -> rustix::io::Result<SocketAddrV4> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    SocketAddrV4::try_from(getsockname(&socket)?)
}

/// A connection, which on this host is there at once or not at all.
fn connected(address: SocketAddrV4) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

fn password() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A name as it stands in a URL.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .enumerate()
            .fold(0, |bits, (place, byte)| bits | usize::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * place) & 63]);
            text.push(if place <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_everybody() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("go", "Z28="), ("foo", "Zm9v"), ("worker:x?>", "d29ya2VyOng/Pg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn names_stay_one_name_in_a_url() {
        assert_eq!(encoded("pv-1"), "pv-1");
        assert_eq!(encoded("a b?c#d%2e/é"), "a%20b%3Fc%23d%252e%2F%C3%A9");
    }
}
