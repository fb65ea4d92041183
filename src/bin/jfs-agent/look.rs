//! Every access to a JuiceFS mount, in a child process with a time limit.
//!
//! A process that waits for a dead FUSE server may not even be killable. So whoever holds descriptors or has to
//! answer never touches a mount itself: it starts `jfs-agent look`, which inherits nothing but what it looks at.

use crate::{
    arguments::Arguments,
    failure::{During, Failure, Result},
    packet::wait,
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, StatxFlags},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// The inode of a JuiceFS root; the directory beneath a mount has another.
const ROOT_INODE: u64 = 1;

/// Longest special file worth reading.
const LONGEST_FILE: u64 = 1 << 20;

/// What to look at besides the root itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// How many times to call statfs, once at least.
    pub(crate) statfs: u32,
    /// How long to wait between two calls.
    pub(crate) pause: Duration,
    /// Whether to read `.config`.
    pub(crate) config: bool,
    /// Whether to read `.stats`.
    pub(crate) stats: bool,
}

impl Wish {
    /// Only whether the mount answers.
    pub(crate) const ALIVE: Self = Self { statfs: 1, pause: Duration::ZERO, config: false, stats: false };
    /// Whether it answers, and `.stats`.
    pub(crate) const STATS: Self = Self { stats: true, ..Self::ALIVE };
}

/// What was seen.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(crate) struct Seen {
    /// From `.config`: the process that serves.
    pub(crate) pid: Option<i32>,
    /// From `.config`: its session in the metadata engine.
    pub(crate) session: Option<u64>,
    /// From `.config`: its version.
    pub(crate) version: Option<String>,
    /// From `.config`: where it would save its open handles.
    pub(crate) state_path: Option<String>,
    /// From `.stats`: open handles, ours not counted.
    pub(crate) open_handles: Option<u64>,
    /// From `.stats`: blocks written back but not yet uploaded.
    pub(crate) staging_blocks: Option<u64>,
}

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// An open root.
    Root(BorrowedFd<'a>),
    /// A path.
    Path(&'a Path),
}

/// A child that is looking.
#[derive(Debug)]
pub(crate) struct Look {
    child: Child,
    output: OwnedFd,
    text: Vec<u8>,
    /// When it is given up.
    pub(crate) end: Instant,
}

impl Look {
    /// Starts looking. `held` stays open as long as the child lives, however long that takes.
    pub(crate) fn start(
        target: Target<'_>,
        wish: Wish,
        limit: Duration,
        held: Option<BorrowedFd<'_>>,
    ) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("look").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Copies made by dup are inherited; they are closed here as soon as the child has them.
        let _held = held.map(rustix::io::dup).transpose().during(|| "copy a descriptor")?;
        let root = match target {
            Target::Root(root) => Some(rustix::io::dup(root).during(|| "copy a descriptor")?),
            Target::Path(path) => {
                command.arg("--path").arg(path);
                None
            }
        };
        if let Some(root) = &root {
            command.arg(format!("--root={}", root.as_raw_fd()));
        }
        command.arg(format!("--statfs={}", wish.statfs));
        command.arg(format!("--pause={}", wish.pause.as_secs_f64()));
        command.arg(format!("--config={}", wish.config)).arg(format!("--stats={}", wish.stats));
        let mut child = command.spawn().during(|| "start a look at the mount")?;
        let output = child.stdout.take().ok_or_else(|| Failure::new("no pipe from the look at the mount"))?;
        let output = OwnedFd::from(output);
        rustix::io::ioctl_fionbio(&output, true).during(|| "prepare a pipe")?;
        Ok(Self { child, output, text: Vec::new(), end: Instant::now() + limit })
    }

    /// What to poll for.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Takes what has come; the outcome, once there is one.
    pub(crate) fn proceed(&mut self) -> Option<Result<Seen>> {
        let mut buffer = [0; 1024];
        loop {
            match rustix::io::read(&self.output, &mut buffer) {
                Ok(0) => return Some(self.conclude()),
                Ok(count) => self.text.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Some(Err(Failure::new(format!("look at the mount: {error}")))),
            }
        }
        if Instant::now() < self.end {
            return None;
        }
        // It may be beyond killing until the mount is served or gone; nobody waits for it.
        _ = self.child.kill();
        Some(Err(Failure::new("the mount did not answer in time")))
    }

    fn conclude(&self) -> Result<Seen> {
        let outcome: std::result::Result<Seen, String> =
            serde_json::from_slice(&self.text).during(|| "the look at the mount ended without a word")?;
        outcome.map_err(Failure::new)
    }
}

/// Looks and waits for the outcome.
pub(crate) fn look(target: Target<'_>, wish: Wish, limit: Duration, held: Option<BorrowedFd<'_>>) -> Result<Seen> {
    let mut look = Look::start(target, wish, limit, held)?;
    loop {
        if let Some(outcome) = look.proceed() {
            return outcome;
        }
        let left = look.end.saturating_duration_since(Instant::now());
        wait(&mut [PollFd::new(&look.output, PollFlags::IN)], Some(left));
    }
}

/// Whether a mount answers within a time.
pub(crate) fn is_alive(path: &Path, limit: Duration) -> bool {
    look(Target::Path(path), Wish::ALIVE, limit, None).is_ok()
}

/// `jfs-agent look`, the child: prints what it sees, or why it cannot.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let root = arguments.take_number("root")?;
    let path = arguments.take("path");
    let wish = Wish {
        statfs: arguments.take_number("statfs")?.unwrap_or(1),
        pause: arguments.take_seconds("pause")?.unwrap_or_default(),
        config: arguments.take_number("config")?.unwrap_or(false),
        stats: arguments.take_number("stats")?.unwrap_or(false),
    };
    arguments.finish()?;
    let root = match (root, path) {
        (Some(number), None) => inherited(number)?,
        (None, Some(path)) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, Mode::empty()).during(|| format!("open {path}"))?
        }
        _ => return Err(Failure::usage("one of --root and --path is needed")),
    };
    let outcome = see(&root, wish).map_err(|failure| failure.to_string());
    let text = serde_json::to_string(&outcome).during(|| "print what was seen")?;
    crate::log::print(&text)
}

/// Opens anew what a descriptor that was inherited stands for.
fn inherited(number: i32) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{number}"), flags, Mode::empty())
        .during(|| format!("open descriptor {number}"))
}

fn see(root: &OwnedFd, wish: Wish) -> Result<Seen> {
    // The attribute cache would show the root for a second after its server has died.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let found = rustix::fs::statx(root, c"", flags, StatxFlags::INO).during(|| "stat")?;
    if found.stx_ino != ROOT_INODE {
        return Err(Failure::new("not mounted"));
    }
    for call in 0..wish.statfs.max(1) {
        if call > 0 && !wish.pause.is_zero() {
            std::thread::sleep(wish.pause);
        }
        rustix::fs::fstatfs(root).during(|| "statfs")?;
    }
    let mut seen = Seen::default();
    if wish.config {
        read_config(&mut seen, &read_special(root, "config")?)?;
    }
    if wish.stats {
        read_stats(&mut seen, &read_special(root, "stats")?);
    }
    Ok(seen)
}

/// Reads a special file, under either of the names it may have.
fn read_special(root: &OwnedFd, name: &str) -> Result<String> {
    let open = |name: String| {
        rustix::fs::openat(root, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    };
    let file = open(format!(".{name}")).or_else(|_| open(format!(".jfs.{name}"))).during(|| format!("open .{name}"))?;
    let mut text = String::new();
    File::from(file).take(LONGEST_FILE).read_to_string(&mut text).during(|| format!("read .{name}"))?;
    Ok(text)
}

fn read_config(seen: &mut Seen, text: &str) -> Result<()> {
    let config: serde_json::Value = serde_json::from_str(text).during(|| "read .config")?;
    seen.pid = config["Pid"].as_i64().and_then(|pid| pid.try_into().ok());
    seen.session = config["Meta"]["Sid"].as_u64();
    seen.version = config["Version"].as_str().map(str::to_owned);
    seen.state_path = config["StatePath"].as_str().map(str::to_owned);
    Ok(())
}

/// Reads lines of `name value`.
fn read_stats(seen: &mut Seen, text: &str) {
    let value = |name: &str| {
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        // Counts are printed as floats once they are large.
        let number: f64 = number.trim().parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; `as` saturates")]
        Some(number as u64)
    };
    // The client counts the handle on which this was read.
    seen.open_handles = value("juicefs_fuse_open_handlers").map(|count| count.saturating_sub(1));
    let staging = [value("juicefs_staging_blocks"), value("juicefs_staging_writing_blocks")];
    seen.staging_blocks = staging.into_iter().flatten().reduce(u64::saturating_add);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_whole_name() {
        let mut seen = Seen::default();
        let text = "juicefs_fuse_open_handlers_x 9\njuicefs_fuse_open_handlers 3\njuicefs_staging_blocks 1.5e+01\n";
        read_stats(&mut seen, text);
        assert_eq!((seen.open_handles, seen.staging_blocks), (Some(2), Some(15)));
        read_stats(&mut seen, "");
        assert_eq!((seen.open_handles, seen.staging_blocks), (None, None));
    }
}
