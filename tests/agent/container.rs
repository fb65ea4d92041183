//! The containers of a pod that tests stop, kill and wait for.

use crate::{
    pod::Pod,
    process::{PATIENCE, Process, children_of, exit_code, holds_within},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    time::{Duration, Instant},
};

/// The client's container.
pub(crate) struct Runner {
    pub(crate) container: Process,
}

impl Drop for Runner {
    fn drop(&mut self) {
        // With its process 1 everything in the container ends, which is what has to be waited for.
        if let Some(pid) = self.pid() {
            _ = kill_process(pid, Signal::KILL);
        }
        self.container.wait_quietly();
    }
}

impl Runner {
    /// The runner itself, seen from outside its process namespace.
    pub(crate) fn pid(&self) -> Option<Pid> {
        children_of(self.container.pid()).first().copied()
    }

    /// The client's supervisor and its serving process, as far as they are there.
    pub(crate) fn client(&self) -> Vec<Pid> {
        let is_juicefs = |pid: &Pid| {
            let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
            name.is_ok_and(|name| name.trim() == "juicefs")
        };
        let supervisors = self.pid().into_iter().flat_map(children_of).filter(is_juicefs);
        supervisors.flat_map(|pid| std::iter::once(pid).chain(children_of(pid))).collect()
    }

    /// The look at the mount that the runner has under way itself.
    pub(crate) fn own_look(&self) -> Option<Pid> {
        self.pid().into_iter().flat_map(children_of).find(|pid| {
            let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"look")
        })
    }

    /// Kills the whole client, not the runner.
    pub(crate) fn kill_client(&self) {
        for pid in self.client() {
            _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Kills the whole container at once.
    pub(crate) fn kill(&mut self) {
        if let Some(pid) = self.pid() {
            _ = kill_process(pid, Signal::KILL);
        }
        self.container.end();
    }

    /// Tells the runner to stop and waits for its end; the exit code and how long it took.
    pub(crate) fn stop(&mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        kill_process(self.pid().expect("the runner is alive"), Signal::TERM).unwrap();
        (exit_code(self.container.end()), begin.elapsed())
    }
}

/// The application's container.
pub(crate) struct Application {
    pub(crate) process: Process,
}

impl Application {
    /// Tells it to finish; what it reports.
    pub(crate) fn finish_with<T: serde::de::DeserializeOwned>(mut self, pod: &Pod) -> T {
        fs::write(pod.directory.join("application-may-finish"), "").unwrap();
        // Some look at all that they have written.
        holds_within(PATIENCE * 5, || self.process.ended().is_some());
        let status = self.process.end();
        let report = fs::read(pod.directory.join("report.json"));
        assert!(status.success() && report.is_ok(), "{status}: {}", pod.log("application"));
        fs::remove_file(pod.directory.join("application-may-finish")).unwrap();
        fs::remove_file(pod.directory.join("application-is-up")).unwrap();
        serde_json::from_slice(&report.unwrap()).unwrap()
    }

    /// Kills it; another may be started.
    pub(crate) fn kill(mut self, pod: &Pod) {
        self.process.kill();
        fs::remove_file(pod.directory.join("application-is-up")).unwrap();
    }
}
