//! `jfs-agent ready`: the probe. 0 when the mount answers, 1 when it does not yet, 2 when something failed.

use crate::{
    arguments::Arguments,
    failure::{Failure, Result},
    layout::{self, Place},
    log,
    look::{Looking, Wish},
    message::{Answer, Question, Status},
    packet::{self, Asked},
};
use rustix::fd::{AsFd, OwnedFd};
use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The mount does not answer yet.
const NOT_YET: u8 = 1;
/// Something failed; the reason is on standard error.
const FAILED: u8 = 2;

/// How long the probe may take in all, unless told otherwise: below the kubelet's usual second.
const DEFAULT_LIMIT: Duration = Duration::from_millis(800);

/// How soon to look again, when there is time to wait.
const PAUSE: Duration = Duration::from_millis(20);

/// What one of the keepers says.
pub(crate) struct Said {
    /// How it is going.
    pub(crate) status: Status,
    /// The root of the mount, if there is one.
    pub(crate) root: Option<OwnedFd>,
}

/// Asks one of the keepers how it is going; nothing when nobody is there.
pub(crate) fn ask(socket: &Path, limit: Duration) -> Result<Option<Said>> {
    match packet::ask(socket, &Question::Status.to_bytes(), &[], limit) {
        Asked::Nobody => Ok(None),
        Asked::NoAnswer(reason) => Err(Failure::new(reason)),
        Asked::Answer(packet) => {
            let status = Answer::parse(&packet)?.status.unwrap_or_default();
            Ok(Some(Said { status, root: packet.descriptors.into_iter().next() }))
        }
    }
}

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let run_directory = arguments.require_directory("run-dir")?;
    let volume = arguments.take("volume");
    let limit = arguments.take_seconds("limit")?.unwrap_or(DEFAULT_LIMIT);
    let end = Instant::now() + arguments.take_seconds("wait")?.unwrap_or_default();
    arguments.finish()?;
    let place = volume.map(|name| Place::new(&run_directory, &name)).transpose()?;
    let verdict = loop {
        let verdict = match &place {
            Some(place) => volume_is_ready(place, limit),
            None => holder_is_ready(&run_directory, limit),
        };
        if matches!(verdict, Verdict::Ready) || Instant::now() >= end {
            break verdict;
        }
        std::thread::sleep(PAUSE);
    };
    Ok(match verdict {
        Verdict::Ready => ExitCode::SUCCESS,
        Verdict::NotYet(reason) => {
            log::info(None, &format!("not yet: {reason}"));
            ExitCode::from(NOT_YET)
        }
        Verdict::Failed(reason) => {
            log::error(None, &reason);
            ExitCode::from(FAILED)
        }
    })
}

/// What the probe found.
enum Verdict {
    Ready,
    NotYet(String),
    Failed(String),
}

/// Without a volume: whether the holder serves all of them. That is all a holder can be asked before clients run.
fn holder_is_ready(run_directory: &Path, limit: Duration) -> Verdict {
    let places = match layout::volumes(run_directory) {
        Ok(places) => places,
        Err(error) => return Verdict::NotYet(format!("{}: {error}", run_directory.display())),
    };
    if places.is_empty() {
        return Verdict::NotYet("no volume has a place yet".to_owned());
    }
    for place in places {
        match ask(&place.holder_socket(), limit) {
            Ok(Some(_)) => {}
            Ok(None) => return Verdict::NotYet(format!("{}: the holder is not there", place.name())),
            Err(failure) => return Verdict::NotYet(format!("{}: the holder: {failure}", place.name())),
        }
    }
    Verdict::Ready
}

fn volume_is_ready(place: &Place, limit: Duration) -> Verdict {
    let asking = limit / 4;
    let holder = ask(&place.holder_socket(), asking).ok().flatten();
    let runner = ask(&place.runner_socket(), asking).ok().flatten();
    if let Some(holder) = &holder
        && holder.status.state == "failed"
    {
        return Verdict::Failed(format!(
            "the holder: {}",
            holder.status.last_error.as_deref().unwrap_or("failed")
        ));
    }
    let Some(runner) = runner else {
        return match std::fs::read_to_string(place.last_words()) {
            Ok(words) => Verdict::Failed(words),
            Err(_) => Verdict::NotYet("the client's runner is not there".to_owned()),
        };
    };
    let last_error = runner.status.last_error.unwrap_or_default();
    match runner.status.state.as_str() {
        "serving" | "handing-over" => {}
        "failing" => return Verdict::Failed(last_error),
        state if last_error.is_empty() => return Verdict::NotYet(state.to_owned()),
        state => return Verdict::NotYet(format!("{state}; before that: {last_error}")),
    }
    match runner.root {
        Some(root) => mount_answers(place, &root, limit / 2),
        None => Verdict::NotYet("nothing is mounted".to_owned()),
    }
}

fn mount_answers(place: &Place, root: &OwnedFd, limit: Duration) -> Verdict {
    let looking = Looking::start(&place.holder_socket(), root.as_fd(), Wish::ALIVE.within(limit));
    match looking.and_then(Looking::finish) {
        Ok(_) => Verdict::Ready,
        Err(failure) => Verdict::NotYet(failure.to_string()),
    }
}
