//! The runner's side of keeping: its own copy of the mount, the holder's copy, and who may ask for them.

use crate::{
    connections::{Connections, WhenFull},
    device::Setting,
    failure::{During, Failure, Result},
    foreign,
    layout::Place,
    log,
    message::{Answer, Kept, Question, Status},
    packet::{self, Asked},
};
use rustix::{
    event::PollFd,
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::Mode,
    net::SocketType,
};
use std::time::{Duration, Instant};

/// How long the holder may take to answer; mounting included.
const HOLDER_LIMIT: Duration = Duration::from_secs(2);

/// How often the holder is given a fresh copy: a holder that was restarted has it after this time at the latest.
const DEPOSIT: Duration = Duration::from_secs(5);

/// How soon to try again when it could not be reached.
const DEPOSIT_RETRY: Duration = Duration::from_millis(500);

/// How soon after a holder has adopted the mount, which it does before it listens.
const DEPOSIT_ADOPTED: Duration = Duration::from_millis(50);

/// How long a peer may stay silent after connecting.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// What became of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deposited {
    /// Nothing to do yet, or to be tried again.
    NotNow,
    /// The holder has it: it is there, and answers.
    Done,
    /// The holder has another mount by now.
    Gone,
}

/// The copy and the socket on which it is asked for.
pub(super) struct Keeper {
    place: Place,
    connections: Connections,
    /// The mount, once fetched.
    pub(super) kept: Option<Kept>,
    deposit_due: Option<Instant>,
}

impl Keeper {
    /// Listens; keeps nothing yet.
    pub(super) fn new(place: &Place) -> Result<Self> {
        let listener =
            packet::listen(&place.runner_socket(), Mode::RUSR | Mode::WUSR, SocketType::SEQPACKET)?;
        let connections = Connections::new(listener, SILENCE_LIMIT, WhenFull::DropOldest);
        Ok(Self { place: place.clone(), connections, kept: None, deposit_due: None })
    }

    /// Asks the holder for the mount.
    pub(super) fn fetch(&mut self) -> Result<()> {
        let (answer, descriptors) = self.ask(&Question::Fetch)?;
        let mount = answer.mount.ok_or_else(|| Failure::new("the holder gave no mount"))?;
        self.kept = Some(Kept::from_message(mount, descriptors)?);
        Ok(())
    }

    fn ask(&self, question: &Question) -> Result<(Answer, Vec<OwnedFd>)> {
        match packet::ask(&self.place.holder_socket(), &question.to_bytes(), &[], HOLDER_LIMIT) {
            Asked::Answer(packet) => {
                let answer = Answer::parse(&packet).during(|| "the holder")?;
                Ok((answer, packet.descriptors))
            }
            Asked::Nobody => Err(Failure::new("the holder is not there")),
            Asked::NoAnswer(reason) => Err(Failure::new(format!("the holder: {reason}"))),
        }
    }

    /// Remembers the setting that a client brought, and has the holder remember it.
    pub(super) fn remember(&mut self, setting: Setting) -> Deposited {
        if let Some(kept) = &mut self.kept {
            kept.setting = Some(setting);
            self.deposit_due = Some(Instant::now());
        }
        self.deposit()
    }

    /// When the holder is to be given the next copy, or a peer has been silent for too long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deposit_due.into_iter().chain(self.connections.due()).min()
    }

    /// Gives the holder a copy when it is time.
    pub(super) fn deposit(&mut self) -> Deposited {
        let Some(kept) =
            self.kept.as_ref().filter(|_| self.deposit_due.is_some_and(|due| due <= Instant::now()))
        else {
            return Deposited::NotNow;
        };
        let question = Question::Deposit(kept.to_mount()).to_bytes();
        let asked = packet::ask(&self.place.holder_socket(), &question, &kept.descriptors(), HOLDER_LIMIT);
        let answered = match asked {
            Asked::Answer(packet) => Answer::parse(&packet),
            Asked::Nobody => Err(Failure::new("not there")),
            Asked::NoAnswer(reason) => Err(Failure::new(reason)),
        };
        let (deposited, pause) = match answered {
            Ok(Answer { gone: true, .. }) => {
                self.forget();
                return Deposited::Gone;
            }
            Ok(_) => (Deposited::Done, DEPOSIT),
            Err(_) => (Deposited::NotNow, DEPOSIT_RETRY),
        };
        self.deposit_due = Some(Instant::now() + pause);
        deposited
    }

    /// Has the holder give the mount up, and lets it go.
    pub(super) fn abandon(&mut self) -> Result<()> {
        self.deposit_due = None;
        let Some(kept) = self.kept.take() else { return Ok(()) };
        self.ask(&Question::Abandon(kept.to_mount())).map(drop)
    }

    /// Lets the mount go, to fetch another.
    pub(super) fn forget(&mut self) {
        self.kept = None;
        self.deposit_due = None;
    }

    /// What to poll for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.connections.descriptors()
    }

    /// Answers whoever asks; a holder that has come back is given its copy soon.
    pub(super) fn serve(&mut self, status: &Status) {
        self.connections.accept(|socket| {
            let own = rustix::process::geteuid().as_raw();
            foreign::peer_uid(socket).is_some_and(|uid| uid == 0 || uid == own)
        });
        for (socket, question) in self.connections.receive() {
            let Ok(packet) = question else { continue };
            let question = Question::parse(&packet.bytes);
            if matches!(question, Ok(Question::Adopt)) && self.deposit_due.is_some() {
                self.deposit_due = Some(Instant::now() + DEPOSIT_ADOPTED);
            }
            self.answer(&socket, question, status);
        }
    }

    fn answer(&self, socket: &OwnedFd, question: Result<Question>, status: &Status) {
        let (answer, descriptors): (Answer, Vec<BorrowedFd<'_>>) = match (question, &self.kept) {
            (Ok(Question::Adopt), Some(kept)) => {
                log::info(Some(self.place.name()), "gave the mount back to the holder");
                (Answer { mount: Some(kept.to_mount()), ..Answer::default() }, kept.descriptors().into())
            }
            (Ok(Question::Adopt), None) => (Answer::refusal("nothing is kept here yet"), Vec::new()),
            (Ok(Question::Status), kept) => {
                let answer = Answer { status: Some(status.clone()), ..Answer::default() };
                (answer, kept.iter().map(|kept| kept.root.as_fd()).collect())
            }
            (Ok(_), _) => (Answer::refusal("that is a question for the holder"), Vec::new()),
            (Err(failure), _) => (Answer::refusal(failure.to_string()), Vec::new()),
        };
        // A peer that left before its answer will ask again.
        _ = packet::send(socket, &answer.to_bytes(), &descriptors);
    }
}
