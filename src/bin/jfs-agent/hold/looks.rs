//! Looks at a mount on behalf of runner and probes, one at a time.

use crate::{
    look::{Look, Target, Wish},
    message::Answer,
    packet,
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{AsFd, OwnedFd},
};
use std::{collections::VecDeque, time::Instant};

/// Questions that wait; the oldest makes room for the next.
const MOST_WAITING: usize = 16;

/// The looks of one volume.
#[derive(Default)]
pub(super) struct Looks {
    current: Option<(Look, OwnedFd)>,
    waiting: VecDeque<(Wish, OwnedFd)>,
    /// A child that has not come back, and may not as long as the mount is not served.
    hung: Option<Look>,
}

impl Looks {
    /// Takes a question.
    pub(super) fn add(&mut self, wish: Wish, socket: OwnedFd) {
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((wish, socket));
    }

    /// Answers what can be answered and starts what can be started.
    pub(super) fn proceed(&mut self, root: Option<&OwnedFd>) {
        if let Some((mut look, socket)) = self.current.take() {
            match look.proceed() {
                None => self.current = Some((look, socket)),
                Some(Ok(seen)) => reply(&socket, &Answer { seen: Some(seen), ..Answer::default() }),
                Some(Err(failure)) => {
                    reply(&socket, &Answer::refusal(failure.to_string()));
                    self.hung = Some(look);
                }
            }
        }
        if self.hung.as_mut().is_some_and(Look::is_over) {
            self.hung = None;
        }
        while self.current.is_none() {
            let Some((wish, socket)) = self.waiting.pop_front() else { return };
            let started = match (root, &self.hung) {
                (None, _) => Err("nothing is mounted".to_owned()),
                (_, Some(_)) => Err("an earlier look has not come back".to_owned()),
                (Some(root), None) => {
                    Look::start(Target::Root(root.as_fd()), wish).map_err(|failure| failure.to_string())
                }
            };
            match started {
                Ok(look) => self.current = Some((look, socket)),
                Err(reason) => reply(&socket, &Answer::refusal(reason)),
            }
        }
    }

    /// Ends the current look: whoever wanted it has made way for another.
    pub(super) fn cancel(&mut self) {
        if let Some((look, _)) = self.current.take() {
            look.cancel();
            self.hung = Some(look);
        }
    }

    /// What to poll for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let current = self.current.iter();
        current.map(|(look, _)| PollFd::from_borrowed_fd(look.output(), PollFlags::IN))
    }

    /// When the current look is given up.
    pub(super) fn due(&self) -> Option<Instant> {
        self.current.as_ref().map(|(look, _)| look.end)
    }
}

fn reply(socket: &OwnedFd, answer: &Answer) {
    // A peer that left before its answer will ask again.
    _ = packet::send(socket, &answer.to_bytes(), &[]);
}
