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

/// The living child of a process that runs the same program with the same arguments. The program may have another name there:
/// a client that was started as `mount.juicefs` starts the file that this is a link to.
///
/// Whatever a process starts looks like itself until it runs that, which on a busy machine is not soon: such a child does not
/// count.
pub(crate) fn twin_of(parent: Pid) -> Option<Pid> {
    let command = arguments(format!("/proc/{}/cmdline", parent.as_raw_nonzero()).as_ref())?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
        // The arguments are read after that, so that they are those of what it runs.
        let is_twin = stat.is_living_child_of(parent)
            && stat.runs_its_own
            && arguments(&entry.path().join("cmdline")).is_some_and(|its| its == command);
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
    let own = rustix::process::getpid();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let children = entries.flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
        stat.is_living_child_of(own).then(|| Pid::from_raw(pid))?
    });
    children.collect()
}

/// What `/proc/PID/stat` has of a process.
#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    parent: i32,
    /// Whether it has executed a program since it was made.
    runs_its_own: bool,
}

impl Stat {
    /// Set from fork to exec (`PF_FORKNOEXEC` of the kernel's `sched.h`).
    const FORKED: u32 = 0x40;

    /// Reads `pid (name) state parent group session terminal foreground flags …`; the name may contain anything,
    /// parentheses too.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let flags: u32 = fields.nth(4)?.parse().ok()?;
        Some(Self { state, parent, runs_its_own: flags & Self::FORKED == 0 })
    }

    fn is_living_child_of(&self, parent: Pid) -> bool {
        self.parent == parent.as_raw_nonzero().get() && !matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };

    #[test]
    fn a_name_may_contain_anything() {
        let runs = |runs_its_own| Some(Stat { state: 'S', parent: 5, runs_its_own });
        assert_eq!(Stat::parse("7 (a) b) S 5 7 7 0 -1 4194304 9"), runs(true));
        assert_eq!(Stat::parse("7 (a) b) S 5 7 7 0 -1 4194368 9"), runs(false));
        assert_eq!(Stat::parse("7 (a) S 5 7"), None);
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[test]
    fn a_child_that_runs_nothing_yet_is_no_twin() {
        let script = "exec 3<&0; (echo up; read -r _ <&3; true) & wait";
        let mut command = std::process::Command::new("bash");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut parent = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let found = twin_of(Pid::from_child(&parent));
        // Both end with what the child reads.
        drop(parent.stdin.take());
        parent.wait().unwrap();
        assert_eq!((line.as_str(), found), ("up\n", None));
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
        let twin = loop {
            match twin_of(pid) {
                Some(twin) => break Some(twin),
                None if std::time::Instant::now() > end => break None,
                None => {}
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
