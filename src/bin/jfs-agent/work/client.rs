//! The client's commands, one at a time: with an end, and with an ear for whoever asked.

use super::request::Outcome;
use crate::{command::Running, mask::Mask, packet::wait, signals::Signals};
use juicefs_sidecar::worker::{Failed, Kind, SubPath, symptom, words};
use rustix::{
    event::{PollFd, PollFlags},
    fd::BorrowedFd,
    fs::Mode,
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// All that the commands of one request have in common.
pub(super) struct Job<'a> {
    /// The program.
    pub(super) client: &'a str,
    /// The file system's address, without a password.
    pub(super) address: &'a str,
    /// The only directory that a client may write to.
    pub(super) home: &'a Path,
    pub(super) environment: Vec<(String, String)>,
    pub(super) mask: Mask,
    /// What the log calls it.
    pub(super) label: &'a str,
    pub(super) signals: &'a Signals,
    /// Who asked.
    pub(super) socket: BorrowedFd<'a>,
    pub(super) end: Instant,
    /// Seconds that it may take, for messages.
    pub(super) limit: u64,
}

impl Job<'_> {
    /// `quota SUBCOMMAND ADDRESS --path=/PATH MORE…`.
    pub(super) fn quota(
        &self,
        subcommand: &str,
        path: &SubPath,
        more: impl IntoIterator<Item = String>,
    ) -> words::Command {
        let mut words: Vec<String> = ["quota", subcommand, self.address].map(str::to_owned).into();
        words.push(format!("--path={}", path.from_root()));
        words.extend(more);
        words::Command { words, environment: Vec::new() }
    }

    /// Takes the quota from a directory; whether the directory is there.
    pub(super) fn delete_quota(&self, path: &SubPath) -> Outcome<bool> {
        match self.run(&self.quota("delete", path, []), None) {
            Ok(_) => Ok(true),
            Err(Failed { kind: Kind::Missing, .. }) => Ok(false),
            Err(failed) => Err(failed),
        }
    }

    /// Runs a command to its end; the beginning of what it printed. Directories that it makes get this mode.
    pub(super) fn run(&self, command: &words::Command, mode: Option<Mode>) -> Outcome<String> {
        let usual = mode.map(|mode| rustix::process::umask(Mode::from_raw_mode(0o777) - mode));
        let started = self.start(command, &[]);
        if let Some(usual) = usual {
            rustix::process::umask(usual);
        }
        self.finish(started?, &command.words[0], true)
    }

    /// Waits for a command's end; the beginning of what it printed, which may be kept from the log.
    pub(super) fn finish(&self, mut running: Running, source: &str, logged: bool) -> Outcome<String> {
        running.output.logged = logged;
        loop {
            self.wait(&running, None, None)?;
            if let Some(ended) = running.proceed(self.label, source, &self.mask) {
                return match ended.status.exit_status() {
                    Some(0) => Ok(running.output.beginning().to_owned()),
                    _ => Err(failure(&running, &ended.describe())),
                };
            }
        }
    }

    /// Starts a command.
    pub(super) fn start(&self, command: &words::Command, more: &[(&str, &str)]) -> Outcome<Running> {
        let mut program = Command::new(self.client);
        program.args(&command.words).current_dir(self.home);
        program.envs(self.environment.iter().map(|(name, value)| (name, value)));
        program.envs(command.environment.iter().map(|(name, value)| (name, value)));
        program.envs(more.iter().copied()).env("HOME", self.home).env("TMPDIR", self.home);
        if let Some(path) = std::env::var_os("PATH") {
            program.env("PATH", path);
        }
        Running::start(program).map_err(|failure| Failed::new(Kind::Other, failure.to_string()))
    }

    /// Waits until something happens; fails when it is to end without being done.
    pub(super) fn wait(
        &self,
        running: &Running,
        more: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> Outcome<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        // Of who asked nothing is expected any more; that the connection has ended is always reported.
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.socket, PollFlags::empty())];
        descriptors.push(PollFd::new(self.signals, PollFlags::IN));
        descriptors.extend(running.descriptor());
        descriptors.extend(more.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)));
        wait(&mut descriptors, Some(limit.map_or(left, |limit| limit.min(left))));
        let has_left = descriptors[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        self.signals.clear();
        if Signals::stop_requested() {
            return Err(Failed::new(Kind::CalledOff, "the worker is ending"));
        }
        if has_left {
            return Err(Failed::new(Kind::CalledOff, "who asked has left"));
        }
        if Instant::now() >= self.end {
            let mut late = failure(running, &format!("not done within {} s", self.limit));
            if late.kind == Kind::Other {
                late.kind = Kind::Late;
            }
            return Err(late);
        }
        Ok(())
    }
}

/// What a client that failed has to say.
pub(super) fn failure(running: &Running, end: &str) -> Failed {
    let reason = running.output.reason().unwrap_or_default();
    let kind = symptom::kind(reason, running.output.beginning());
    match symptom::message(reason) {
        "" => Failed::new(kind, end),
        said => Failed::new(kind, format!("{end}: {said}")),
    }
}
