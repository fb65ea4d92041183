//! The JuiceFS client: two processes, a supervisor of its own and the one that serves, always ended together.
//!
//! A supervisor whose child has died waits a second before it starts another, and a child whose supervisor has died
//! cannot be taken over from. So when either ends the other is killed, and both are started again from here.

use super::words;
use crate::{
    failure::{During, Failure, Result},
    handover::{self, Inheritance},
    layout::Place,
    mask::Mask,
    message::Kept,
    output::Output,
    processes,
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{AsRawFd, OwnedFd},
    process::{
        Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, test_kill_process_group,
    },
};
use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// How often to look for the serving process while the client starts, and later.
const SEARCH: Duration = Duration::from_millis(20);
const SEARCH_LATER: Duration = Duration::from_secs(1);

/// How long a client is expected to take for its start.
const START: Duration = Duration::from_secs(5);

/// A started client.
pub(super) struct Client {
    supervisor: Pid,
    /// How the supervisor ended, once it has.
    pub(super) ended: Option<processes::Ended>,
    server: Option<(Pid, OwnedFd)>,
    started: Instant,
    next_search: Instant,
    /// What it prints.
    pub(super) output: Output,
    printing: bool,
}

impl Client {
    /// Starts a client on a mount, with what its predecessor left.
    pub(super) fn start(
        words: &[String],
        kept: &Kept,
        place: &Place,
        inheritance: &Inheritance,
    ) -> Result<Self> {
        // A copy made by dup is inherited, which the original is not; it is closed here once the client has it.
        let device = rustix::io::dup(&kept.device).during(|| "copy the FUSE descriptor")?;
        let mountpoint = format!("/dev/fd/{}", device.as_raw_fd());
        let mut words = words::fill(words, Some(&mountpoint))?.into_iter();
        let program =
            words.next().ok_or_else(|| Failure::usage("the client's command is missing after --"))?;
        let mut command = Command::new(&program);
        command.args(words).process_group(0).env("JFS_SUPER_COMM", place.client_socket());
        for inherited in ["JFS_SUPERVISOR", "_FUSE_FD_COMM", "_FUSE_STATE_PATH", "_JFS_META_SID"] {
            command.env_remove(inherited);
        }
        match inheritance {
            Inheritance::Nothing => {}
            Inheritance::Handles { session } => {
                command.env("_FUSE_STATE_PATH", place.state_file());
                if let Some(session) = session {
                    command.env("_JFS_META_SID", session.to_string());
                }
            }
            // Not in its predecessor's session, which ends by itself and gives locks back whose owners are gone.
            Inheritance::Wreck => {
                handover::begin_new_handles(place)?;
                command.env("_FUSE_STATE_PATH", place.state_file());
            }
        }
        let output = Output::of(&mut command)?;
        let child = command.spawn().during(|| format!("start {program}"))?;
        let supervisor = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let supervisor = supervisor.ok_or_else(|| Failure::new("the client has no process id"))?;
        Ok(Self {
            supervisor,
            ended: None,
            server: None,
            started: Instant::now(),
            next_search: Instant::now(),
            output,
            printing: true,
        })
    }

    /// What to poll for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let output = self.printing.then(|| PollFd::new(&self.output, PollFlags::IN));
        let server = self.server.as_ref().map(|(_, handle)| PollFd::new(handle, PollFlags::IN));
        output.into_iter().chain(server)
    }

    /// When to look for the serving process again.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.server.is_none() && self.ended.is_none()).then_some(self.next_search)
    }

    /// Takes notice of children that have ended and of what was printed.
    pub(super) fn proceed(&mut self, ended: &[processes::Ended], volume: &str, mask: &Mask) {
        self.printing = self.printing && self.output.forward(volume, "client", mask);
        self.ended = self.ended.or(ended.iter().copied().find(|ended| ended.pid == self.supervisor));
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.find_server();
        }
    }

    /// Looks for the serving process.
    fn find_server(&mut self) {
        self.server = processes::twin_of(self.supervisor)
            .and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)));
        let pause = if self.started.elapsed() < START { SEARCH } else { SEARCH_LATER };
        self.next_search = Instant::now() + pause;
    }

    /// Whether one of the two has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some() || self.server_has_ended()
    }

    /// Whether the serving process has ended; all its descriptors are closed then.
    pub(super) fn server_has_ended(&self) -> bool {
        self.server.as_ref().is_some_and(|(_, handle)| {
            let mut descriptors = [PollFd::new(handle, PollFlags::IN)];
            crate::packet::wait(&mut descriptors, Some(Duration::ZERO));
            !descriptors[0].revents().is_empty()
        })
    }

    /// The process that serves, once it is known.
    pub(super) fn server(&self) -> Option<Pid> {
        self.server.as_ref().map(|(pid, _)| *pid)
    }

    /// Kills both; true once nothing of them is left.
    pub(super) fn kill(&self) -> bool {
        _ = kill_process_group(self.supervisor, Signal::KILL);
        test_kill_process_group(self.supervisor).is_err()
    }

    /// Asks the serving process to save its open handles, flush and end; where the handles will be.
    ///
    /// The supervisor is stopped first: it would start another child, and its process id names the file.
    pub(super) fn ask_to_hand_over(&mut self) -> Result<PathBuf> {
        if self.server.is_none() {
            self.find_server();
        }
        let server =
            self.server().ok_or_else(|| Failure::new("the client's serving process was not found"))?;
        kill_process(self.supervisor, Signal::STOP).during(|| "stop the client's supervisor")?;
        let state = PathBuf::from(format!("/tmp/state{}.json", self.supervisor.as_raw_nonzero()));
        // One of an earlier process with the same number must not be taken for this one's.
        _ = std::fs::remove_file(&state);
        kill_process(server, Signal::HUP).during(|| "signal the client")?;
        Ok(state)
    }

    /// What the client said last before it ended.
    pub(super) fn reason(&self) -> String {
        let end =
            self.ended.map_or_else(|| "its serving process ended".to_owned(), processes::Ended::describe);
        match self.output.reason() {
            Some(line) => format!("{end}: {line}"),
            None => end,
        }
    }
}
