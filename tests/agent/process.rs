//! Processes that end with their test, and waiting for what they do.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Long enough for anything on a busy machine; nothing that works takes it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a condition.
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "waited {PATIENCE:?} in vain: {what}");
}

/// Whether a condition comes to hold within a time.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that ends with the test.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command; it is killed when the test's thread ends, however that happens.
    pub(crate) fn start(words: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let copy = log.try_clone().unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(words);
        Self { child: command.stdin(Stdio::null()).stdout(log).stderr(copy).spawn().unwrap() }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_until("a process to end", || self.ended().is_some());
        self.ended().unwrap()
    }

    /// Waits for its end, for whoever is dropped: a panic in there would hide the first one.
    pub(crate) fn wait_quietly(&mut self) {
        holds_within(PATIENCE, || !matches!(self.child.try_wait(), Ok(None)));
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&mut self) {
        _ = self.child.kill();
        self.end();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        self.wait_quietly();
    }
}

/// The living children of a process.
pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let state = fields.next().unwrap();
        let its_parent: i32 = fields.next().unwrap().parse().unwrap();
        if its_parent == parent.as_raw_nonzero().get() && !matches!(state, "Z" | "X") {
            children.extend(Pid::from_raw(pid));
        }
    }
    children
}

/// The exit code, or 128 and the signal as shells have it.
pub(crate) fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}
