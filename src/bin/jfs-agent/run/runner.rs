//! The runner: one thread, one poll loop, one state at a time.

mod checking;
mod parting;

use super::{
    OnCrash, Options,
    client::Client,
    comm::Comm,
    keeper::{Deposited, Keeper},
};
use crate::{
    clock,
    device::{Resent, resend},
    failure::{self, Failure, Result},
    handover::{Handover, Inheritance},
    log,
    look::{Looking, Seen},
    mask::Mask,
    message::Status,
    packet::wait,
    processes,
    signals::Signals,
};
use parting::Parting;
use rustix::event::{PollFd, PollFlags};
use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long the holder may be missing before the runner gives up and lets Kubernetes start it again.
const HOLDER_LIMIT: Duration = Duration::from_mins(1);

/// How soon to ask the holder again.
const HOLDER_PAUSE: Duration = Duration::from_millis(50);

/// How soon to check again that nothing is left of a killed client.
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// The client is started again at once; when it keeps ending before it served, after this time, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// From so many failures in a row on there is a pause.
const FAILURES_WITH_PAUSE: u32 = 2;

/// So many ends in a row without ever having served are not an accident.
const MOST_FAILURES: u32 = 5;

/// After as many ends the next client is started without what the last one left, which may be what it dies of.
const FAILURES_WITH_HANDOVER: u32 = 4;

/// What the runner is doing.
enum Phase {
    /// Asking the holder for the mount: next time, and until when.
    Fetching { next: Instant, end: Instant },
    /// The client was started and has not said that it serves.
    Starting,
    /// It has; the mount is being asked.
    Checking,
    /// The mount answers.
    Serving,
    /// The client, or what is left of it, is being killed.
    Ending,
    /// Waiting before it is started again.
    Pausing { until: Instant },
    /// Told to stop: waiting for write-back blocks to be uploaded.
    Uploading { until: Instant, end: Instant },
    /// Told to stop: waiting for the client to save its state there and end.
    HandingOver { state: PathBuf, end: Instant },
    /// Told to stop: killing what is left of the client, then ending like this.
    Leaving(Parting),
}

/// The runner.
pub(super) struct Runner<'a> {
    options: &'a Options,
    signals: &'a Signals,
    mask: &'a Mask,
    keeper: Keeper,
    comm: Comm,
    client: Option<Client>,
    phase: Phase,
    status: Status,
    resent: Resent,
    look: Option<Looking>,
    next_look: Instant,
    seen: Seen,
    /// Ends in a row without having served.
    failures: u32,
    started: Instant,
    /// How long the client took from its start until it said that it serves.
    took_over_after: Duration,
    /// Until when to be gone, once told to stop.
    stop_by: Option<Instant>,
}

impl<'a> Runner<'a> {
    /// A runner that has done nothing yet.
    pub(super) fn new(options: &'a Options, signals: &'a Signals, mask: &'a Mask) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            options,
            signals,
            mask,
            keeper: Keeper::new(&options.place)?,
            comm: Comm::listen(&options.place)?,
            client: None,
            phase: Phase::Fetching { next: now, end: now + HOLDER_LIMIT },
            status: Status { state: "fetching".to_owned(), since: clock::now(), ..Status::default() },
            resent: Resent::Yes,
            look: None,
            next_look: now,
            seen: Seen::default(),
            failures: 0,
            started: now,
            took_over_after: Duration::ZERO,
            stop_by: None,
        })
    }

    /// Runs until told to stop or until nothing helps.
    pub(super) fn run(mut self) -> Result<ExitCode> {
        loop {
            let ended = self.wait();
            let name = self.options.place.name();
            if let Some(client) = &mut self.client {
                client.proceed(&ended, name, self.mask);
            }
            if let Some(setting) = self.comm.serve(self.keeper.kept.as_ref()) {
                let deposited = self.keeper.remember(setting);
                self.served(deposited);
            }
            match self.keeper.deposit() {
                Deposited::NotNow => {}
                Deposited::Done => self.look_through_holder(),
                Deposited::Gone => self.lost(),
            }
            self.keeper.serve(&self.status);
            if let Some(code) = self.step()? {
                return Ok(code);
            }
            // After the step, which may have come to the point where stopping can begin.
            if Signals::stop_requested() {
                self.stop();
            }
        }
    }

    /// Waits for something to happen; the children that have ended.
    fn wait(&self) -> Vec<processes::Ended> {
        let mut descriptors = vec![PollFd::new(self.signals, PollFlags::IN)];
        descriptors.extend(self.keeper.descriptors());
        descriptors.extend(self.comm.descriptors());
        descriptors.extend(self.client.iter().flat_map(Client::descriptors));
        descriptors
            .extend(self.look.iter().map(|look| PollFd::from_borrowed_fd(look.descriptor(), PollFlags::IN)));
        let limit = self.due().map(|due| due.saturating_duration_since(Instant::now()));
        wait(&mut descriptors, limit);
        self.signals.clear();
        processes::reap()
    }

    /// When something is to be done even if nothing happens.
    fn due(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Fetching { next, .. } => Some(*next),
            Phase::Pausing { until } | Phase::Uploading { until, .. } => Some(*until),
            Phase::HandingOver { end, .. } => Some(*end),
            Phase::Ending | Phase::Leaving(_) => Some(Instant::now() + KILL_PAUSE),
            Phase::Starting | Phase::Checking => self.stop_by,
            Phase::Serving => None,
        };
        let client = self.client.as_ref().and_then(Client::due);
        let look =
            self.look.as_ref().map(Looking::end).or_else(|| self.wants_to_look().then_some(self.next_look));
        [phase, client, look, self.keeper.due(), self.comm.due()].into_iter().flatten().min()
    }

    /// Does what the phase asks for; the exit code at the end.
    fn step(&mut self) -> Result<Option<ExitCode>> {
        let client_ended = self.client.as_ref().is_some_and(Client::has_ended);
        match &self.phase {
            Phase::Fetching { next, end } if *next <= Instant::now() => self.fetch(*end)?,
            Phase::Starting | Phase::Checking | Phase::Serving if client_ended => self.client_died(),
            Phase::Checking | Phase::Serving => self.check(),
            Phase::Ending => self.end()?,
            Phase::Pausing { until } if *until <= Instant::now() => self.start()?,
            Phase::Uploading { until, end } => self.upload(client_ended, *until, *end),
            Phase::HandingOver { state, end } => self.hand_over(state.clone(), *end),
            Phase::Leaving(_) => return self.leave(),
            _ => {}
        }
        Ok(None)
    }

    fn enter(&mut self, phase: Phase, state: &str) {
        self.phase = phase;
        if self.status.state != state {
            state.clone_into(&mut self.status.state);
            self.status.since = clock::now();
        }
    }

    fn log(&self, message: &str) {
        log::info(Some(self.options.place.name()), message);
    }

    fn warn(&mut self, message: String) {
        log::warn(Some(self.options.place.name()), &message);
        self.status.last_error = Some(message);
    }

    /// Asks the holder for the mount, then starts the client.
    fn fetch(&mut self, end: Instant) -> Result<()> {
        match self.keeper.fetch() {
            Ok(()) => self.start(),
            Err(failure) if Instant::now() < end => {
                let message = failure.to_string();
                if self.status.last_error.as_ref() != Some(&message) {
                    self.warn(message);
                }
                self.phase = Phase::Fetching { next: Instant::now() + HOLDER_PAUSE, end };
                Ok(())
            }
            Err(failure) => Err(failure.with_code(failure::HOLDER)),
        }
    }

    fn fetch_anew(&mut self) {
        let now = Instant::now();
        self.keeper.forget();
        self.enter(Phase::Fetching { next: now, end: now + HOLDER_LIMIT }, "fetching");
    }

    /// Starts the client on the mount that is kept.
    fn start(&mut self) -> Result<()> {
        let Some(kept) = &self.keeper.kept else {
            self.fetch_anew();
            return Ok(());
        };
        let place = &self.options.place;
        if self.failures >= FAILURES_WITH_HANDOVER {
            Handover::discard(place);
        }
        let left = place.handover_file().exists().then(|| Handover::load(place, kept)).flatten();
        let inheritance = match left {
            Some(left) => Inheritance::Handles { session: left.session },
            None if kept.setting.is_some() => Inheritance::Wreck,
            None => Inheritance::Nothing,
        };
        if inheritance == Inheritance::Wreck && self.options.on_crash == OnCrash::Fail {
            self.warn("the last client crashed; its mount is given up".to_owned());
            self.abandon();
            self.fetch_anew();
            return Ok(());
        }
        // Before the client reads: what its predecessor had in hand is queued again, and nobody has it twice.
        self.resent = match kept.setting {
            None => Resent::Yes,
            Some(_) if self.options.resend => resend(&kept.device),
            Some(_) => Resent::Unknown,
        };
        if self.resent == Resent::Gone {
            self.warn("the mount is gone".to_owned());
            self.fetch_anew();
            return Ok(());
        }
        self.client = Some(Client::start(&self.options.client, kept, place, &inheritance)?);
        self.started = Instant::now();
        if inheritance == Inheritance::Wreck {
            self.report_crash();
        }
        self.log(match inheritance {
            Inheritance::Handles { .. } => "starting the client, with the open handles of the last",
            Inheritance::Wreck => "starting the client, without what was open in the last",
            Inheritance::Nothing => "starting the client",
        });
        self.enter(Phase::Starting, "starting");
        Ok(())
    }

    /// Leaves word for the probe that tells people.
    fn report_crash(&self) {
        let reason = self.status.last_error.as_deref().unwrap_or("the last client left nothing");
        let report = format!(
            "the JuiceFS client of volume {} crashed and was started again at {} ({reason}): files that were open for writing \
             answer EBADF until they are opened again, and locks are lost",
            self.options.place.name(),
            clock::now()
        );
        // Without it nobody is told, and all the rest goes on.
        _ = fs::write(self.options.place.crash_report(), report);
    }

    fn abandon(&mut self) {
        if let Err(failure) = self.keeper.abandon() {
            self.warn(format!("the holder did not give the mount up yet: {failure}"));
        }
    }

    /// The client says that it serves: see whether it does.
    fn served(&mut self, deposited: Deposited) {
        if deposited == Deposited::Gone {
            self.lost();
        } else if matches!(self.phase, Phase::Starting) {
            self.took_over_after = self.started.elapsed();
            // If this one crashes, what it was given is as lost as what it was given to write.
            Handover::discard(&self.options.place);
            self.phase = Phase::Checking;
            self.look = None;
        }
    }

    /// The holder has mounted anew: leave the old mount.
    fn lost(&mut self) {
        if matches!(self.phase, Phase::Starting | Phase::Checking | Phase::Serving) {
            self.warn("the holder has mounted anew; starting on the new mount".to_owned());
            self.enter(Phase::Ending, "restarting");
        }
    }

    /// The client ended by itself, or was killed.
    fn client_died(&mut self) {
        match self.phase {
            Phase::Serving => {}
            // It had taken over: the mount is in use, and what is wrong with this client may be that it was killed.
            Phase::Checking => self.failures = (self.failures + 1).min(FAILURES_WITH_PAUSE),
            _ => self.failures += 1,
        }
        self.enter(Phase::Ending, "restarting");
    }

    /// Kills what is left of the client; once nothing is, decides how to go on.
    fn end(&mut self) -> Result<()> {
        if !self.client.as_ref().is_none_or(Client::kill) {
            return Ok(());
        }
        let reason = self.client.take().map(|mut client| {
            client.proceed(&[], self.options.place.name(), self.mask);
            client.reason()
        });
        let reason = reason.unwrap_or_default();
        self.comm.forget();
        self.look = None;
        self.status.restarts += 1;
        self.warn(format!("the client ended: {reason}"));
        let never_served = self.keeper.kept.as_ref().is_none_or(|kept| kept.setting.is_none());
        if self.failures >= MOST_FAILURES && never_served {
            let message =
                format!("the client ended {} times before it ever served; last: {reason}", self.failures);
            return Err(Failure::new(message).with_code(failure::CLIENT));
        }
        if never_served {
            self.keeper.forget();
        } else if self.options.on_crash == OnCrash::Fail {
            self.abandon();
            let message = format!(
                "the client ended: {reason}; its mount is given up: containers that use it get \"Transport endpoint is not \
                 connected\" until they are started again"
            );
            return Err(Failure::new(message).with_code(failure::GIVEN_UP));
        }
        let Some(doublings) = self.failures.checked_sub(FAILURES_WITH_PAUSE) else { return self.start() };
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings.min(10)).min(LONGEST_PAUSE);
        self.enter(Phase::Pausing { until: Instant::now() + pause }, "failing");
        Ok(())
    }
}
