//! Processes: finding them and burying them.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use std::fs;

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Which.
    pub(crate) pid: Pid,
    /// How.
    pub(crate) status: WaitStatus,
}

impl Ended {
    /// In words.
    pub(crate) fn describe(self) -> String {
        match (self.status.exit_status(), self.status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "unknown end".to_owned(),
        }
    }
}

/// Buries every child that has ended, including those inherited from processes that ended before them.
pub(crate) fn reap() -> Vec<Ended> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        ended.push(Ended { pid, status });
    }
    ended
}

/// The living child of a process that runs the same command as it does.
pub(crate) fn twin_of(parent: Pid) -> Option<Pid> {
    let command = fs::read(format!("/proc/{}/cmdline", parent.as_raw_nonzero())).ok()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (state, its_parent) = state_and_parent(&stat)?;
        let lives = its_parent == parent.as_raw_nonzero().get() && !matches!(state, 'Z' | 'X');
        let is_twin = lives && fs::read(entry.path().join("cmdline")).is_ok_and(|its| its == command);
        is_twin.then(|| Pid::from_raw(pid))?
    })
}

/// The living children of this process.
pub(crate) fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let children = entries.flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (state, parent) = state_and_parent(&stat)?;
        (parent == own && !matches!(state, 'Z' | 'X')).then(|| Pid::from_raw(pid))?
    });
    children.collect()
}

/// Reads `pid (name) state parent …`; the name may contain anything, parentheses too.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        assert_eq!(state_and_parent("7 (a) b) S 5 7"), Some(('S', 5)));
        assert_eq!(state_and_parent("7 (a"), None);
    }

    #[test]
    fn a_child_that_runs_something_else_is_no_twin() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = twin_of(rustix::process::getpid());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, None);
    }
}
