//! How a runner that was told to stop leaves: with everything in place for the next one.

use super::{Phase, Runner};
use crate::{
    failure::{During, Failure, Result},
    handover::Handover,
    look::{Seen, Wish},
    run::{TERMINATED, client::Client},
};
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Left of the grace period for the hand-over itself, when write-back blocks are still being uploaded.
const HANDOVER_RESERVE: Duration = Duration::from_secs(5);

/// How often to ask what is left to upload.
const STAGING_PAUSE: Duration = Duration::from_millis(500);

/// Asks that.
const STAGING: Wish = Wish { limit: 3000, ..Wish::STATS };

/// The client's readers wait in the kernel for requests and notice only with the next one that they are to end; an
/// idle mount has none, so these are made.
const WAKE_READERS: Wish = Wish { statfs: 400, pause: 5, limit: 3000, ..Wish::ALIVE };

/// How a runner that was told to stop ends.
pub(super) enum Parting {
    /// The client saved its open handles there.
    Handles(PathBuf),
    /// There was nothing to hand over.
    Nothing,
    /// It should have handed over and did not.
    Problem(String),
}

impl Runner<'_> {
    /// Told to stop: begins the hand-over, once.
    pub(super) fn stop(&mut self) {
        let now = Instant::now();
        let end = *self.stop_by.get_or_insert(now + self.options.grace);
        // A mount that has been served is in use: a client that is only just taking over hands over all the same.
        let in_use = self.keeper.kept.as_ref().is_some_and(|kept| kept.setting.is_some());
        match self.phase {
            Phase::Uploading { .. } | Phase::HandingOver { .. } | Phase::Leaving(_) => {}
            Phase::Starting | Phase::Checking if in_use && now < end => {}
            Phase::Serving => {
                self.look = None;
                let until = end.checked_sub(HANDOVER_RESERVE).unwrap_or(now);
                self.enter(Phase::Uploading { until, end }, "handing-over");
            }
            _ => self.enter(Phase::Leaving(Parting::Nothing), "stopping"),
        }
    }

    /// Waits until what was written back is uploaded, then asks the client to hand over.
    pub(super) fn upload(&mut self, client_ended: bool, until: Instant, end: Instant) {
        if !client_ended && Instant::now() < until {
            match self.looked() {
                Some(Ok(Seen { staging_blocks: None | Some(0), .. })) => {}
                Some(Ok(Seen { staging_blocks: Some(blocks), .. })) => {
                    self.next_look = Instant::now() + STAGING_PAUSE;
                    return self.log(&format!("{blocks} blocks are still to be uploaded"));
                }
                // Not knowing is not a reason to leave data behind while there is time.
                Some(Err(_)) | None => return self.look_again(STAGING),
            }
        }
        self.look = None;
        let asked = match &mut self.client {
            Some(client) if !client_ended => client.ask_to_hand_over(),
            _ => Err(Failure::new("the client ended before it could hand over")),
        };
        match asked {
            Ok(state) => {
                self.next_look = Instant::now();
                self.look_again(WAKE_READERS);
                self.phase = Phase::HandingOver { state, end };
            }
            Err(failure) => self.phase = Phase::Leaving(Parting::Problem(failure.to_string())),
        }
    }

    /// Waits for the client to save its state and end.
    pub(super) fn hand_over(&mut self, state: PathBuf, end: Instant) {
        if self.client.as_ref().is_none_or(Client::server_has_ended) {
            self.phase = Phase::Leaving(Parting::Handles(state));
        } else if Instant::now() >= end {
            let problem =
                "the client did not hand over in time; what it had not yet uploaded is lost".to_owned();
            self.phase = Phase::Leaving(Parting::Problem(problem));
        } else {
            _ = self.looked();
            self.look_again(WAKE_READERS);
        }
    }

    /// Buries the client and ends.
    pub(super) fn leave(&mut self) -> Result<Option<ExitCode>> {
        if !self.client.as_ref().is_none_or(Client::kill) {
            return Ok(None);
        }
        if let Some(client) = &mut self.client {
            client.proceed(&[], self.options.place.name(), self.mask);
        }
        let Phase::Leaving(parting) = &self.phase else { return Ok(None) };
        match (parting, &self.keeper.kept) {
            (Parting::Problem(problem), _) => Err(Failure::new(problem.clone())),
            (Parting::Handles(state), Some(kept)) => {
                let left = Handover::new(kept, self.seen.session, self.seen.version.clone());
                left.save(&self.options.place, state).during(|| "the client ended without handing over")?;
                self.log("handed over: the next client goes on with the open handles");
                Ok(Some(ExitCode::SUCCESS))
            }
            _ => {
                self.log("told to stop while no client served");
                Ok(Some(ExitCode::from(TERMINATED)))
            }
        }
    }
}
