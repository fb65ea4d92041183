//! The commands that run before the client: `format` or `auth`, in exec form.

use crate::{
    clock,
    command::Running,
    failure::{self, Failure, Result},
    layout::Place,
    log,
    mask::Mask,
    packet::wait,
    signals::Signals,
};
use rustix::event::{PollFd, PollFlags};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Whether to go on after the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// All succeeded.
    GoOn,
    /// The process was told to stop meanwhile.
    Stop,
}

/// Runs the commands one after another.
pub(super) fn run(
    commands: &[Vec<String>],
    limit: Duration,
    place: &Place,
    mask: &Mask,
    signals: &Signals,
) -> Result<Then> {
    for words in commands {
        let shown = mask.command(words);
        log::info(Some(place.name()), &format!("running {shown}"));
        match run_one(words, limit, place, mask, signals) {
            Ok(Then::GoOn) => {}
            Ok(Then::Stop) => return Ok(Then::Stop),
            Err(failure) => {
                let message = format!("{shown} failed: {failure}");
                return Err(Failure::new(message).with_code(failure::FIRST_COMMAND));
            }
        }
    }
    Ok(Then::GoOn)
}

fn run_one(words: &[String], limit: Duration, place: &Place, mask: &Mask, signals: &Signals) -> Result<Then> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Failure::usage("--first: an empty command"))?;
    let end = Instant::now() + limit;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut running = Running::start(command)?;
    loop {
        let mut descriptors = vec![PollFd::new(signals, PollFlags::IN)];
        descriptors.extend(running.descriptor());
        wait(&mut descriptors, Some(end.saturating_duration_since(Instant::now())));
        signals.clear();
        if let Some(ended) = running.proceed(place.name(), "first", mask) {
            return match (ended.status.exit_status(), running.output.reason()) {
                (Some(0), _) => Ok(Then::GoOn),
                (_, Some(line)) => Err(Failure::new(format!("{}: {line}", ended.describe()))),
                (_, None) => Err(Failure::new(ended.describe())),
            };
        }
        if Signals::stop_requested() {
            return Ok(Then::Stop);
        }
        if Instant::now() >= end {
            let last = running.output.reason();
            let last = last.map(|line| format!("; its last words: {line}")).unwrap_or_default();
            return Err(Failure::new(format!("not done within {} s{last}", clock::seconds(limit))));
        }
    }
}
