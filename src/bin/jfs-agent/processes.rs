//! Processes: finding them and burying them.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use std::{fs, path::Path};

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

/// The living child of a process that has the same arguments as it has. The program may have another name there: a client
/// that was started as `mount.juicefs` starts the file that this is a link to.
pub(crate) fn twin_of(parent: Pid) -> Option<Pid> {
    let command = arguments(format!("/proc/{}/cmdline", parent.as_raw_nonzero()).as_ref())?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (state, its_parent) = state_and_parent(&stat)?;
        let lives = its_parent == parent.as_raw_nonzero().get() && !matches!(state, 'Z' | 'X');
        let is_twin = lives && arguments(&entry.path().join("cmdline")).is_some_and(|its| its == command);
        is_twin.then(|| Pid::from_raw(pid))?
    })
}

/// What a process was given beside its name; none if it has no command line.
fn arguments(command_line: &Path) -> Option<Vec<u8>> {
    let mut words = fs::read(command_line).ok()?;
    let name = words.iter().position(|byte| *byte == 0)?;
    words.drain(..=name);
    Some(words)
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

    #[test]
    fn a_child_may_have_another_name_than_its_twin() {
        let script = "(exec -a juicefs sleep 60) & exec -a mount.juicefs sleep 60";
        let mut parent = std::process::Command::new("bash").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(parent.id().cast_signed()).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Both are shells at first, which are twins too.
        let named = |pid: Pid, name: &str| {
            let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            words.starts_with(name.as_bytes())
        };
        let twin = loop {
            match twin_of(pid) {
                Some(twin) if named(pid, "mount.juicefs") && named(twin, "juicefs") => break Some(twin),
                _ if std::time::Instant::now() > end => break None,
                _ => {}
            }
        };
        if let Some(twin) = twin {
            rustix::process::kill_process(twin, rustix::process::Signal::KILL).unwrap();
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(twin.is_some());
    }
}
