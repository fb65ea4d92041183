//! Somebody else's command that runs to its end: in exec form, in a process group of its own, its output without secrets.

use crate::{
    failure::{During, Failure, Result},
    mask::Mask,
    output::Output,
    processes::{self, Ended},
};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, Signal, WaitOptions, kill_process_group, waitpid},
};
use std::{os::unix::process::CommandExt, process::Command};

/// A command that was started. What is left of it goes with this value.
pub(crate) struct Running {
    child: Pid,
    ended: Option<Ended>,
    /// What it printed.
    pub(crate) output: Output,
    printing: bool,
}

impl Running {
    /// Starts a command.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let output = Output::of(&mut command)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().during(|| format!("start {program}"))?;
        let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let child = child.ok_or_else(|| Failure::new("no process id"))?;
        Ok(Self { child, ended: None, output, printing: true })
    }

    /// What to poll for.
    pub(crate) fn descriptor(&self) -> Option<PollFd<'_>> {
        self.printing.then(|| PollFd::new(&self.output, PollFlags::IN))
    }

    /// Takes notice of what it printed and of children that have ended; how it ended, once it has.
    pub(crate) fn proceed(&mut self, label: &str, source: &str, mask: &Mask) -> Option<Ended> {
        self.printing = self.printing && self.output.forward(label, source, mask);
        if self.ended.is_none() {
            self.ended = processes::reap().into_iter().find(|ended| ended.pid == self.child);
            if self.ended.is_some() {
                // What it started and left behind must not outlive it.
                self.signal(Signal::KILL);
                self.output.forward(label, source, mask);
            }
        }
        self.ended
    }

    /// Signals it and what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        _ = kill_process_group(self.child, signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            _ = waitpid(Some(self.child), WaitOptions::empty());
        }
    }
}
