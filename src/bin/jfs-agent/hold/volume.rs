//! One volume in the holder's keeping.

use super::looks::Looks;
use crate::{
    clock,
    connections::{Connections, WhenFull},
    device,
    failure::{During, Failure, Result},
    foreign,
    layout::{self, Place},
    log,
    message::{Answer, Kept, Mount, Question, Status},
    mountpoint,
    packet::{self, Asked, Packet},
};
use rustix::{
    event::PollFd,
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::Mode,
    mount::MountFlags,
    net::SocketType,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a runner may take to answer; it does nothing else than answer.
const RUNNER_LIMIT: Duration = Duration::from_millis(500);

/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// How long a peer may stay silent after connecting.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// The mode of the socket: its owner, which is the client's user, and root.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A volume: where it is to be mounted and what is kept of it.
pub(super) struct Volume {
    place: Place,
    mountpoint: PathBuf,
    flags: MountFlags,
    client_uid: u32,
    /// Runners and probes, once there is a socket for them.
    connections: Option<Connections>,
    keeping: Option<Keeping>,
    retry: Option<Instant>,
    since: String,
    mounts: u64,
    last_error: Option<String>,
    /// Looks at the mount that are under way.
    looks: Looks,
}

/// A mount in keeping.
struct Keeping {
    kept: Kept,
    /// Whether a runner has had it.
    handed_out: bool,
}

impl Volume {
    /// Reads `NAME=MOUNTPOINT` and makes the volume's place.
    pub(super) fn parse(run_directory: &Path, pair: &str, client_uid: u32) -> Result<Self> {
        let (name, mountpoint) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--volume: no mountpoint in {pair:?}")))?;
        let mountpoint = PathBuf::from(mountpoint);
        if !mountpoint.is_absolute() {
            return Err(Failure::usage(format!(
                "--volume: {} is not an absolute path",
                mountpoint.display()
            )));
        }
        Ok(Self {
            place: Place::new(run_directory, name)?,
            mountpoint,
            flags: mountpoint::FLAGS,
            client_uid,
            connections: None,
            keeping: None,
            retry: None,
            since: clock::now(),
            mounts: 0,
            last_error: None,
            looks: Looks::default(),
        })
    }

    /// Mounts with these flags from now on.
    pub(super) fn set_flags(&mut self, flags: MountFlags) {
        self.flags = flags;
    }

    /// The volume's name.
    pub(super) fn name(&self) -> &str {
        self.place.name()
    }

    /// Whether two volumes cannot both be served.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        self.name() == other.name() || self.mountpoint == other.mountpoint
    }

    /// What to poll for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let connections = self.connections.iter().flat_map(Connections::descriptors);
        connections.chain(self.looks.descriptors())
    }

    /// When something is to be done even if nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let silent = self.connections.as_ref().and_then(Connections::due);
        [self.retry, silent, self.looks.due()].into_iter().flatten().min()
    }

    /// Does what there is to do.
    pub(super) fn proceed(&mut self) {
        self.serve();
        self.looks.proceed(self.keeping.as_ref().map(|keeping| &keeping.kept.root));
        if self.retry.is_some_and(|retry| retry <= Instant::now()) {
            self.attend();
        }
    }

    /// Makes the socket, owned by the client's user.
    fn listen(&mut self) -> Result<()> {
        let path = self.place.holder_socket();
        let listener = packet::listen(&path, SOCKET_MODE, SocketType::SEQPACKET)?;
        self.give_to_client(&path)?;
        self.connections = Some(Connections::new(listener, SILENCE_LIMIT, WhenFull::DropOldest));
        Ok(())
    }

    /// Makes the directories, the inner one owned by the client's user.
    fn make_directories(&self) -> Result<()> {
        let (outer, inner) = (self.place.holder_directory(), self.place.client_directory());
        fs::create_dir_all(&inner).during(|| format!("make {}", inner.display()))?;
        rustix::fs::chmod(outer, Mode::from_raw_mode(0o755))
            .during(|| format!("chmod {}", outer.display()))?;
        rustix::fs::chmod(&inner, Mode::from_raw_mode(0o700))
            .during(|| format!("chmod {}", inner.display()))?;
        self.give_to_client(&inner)
    }

    /// Only for entries of the holder's own directory, which a client cannot replace by a link.
    fn give_to_client(&self, path: &Path) -> Result<()> {
        layout::give(path, self.client_uid)
    }

    /// Lets in root, ourselves and the client, and answers whoever has asked.
    fn serve(&mut self) {
        let Some(connections) = &mut self.connections else { return };
        let users = [0, self.client_uid, rustix::process::geteuid().as_raw()];
        connections.accept(|socket| {
            let admitted = foreign::peer_uid(socket).is_some_and(|uid| users.contains(&uid));
            if !admitted {
                log::warn(Some(self.place.name()), "refused a peer that runs as another user");
            }
            admitted
        });
        for (socket, question) in connections.receive() {
            match question {
                Ok(question) => self.answer(socket, question),
                Err(reason) => log::warn(Some(self.name()), &format!("refused a message: {reason}")),
            }
        }
    }

    /// Takes the mount back from a living runner or mounts anew, and listens; tries again later when that fails.
    pub(super) fn attend(&mut self) {
        match self.try_attend() {
            Ok(()) => self.retry = None,
            Err(failure) => self.note_failure(&failure),
        }
    }

    fn try_attend(&mut self) -> Result<()> {
        self.make_directories()?;
        let mounted = if self.keeping.is_none() { self.adopt_or_mount() } else { Ok(()) };
        // Also when there is no mount: whoever asks is told why.
        if self.connections.is_none() {
            self.listen()?;
        }
        mounted
    }

    fn note_failure(&mut self, failure: &Failure) {
        let message = failure.to_string();
        // Said once, not every second.
        if self.last_error.as_ref() != Some(&message) {
            log::error(Some(self.name()), &format!("{message}; trying again every second"));
            self.since = clock::now();
        }
        self.last_error = Some(message);
        self.retry = Some(Instant::now() + RETRY);
    }

    fn adopt_or_mount(&mut self) -> Result<()> {
        let path = self.place.runner_socket();
        match packet::ask(&path, &Question::Adopt.to_bytes(), &[], RUNNER_LIMIT) {
            Asked::Nobody => self.mount(),
            // Its client may be serving: destroy nothing.
            Asked::NoAnswer(reason) => {
                Err(Failure::new(format!("the runner is alive but does not give the mount back: {reason}")))
            }
            Asked::Answer(packet) => match Answer::parse(&packet).map(|answer| answer.mount) {
                Ok(Some(mount)) => {
                    if let Err(failure) = self.adopt(mount, packet.descriptors) {
                        log::warn(Some(self.name()), &format!("mounting anew: {failure}"));
                        return self.mount();
                    }
                    Ok(())
                }
                _ => self.mount(),
            },
        }
    }

    /// Keeps what a runner gave, if it belongs to what is mounted.
    fn adopt(&mut self, mount: Mount, descriptors: Vec<OwnedFd>) -> Result<()> {
        let kept = Kept::from_message(mount, descriptors)?;
        let path = mountpoint::resolve(&self.mountpoint)?;
        if !mountpoint::is_alone_at(&kept.root, &path)? {
            return Err(Failure::new("what the runner gave back is not what is mounted"));
        }
        log::info(Some(self.name()), "took the mount back from its runner");
        self.keep(kept, true);
        Ok(())
    }

    /// Detaches whatever is left of earlier mounts and mounts.
    fn mount(&mut self) -> Result<()> {
        let path = mountpoint::resolve(&self.mountpoint)?;
        let stale = mountpoint::detach_all(&path, self.place.name())?;
        if stale > 0 {
            log::warn(Some(self.name()), &format!("detached {stale} stale layers at {}", path.display()));
        }
        let device = device::open()?;
        let root = mountpoint::mount(&path, self.place.name(), self.flags, &device)?;
        let generation =
            fs::read_to_string("/proc/sys/kernel/random/uuid").during(|| "make a name for the mount")?;
        let generation = generation.trim().to_owned();
        let mountpoint = path.to_string_lossy().into_owned();
        log::info(Some(self.name()), &format!("mounted at {mountpoint}"));
        self.mounts += 1;
        self.keep(Kept { device, root, generation, mountpoint, setting: None }, false);
        Ok(())
    }

    fn keep(&mut self, kept: Kept, handed_out: bool) {
        self.keeping = Some(Keeping { kept, handed_out });
        self.last_error = None;
        self.since = clock::now();
    }

    /// Answers a question.
    fn answer(&mut self, socket: OwnedFd, packet: Packet) {
        let question = Question::parse(&packet.bytes);
        let answer = match question {
            Ok(Question::Fetch) => self.hand_out(),
            Ok(Question::Deposit(mount)) => self.take_in(mount, packet.descriptors),
            Ok(Question::Abandon(mount)) => Ok(self.abandon(&mount)),
            Ok(Question::Status) => Ok(Answer { status: Some(self.status()), ..Answer::default() }),
            Ok(Question::Look(wish)) => return self.looks.add(wish, socket),
            Ok(Question::Adopt) => Err(Failure::new("that is a question for a runner")),
            Err(failure) => Err(failure),
        };
        let descriptors: Vec<BorrowedFd<'_>> = match (&answer, &self.keeping) {
            (Ok(Answer { mount: Some(_), .. }), Some(keeping)) => keeping.kept.descriptors().into(),
            (Ok(Answer { status: Some(_), .. }), Some(keeping)) => vec![keeping.kept.root.as_fd()],
            _ => Vec::new(),
        };
        let answer = answer.unwrap_or_else(|failure| {
            log::warn(Some(self.name()), &format!("refused a peer: {failure}"));
            Answer::refusal(failure.to_string())
        });
        // A peer that left before its answer will ask again.
        _ = packet::send(&socket, &answer.to_bytes(), &descriptors);
    }

    /// Gives the mount to a runner.
    fn hand_out(&mut self) -> Result<Answer> {
        // It was the last runner's, and may hang until the next client serves.
        self.looks.cancel();
        if self.keeping.as_ref().is_some_and(|keeping| keeping.handed_out && keeping.kept.setting.is_none()) {
            // The INIT of the kernel may have died with that client, and nothing can have used the mount yet.
            log::info(Some(self.name()), "the last client never served; mounting anew for the next");
            self.mount_anew();
        }
        let Some(keeping) = &mut self.keeping else {
            let reason = self.last_error.as_deref().unwrap_or("a moment, please");
            return Err(Failure::new(format!("not mounted: {reason}")));
        };
        keeping.handed_out = true;
        Ok(Answer { mount: Some(keeping.kept.to_mount()), ..Answer::default() })
    }

    /// Gives a mount up: whoever still has it gets ENOTCONN from now on.
    fn abandon(&mut self, mount: &Mount) -> Answer {
        if self.keeping.as_ref().is_some_and(|keeping| keeping.kept.generation == mount.generation) {
            log::warn(Some(self.name()), "the mount is given up; mounting anew");
            self.looks.cancel();
            self.mount_anew();
        }
        Answer::default()
    }

    fn mount_anew(&mut self) {
        self.keeping = None;
        if let Err(failure) = self.mount() {
            self.note_failure(&failure);
        }
    }

    /// Takes the runner's copy: the setting if the mount is known, all of it if not.
    fn take_in(&mut self, mount: Mount, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        let Some(Keeping { kept, .. }) = &mut self.keeping else {
            self.adopt(mount, descriptors)?;
            self.retry = None;
            return Ok(Answer::default());
        };
        if kept.generation != mount.generation {
            return Ok(Answer { gone: true, ..Answer::default() });
        }
        let deposited = Kept::from_message(mount, descriptors)?;
        if deposited.setting.is_some() && deposited.setting != kept.setting {
            kept.setting = deposited.setting;
            self.since = clock::now();
        }
        Ok(Answer::default())
    }

    fn status(&self) -> Status {
        let state = match &self.keeping {
            None if self.last_error.is_some() => "failed",
            None => "starting",
            Some(keeping) if keeping.kept.setting.is_none() => "mounted",
            Some(_) => "held",
        };
        Status {
            state: state.to_owned(),
            since: self.since.clone(),
            restarts: self.mounts.saturating_sub(1),
            last_error: self.last_error.clone(),
            ..Status::default()
        }
    }

    /// Stops listening, detaches and lets the descriptors go.
    pub(super) fn stop(self) -> Result<()> {
        _ = fs::remove_file(self.place.holder_socket());
        let path = mountpoint::resolve(&self.mountpoint)?;
        mountpoint::detach_all(&path, self.place.name()).map(|_| ())
    }
}
