//! `jfs-agent work`: does for the controller what takes a JuiceFS client, beside it and without any privilege.
//!
//! One process listens and starts another for each request, which alone ever holds its secrets and ends with it. So a
//! request that hangs, or whatever a client does with its memory, is nobody else's concern, and the one that listens
//! buries what any of them leaves behind.

mod client;
mod mount;
pub(crate) mod request;
mod trees;

use crate::{
    arguments::Arguments,
    connections::{Connections, WhenFull},
    failure::{During, Result},
    foreign, log,
    packet::{self, wait},
    processes,
    signals::Signals,
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::OwnedFd,
    fs::Mode,
    net::SocketType,
    process::{Pid, Signal, kill_process, kill_process_group},
};
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Requests that are worked on at the same time; others wait for their turn.
const MOST_RUNNING: usize = 8;

/// How long who has connected may take to begin to ask.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// How long requests that are called off may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The sidecar program's own user.
const DEFAULT_CONTROLLER_UID: u32 = 65532;

/// Everybody: it is in a directory that only this pod has, no capability is left to give it to the controller's user,
/// and who connects is looked at.
const SOCKET_MODE: Mode = Mode::from_raw_mode(0o666);

/// What the command line says to this process and those that it starts.
struct Options {
    scratch: PathBuf,
    client: String,
    enterprise_client: String,
}

impl Options {
    fn read(arguments: &mut Arguments) -> Result<Self> {
        let client = arguments.take("client").unwrap_or_else(|| "/usr/local/bin/juicefs".to_owned());
        let enterprise_client =
            arguments.take("enterprise-client").unwrap_or_else(|| "/usr/bin/juicefs".to_owned());
        Ok(Self { scratch: arguments.require_directory("scratch")?, client, enterprise_client })
    }

    /// Where the process that works on a request has its files.
    fn place(&self, pid: Pid) -> PathBuf {
        self.scratch.join(pid.as_raw_nonzero().to_string())
    }
}

/// The worker.
struct Worker {
    options: Options,
    controller_uid: u32,
    connections: Connections,
    running: Vec<Pid>,
}

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let socket = arguments.require_directory("socket")?;
    let controller_uid = arguments.take_number("controller-uid")?.unwrap_or(DEFAULT_CONTROLLER_UID);
    let options = Options::read(&mut arguments)?;
    arguments.finish()?;
    let signals = Signals::install()?;
    // As process 1 this happens anyway; as any other it makes the orphans of requests ours to bury.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .during(|| "become the keeper of orphans")?;
    clear(&options.scratch)?;
    let listener = packet::listen(&socket, SOCKET_MODE, SocketType::STREAM)?;
    let connections = Connections::new(listener, SILENCE_LIMIT, WhenFull::DropOldest);
    log::info(None, &format!("listening on {}", socket.display()));
    let mut worker = Worker { options, controller_uid, connections, running: Vec::new() };
    while !Signals::stop_requested() {
        worker.wait(&signals, None);
        worker.bury();
        worker.serve();
    }
    _ = fs::remove_file(&socket);
    worker.stop(&signals);
    Ok(ExitCode::SUCCESS)
}

/// Removes what requests of an earlier worker left.
fn clear(scratch: &Path) -> Result<()> {
    fs::create_dir_all(scratch).during(|| format!("make {}", scratch.display()))?;
    let entries = fs::read_dir(scratch).during(|| format!("read {}", scratch.display()))?;
    let is_ours = |name: &str| name.bytes().all(|letter| letter.is_ascii_digit());
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_ours) {
            fs::remove_dir_all(entry.path()).during(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

impl Worker {
    fn free(&self) -> usize {
        MOST_RUNNING.saturating_sub(self.running.len())
    }

    /// Waits for something to happen; who asks is not listened to while there is no place.
    fn wait(&self, signals: &Signals, limit: Option<Duration>) {
        let mut descriptors = vec![PollFd::new(signals, PollFlags::IN)];
        let mut limit = limit;
        if self.free() > 0 && limit.is_none() {
            descriptors.extend(self.connections.descriptors());
            limit = self.connections.due().map(|due| due.saturating_duration_since(Instant::now()));
        }
        wait(&mut descriptors, limit);
        signals.clear();
    }

    /// Takes in who may ask, and starts with who has.
    fn serve(&mut self) {
        if self.free() == 0 {
            return;
        }
        for socket in self.connections.readable(self.free()) {
            if let Err(failure) = self.start(socket) {
                log::error(None, &failure.to_string());
            }
        }
        if self.free() == 0 {
            return;
        }
        let users = [rustix::process::geteuid().as_raw(), self.controller_uid];
        self.connections.accept(|socket| {
            let admitted = foreign::peer_uid(socket).is_some_and(|uid| users.contains(&uid));
            if !admitted {
                log::warn(None, "refused a peer that runs as another user");
            }
            admitted
        });
    }

    /// Starts the process that works on a request, which it reads from its standard input.
    fn start(&mut self, socket: OwnedFd) -> Result<()> {
        let Options { scratch, client, enterprise_client } = &self.options;
        let mut command = Command::new("/proc/self/exe");
        command.arg("work-request").arg("--scratch").arg(scratch);
        command.args(["--client", client, "--enterprise-client", enterprise_client]);
        command.stdin(Stdio::from(socket)).stdout(Stdio::null()).process_group(0);
        let child = command.spawn().during(|| "start work on a request")?;
        self.running.extend(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
        Ok(())
    }

    /// Clears up after requests that have ended: their files, and what has become ours because its parent died.
    fn bury(&mut self) {
        let ended = processes::reap();
        if ended.is_empty() {
            return;
        }
        for one in ended {
            if let Some(place) = self.running.iter().position(|pid| *pid == one.pid) {
                self.running.swap_remove(place);
                _ = fs::remove_dir_all(self.options.place(one.pid));
            }
        }
        for orphan in processes::children().into_iter().filter(|pid| !self.running.contains(pid)) {
            log::warn(None, &format!("killing process {orphan}, which a request left behind"));
            _ = kill_process(orphan, Signal::KILL);
        }
    }

    /// Calls off what is under way.
    fn stop(mut self, signals: &Signals) {
        let end = Instant::now() + STOP_LIMIT;
        for pid in &self.running {
            _ = kill_process(*pid, Signal::TERM);
        }
        while !self.running.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                for pid in &self.running {
                    _ = kill_process_group(*pid, Signal::KILL);
                }
            }
            self.wait(signals, Some(left.max(Duration::from_millis(10))));
            self.bury();
        }
    }
}
