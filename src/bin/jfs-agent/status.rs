//! `jfs-agent status`: what holder and runners say, as JSON.

use crate::{
    arguments::Arguments,
    failure::{During, Result},
    layout::{self, Place},
    log,
    look::{Looking, Wish},
    message::Status,
    ready,
};
use rustix::fd::AsFd;
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

/// How long a keeper may take to answer.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// How long the mount may take to answer.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// One volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    /// The runner's state when there is one, else the holder's.
    state: String,
    since: Option<String>,
    restarts: Option<u64>,
    client_version: Option<String>,
    session: Option<u64>,
    open_handles: Option<u64>,
    last_error: Option<String>,
    /// The holder's state, alone.
    holder: String,
}

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let run_directory = arguments.require_directory("run-dir")?;
    arguments.finish()?;
    let places = layout::volumes(&run_directory).during(|| format!("read {}", run_directory.display()))?;
    let volumes: Vec<Volume> = places.iter().map(describe).collect();
    Ok(log::print(&serde_json::to_string_pretty(&volumes).during(|| "print the status")?))
}

fn describe(place: &Place) -> Volume {
    let holder = ready::ask(&place.holder_socket(), ASK_LIMIT).ok().flatten();
    let runner = ready::ask(&place.runner_socket(), ASK_LIMIT).ok().flatten();
    let holder_state =
        holder.as_ref().map_or_else(|| "absent".to_owned(), |holder| holder.status.state.clone());
    let serving = runner.as_ref().filter(|runner| runner.status.state == "serving");
    let seen = serving.and_then(|runner| runner.root.as_ref()).and_then(|root| {
        let looking = Looking::start(&place.holder_socket(), root.as_fd(), Wish::STATS.within(LOOK_LIMIT));
        looking.and_then(Looking::finish).ok()
    });
    let last_words = std::fs::read_to_string(place.last_words()).ok();
    let status: Option<Status> = runner.or(holder).map(|said| said.status);
    let known = status.clone().unwrap_or_default();
    Volume {
        name: place.name().to_owned(),
        state: status.as_ref().map_or_else(|| "absent".to_owned(), |status| status.state.clone()),
        since: status.as_ref().map(|status| status.since.clone()),
        restarts: status.as_ref().map(|status| status.restarts),
        client_version: known.client_version,
        session: known.session,
        open_handles: seen.and_then(|seen| seen.open_handles),
        last_error: known.last_error.or(last_words),
        holder: holder_state,
    }
}
