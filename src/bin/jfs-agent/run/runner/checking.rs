//! How the runner learns from the mount itself whether it answers, and who serves it.

use super::{Phase, Runner};
use crate::{
    device::Resent,
    failure::Result,
    look::{Looking, Seen, Wish},
};
use rustix::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a mount may take to answer after the client has said that it serves.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How soon after a look the next may begin: a holder that refuses them does so at once.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// More than the requests that were in flight when the last client died, as the new one counts requests that were
/// sent again among the lost until that many others have followed.
const STATFS_AFTER_RESEND: u32 = 256;

/// Where the kernel cannot send again, the client answers lost requests EINTR when more than ten newer ones have
/// come and three seconds have passed: ten a second for five.
const WITHOUT_RESEND: Wish = Wish { statfs: 50, pause: 100, limit: 15_000, ..Wish::ALIVE };

impl Runner<'_> {
    /// Whether the next look is due when its time comes.
    pub(super) fn wants_to_look(&self) -> bool {
        matches!(self.phase, Phase::Checking | Phase::Uploading { .. } | Phase::HandingOver { .. })
    }

    /// Asks the mount whether it answers, and learns who serves it.
    pub(super) fn check(&mut self) {
        if let Some(Ok(seen)) = self.looked()
            && matches!(self.phase, Phase::Checking)
        {
            return self.begin_to_serve(seen);
        }
        if matches!(self.phase, Phase::Checking) {
            self.look_again(Wish {
                statfs: STATFS_AFTER_RESEND,
                config: true,
                ..Wish::ALIVE.within(LOOK_LIMIT)
            });
        }
    }

    /// The outcome of the current look, once it has one.
    pub(super) fn looked(&mut self) -> Option<Result<Seen>> {
        let outcome = self.look.as_mut()?.proceed()?;
        self.look = None;
        if let Err(failure) = &outcome {
            let message = failure.to_string();
            if self.status.last_error.as_ref() != Some(&message) {
                self.warn(message);
            }
        }
        Some(outcome)
    }

    /// Starts the next look, unless one is under way or has only just ended.
    pub(super) fn look_again(&mut self, wish: Wish) {
        let now = Instant::now();
        if self.look.is_some() || now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_PAUSE;
        let Some(kept) = &self.keeper.kept else { return };
        match Looking::start(&self.options.place.holder_socket(), kept.root.as_fd(), wish) {
            Ok(look) => self.look = Some(look),
            Err(failure) => self.warn(failure.to_string()),
        }
    }

    /// Leaves the current look to the holder, which is there again.
    pub(super) fn look_through_holder(&mut self) {
        let Some(Looking::Own(own)) = &self.look else { return };
        let wish = own.wish;
        self.look = None;
        self.next_look = Instant::now();
        self.look_again(wish);
    }

    fn begin_to_serve(&mut self, seen: Seen) {
        self.failures = 0;
        self.status.client_version.clone_from(&seen.version);
        self.status.session = seen.session;
        self.seen = seen;
        self.enter(Phase::Serving, "serving");
        let (took_over, checked) = (self.took_over_after.as_millis(), self.started.elapsed().as_millis());
        self.log(&format!("serving: took over after {took_over} ms, checked after {checked} ms"));
        if self.resent == Resent::Unknown {
            self.next_look = Instant::now();
            self.look_again(WITHOUT_RESEND);
        }
    }
}
