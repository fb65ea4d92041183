//! Every access to a JuiceFS mount, in a child process with a time limit.
//!
//! A process that waits for a dead FUSE server may not even be killable. So whoever holds descriptors or has to
//! answer never touches a mount itself: it starts `jfs-agent look`, which inherits nothing but what it looks at.
//!
//! The holder starts that child, on behalf of runner and probe too, as long as there is a holder: a child that hangs
//! in the client's container would keep that container from ending, and so the next client from starting, while the
//! holder keeps the mount alive. Without a holder nothing keeps it alive, and they look for themselves; a holder that comes
//! back is left the look, before a child that hangs could matter.

mod special;

use crate::{
    arguments::Arguments,
    failure::{During, Failure, Result},
    message::{Answer, Question},
    packet::{self, Nothing, wait},
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, StatxFlags},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// The inode of a JuiceFS root; the directory beneath a mount has another.
const ROOT_INODE: u64 = 1;

/// How long an answer of the holder may be under way.
const ANSWER_TIME: Duration = Duration::from_millis(200);

/// No look takes longer.
const LONGEST_LIMIT: Duration = Duration::from_mins(1);

/// What to look at besides the root itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(crate) struct Wish {
    /// How many times to call statfs, once at least.
    pub(crate) statfs: u32,
    /// How long to wait between two calls, in milliseconds.
    pub(crate) pause: u32,
    /// Whether to read `.config`.
    pub(crate) config: bool,
    /// Whether to read `.stats`.
    pub(crate) stats: bool,
    /// How long it may take, in milliseconds.
    pub(crate) limit: u32,
}

impl Wish {
    /// Only whether the mount answers.
    pub(crate) const ALIVE: Self = Self { statfs: 1, pause: 0, config: false, stats: false, limit: 1000 };
    /// Whether it answers, and `.stats`.
    pub(crate) const STATS: Self = Self { stats: true, ..Self::ALIVE };

    /// The same with another limit.
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX), ..self }
    }

    /// How long it may take; nobody's wish keeps a child longer than a minute.
    pub(crate) fn limit(self) -> Duration {
        Duration::from_millis(self.limit.into()).min(LONGEST_LIMIT)
    }
}

/// What was seen.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(crate) struct Seen {
    /// From `.config`: the client's session in the metadata engine.
    pub(crate) session: Option<u64>,
    /// From `.config`: its version.
    pub(crate) version: Option<String>,
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

/// A child that is looking; killed when nobody wants to know any more, so that it does not keep its container.
#[derive(Debug)]
pub(crate) struct Look {
    child: Child,
    /// The child, whoever buries it and whoever has its number then.
    handle: OwnedFd,
    output: OwnedFd,
    text: Vec<u8>,
    /// What it looks at.
    pub(crate) wish: Wish,
    /// When it is given up.
    pub(crate) end: Instant,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Look {
    /// Starts looking.
    pub(crate) fn start(target: Target<'_>, wish: Wish) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("look").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A copy made by dup is inherited; it is closed here as soon as the child has it.
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
        command.arg(format!("--pause={}", wish.pause));
        command.arg(format!("--config={}", wish.config)).arg(format!("--stats={}", wish.stats));
        let mut child = command.spawn().during(|| "start a look at the mount")?;
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .during(|| "watch a look at the mount")?;
        let output = child.stdout.take().ok_or_else(|| Failure::new("no pipe from the look at the mount"))?;
        let output = OwnedFd::from(output);
        rustix::io::ioctl_fionbio(&output, true).during(|| "prepare a pipe")?;
        Ok(Self { child, handle, output, text: Vec::new(), wish, end: Instant::now() + wish.limit() })
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
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Some(Err(Failure::new(format!("look at the mount: {error}")))),
            }
        }
        if Instant::now() < self.end {
            return None;
        }
        self.cancel();
        Some(Err(Failure::new("the mount did not answer in time")))
    }

    /// Kills the child, which may be beyond killing until the mount is served or gone: nobody waits for it.
    pub(crate) fn cancel(&self) {
        // One that has ended cannot be killed, and need not be.
        _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }

    /// Whether the child is gone and buried.
    pub(crate) fn is_over(&mut self) -> bool {
        // An error means that somebody else has buried it.
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn conclude(&self) -> Result<Seen> {
        let outcome: std::result::Result<Seen, String> =
            serde_json::from_slice(&self.text).during(|| "the look at the mount ended without a word")?;
        outcome.map_err(Failure::new)
    }
}

/// Looks and waits for the outcome.
pub(crate) fn look(target: Target<'_>, wish: Wish) -> Result<Seen> {
    let mut look = Look::start(target, wish)?;
    loop {
        if let Some(outcome) = look.proceed() {
            return outcome;
        }
        let left = look.end.saturating_duration_since(Instant::now());
        wait(&mut [PollFd::new(&look.output, PollFlags::IN)], Some(left));
    }
}

/// A look that goes through the holder, or without one through a child of ours.
#[derive(Debug)]
pub(crate) enum Looking {
    /// The holder was asked, and has until then to answer.
    Asked(OwnedFd, Instant),
    /// There is no holder.
    Own(Look),
}

impl Looking {
    /// Starts looking at the mount with this root.
    pub(crate) fn start(holder: &Path, root: BorrowedFd<'_>, wish: Wish) -> Result<Self> {
        let Ok(socket) = packet::connect(holder) else {
            return Look::start(Target::Root(root), wish).map(Self::Own);
        };
        let question = Question::Look(wish).to_bytes();
        packet::send(&socket, &question, &[]).during(|| "ask the holder to look at the mount")?;
        // A little longer than the holder gives its child: the answer has to come back.
        Ok(Self::Asked(socket, Instant::now() + wish.limit() + ANSWER_TIME))
    }

    /// What to poll for.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Asked(socket, _) => socket.as_fd(),
            Self::Own(look) => look.output(),
        }
    }

    /// When it is given up.
    pub(crate) fn end(&self) -> Instant {
        match self {
            Self::Asked(_, end) => *end,
            Self::Own(look) => look.end,
        }
    }

    /// The outcome, once there is one.
    pub(crate) fn proceed(&mut self) -> Option<Result<Seen>> {
        let (socket, end) = match self {
            Self::Own(look) => return look.proceed(),
            Self::Asked(socket, end) => (socket, *end),
        };
        match packet::receive(socket) {
            Ok(packet) => Some(Answer::parse(&packet).map(|answer| answer.seen.unwrap_or_default())),
            Err(Nothing::Later) if Instant::now() < end => None,
            Err(Nothing::Later) => Some(Err(Failure::new("the holder did not answer in time"))),
            Err(_) => Some(Err(Failure::new("the holder ended before it answered"))),
        }
    }

    /// Waits for the outcome.
    pub(crate) fn finish(mut self) -> Result<Seen> {
        loop {
            if let Some(outcome) = self.proceed() {
                return outcome;
            }
            let left = self.end().saturating_duration_since(Instant::now());
            wait(&mut [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN)], Some(left));
        }
    }
}

/// Whether a mount answers within a time.
pub(crate) fn is_alive(path: &Path, limit: Duration) -> bool {
    look(Target::Path(path), Wish::ALIVE.within(limit)).is_ok()
}

/// `jfs-agent look`, the child: prints what it sees, or why it cannot.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let root = arguments.take_number("root")?;
    let path = arguments.take("path");
    let wish = Wish {
        statfs: arguments.take_number("statfs")?.unwrap_or(1),
        pause: arguments.take_number("pause")?.unwrap_or_default(),
        config: arguments.take_number("config")?.unwrap_or(false),
        stats: arguments.take_number("stats")?.unwrap_or(false),
        ..Wish::ALIVE
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
    Ok(crate::log::print(&text))
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
        if call > 0 && wish.pause > 0 {
            std::thread::sleep(Duration::from_millis(wish.pause.into()));
        }
        rustix::fs::fstatfs(root).during(|| "statfs")?;
    }
    let mut seen = Seen::default();
    if wish.config
        && let Some(text) = special::read(root, "config")?
    {
        special::read_config(&mut seen, &text)?;
    }
    if wish.stats
        && let Some(text) = special::read(root, "stats")?
    {
        special::read_stats(&mut seen, &text);
    }
    Ok(seen)
}
