//! `jfs-agent hold`: mounts, keeps the descriptors and gives them to the runners. The only privileged part.
//!
//! One thread, one poll loop. Messages come whole (see [`crate::packet`]), so a peer that is slow, silent or hostile
//! costs a connection for a few seconds and nothing else.

mod looks;
mod volume;

use crate::{
    arguments::Arguments,
    failure::{During, Failure, Result},
    foreign, layout, log,
    packet::{self, Nothing, wait},
    processes,
    signals::Signals,
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::OwnedFd,
    fs::Mode,
    net::SocketFlags,
};
use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};
use volume::Volume;

/// The user as which the client runs unless told otherwise: nobody.
const DEFAULT_CLIENT_UID: u32 = 65534;

/// How long a peer may stay silent after connecting.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// Open connections to one volume; the oldest makes room for the next.
const MOST_CONNECTIONS: usize = 16;

/// A peer that has connected and not yet asked.
struct Connection {
    socket: OwnedFd,
    end: Instant,
}

/// A volume and who is connected to it.
struct Served {
    volume: Volume,
    connections: VecDeque<Connection>,
}

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let run_directory = arguments.require_directory("run-dir")?;
    let client_uid = arguments.take_number("client-uid")?.unwrap_or(DEFAULT_CLIENT_UID);
    let wanted = arguments.take_all("volume");
    arguments.finish()?;
    if wanted.is_empty() {
        return Err(Failure::usage("--volume is missing"));
    }
    let mut served: Vec<Served> = Vec::new();
    for pair in &wanted {
        let volume = Volume::parse(&run_directory, pair, client_uid)?;
        if served.iter().any(|one| one.volume.collides_with(&volume)) {
            return Err(Failure::usage(format!("--volume: name or mountpoint is there twice: {pair}")));
        }
        served.push(Served { volume, connections: VecDeque::new() });
    }
    let signals = Signals::install()?;
    install_program(&run_directory)?;
    // Taken back or mounted before anyone can ask: a runner that asks gets an answer at once.
    for one in &mut served {
        one.volume.attend();
    }
    while !Signals::stop_requested() {
        turn(&signals, &mut served);
    }
    stop(served)
}

/// Puts this program where the client containers find it; atomically, because they may be running it.
fn install_program(run_directory: &Path) -> Result<()> {
    let program = layout::program(run_directory);
    let directory = program.parent().unwrap_or(run_directory);
    fs::create_dir_all(directory).during(|| format!("make {}", directory.display()))?;
    let fresh = directory.join(format!(".jfs-agent.{}", std::process::id()));
    fs::copy("/proc/self/exe", &fresh).during(|| format!("write {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
        .during(|| format!("chmod {}", fresh.display()))?;
    fs::rename(&fresh, &program).during(|| format!("install {}", program.display()))
}

/// Waits for something to happen and attends to it.
fn turn(signals: &Signals, served: &mut [Served]) {
    {
        let mut descriptors = vec![PollFd::new(signals, PollFlags::IN)];
        for one in served.iter() {
            if let Some(listener) = one.volume.listener() {
                descriptors.push(PollFd::new(listener, PollFlags::IN));
            }
            let sockets = one.connections.iter().map(|connection| &connection.socket);
            descriptors.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
            descriptors.extend(one.volume.looks.descriptors());
        }
        let deadlines = served.iter().flat_map(|one| {
            let silent = one.connections.iter().map(|connection| connection.end);
            silent.chain(one.volume.due()).chain(one.volume.looks.due())
        });
        let limit = deadlines.min().map(|end| end.saturating_duration_since(Instant::now()));
        wait(&mut descriptors, limit);
    }
    signals.clear();
    processes::reap();
    for one in served {
        accept(one);
        answer(one);
        one.volume.look();
        if one.volume.due().is_some_and(|due| due <= Instant::now()) {
            one.volume.attend();
        }
    }
}

/// Takes in whoever knocks and may enter.
fn accept(one: &mut Served) {
    let Some(listener) = one.volume.listener() else { return };
    while let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        if !one.volume.admits(foreign::peer_uid(&socket)) {
            log::warn(Some(one.volume.name()), "refused a peer that runs as another user");
            continue;
        }
        if one.connections.len() >= MOST_CONNECTIONS {
            one.connections.pop_front();
        }
        one.connections.push_back(Connection { socket, end: Instant::now() + SILENCE_LIMIT });
    }
}

/// Answers whoever has asked, and lets go of those who asked nonsense or nothing in time.
fn answer(one: &mut Served) {
    let volume = &mut one.volume;
    for connection in std::mem::take(&mut one.connections) {
        match packet::receive(&connection.socket) {
            Ok(question) => volume.answer(connection.socket, question),
            Err(Nothing::Later) if Instant::now() < connection.end => one.connections.push_back(connection),
            Err(Nothing::Later | Nothing::Closed) => {}
            Err(Nothing::Refused(reason)) => {
                log::warn(Some(volume.name()), &format!("refused a message: {reason}"));
            }
        }
    }
}

/// Detaches everything and ends.
fn stop(served: Vec<Served>) -> Result<ExitCode> {
    let mut left = Vec::new();
    for one in served {
        let name = one.volume.name().to_owned();
        match one.volume.stop() {
            Ok(()) => log::info(Some(&name), "detached"),
            Err(failure) => left.push(format!("{name}: {failure}")),
        }
    }
    if left.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::new(left.join("; "))) }
}

/// The mode of the socket: its owner, which is the client's user, and root.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
