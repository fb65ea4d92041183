//! What a client leaves to the next one when it ends gracefully: its session and its open handles.

use crate::{
    clock,
    failure::{During, Failure, Result},
    layout::Place,
    log,
    message::Kept,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::SystemTime,
};

/// Longest list of open handles worth carrying over.
const LONGEST_STATE: u64 = 256 << 20;

/// What a client is to begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inheritance {
    /// The mount has never been served.
    Nothing,
    /// Its predecessor handed over: the session, if it is known, and the open handles.
    Handles { session: Option<u64> },
    /// Its predecessor crashed, and took with it what was open.
    Wreck,
}

/// The contents of `handover.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Handover {
    /// The mount it belongs to; for any other it is worthless.
    pub(crate) generation: String,
    /// The session to resume.
    pub(crate) session: Option<u64>,
    /// The version of the client that left it.
    pub(crate) client_version: Option<String>,
    /// When.
    pub(crate) created: String,
}

impl Handover {
    /// What to leave for the next client of a mount.
    pub(crate) fn new(kept: &Kept, session: Option<u64>, client_version: Option<String>) -> Self {
        Self { generation: kept.generation.clone(), session, client_version, created: clock::now() }
    }

    /// What was left for this mount; anything stale, foreign or broken is removed.
    pub(crate) fn load(place: &Place, kept: &Kept) -> Option<Self> {
        let text = read(&place.handover_file(), 1 << 16).ok()?;
        let found = serde_json::from_str::<Self>(&text).ok();
        let usable =
            found.filter(|found| found.generation == kept.generation && place.state_file().is_file());
        if usable.is_none() {
            log::info(Some(place.name()), "ignoring what a client of an earlier mount left");
            Self::discard(place);
        }
        usable
    }

    /// Writes it down with the handles that the client has just saved, and removes the client's own copy.
    pub(crate) fn save(&self, place: &Place, client_state: &Path) -> Result<()> {
        let state = read(client_state, LONGEST_STATE)?;
        serde_json::from_str::<serde::de::IgnoredAny>(&state)
            .during(|| format!("what the client saved in {} is broken", client_state.display()))?;
        write(&place.state_file(), &state)?;
        let text = serde_json::to_string(self).during(|| "write the hand-over")?;
        write(&place.handover_file(), &text)?;
        _ = fs::remove_file(client_state);
        Ok(())
    }

    /// Forgets whatever was left.
    pub(crate) fn discard(place: &Place) {
        _ = fs::remove_file(place.handover_file());
        _ = fs::remove_file(place.state_file());
    }
}

/// Has the client number its handles from where no earlier one has come.
///
/// It would begin at 1 again, and a descriptor that was open at the crash, whose data is gone, would come back to life
/// as soon as somebody else is given its number: `fsync` and `close` would say yes.
pub(crate) fn begin_new_handles(place: &Place) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    write(&place.state_file(), &format!("{{\"Handler\":{{}},\"NextFh\":{}}}", now.as_nanos()))
}

fn read(path: &Path, longest: u64) -> Result<String> {
    let file = fs::File::open(path).during(|| format!("open {}", path.display()))?;
    let mut text = String::new();
    let length =
        file.take(longest + 1).read_to_string(&mut text).during(|| format!("read {}", path.display()))?;
    if u64::try_from(length).is_ok_and(|length| length > longest) {
        return Err(Failure::new(format!("{} is too long", path.display())));
    }
    Ok(text)
}

/// Whole or not at all: a crash in the middle leaves what was there before.
fn write(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .during(|| format!("write {}", fresh.display()))?;
    file.write_all(text.as_bytes()).during(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, path).during(|| format!("write {}", path.display()))
}
