//! `jfs-agent hold`: mounts, keeps the descriptors and gives them to the runners. The only privileged part.
//!
//! One thread, one poll loop. Messages come whole (see [`crate::packet`]), and who does not send one is let go of (see
//! [`crate::connections`]).

mod looks;
mod volume;

use crate::{
    arguments::Arguments,
    failure::{Failure, Result},
    install, layout, log, mountpoint,
    packet::wait,
    processes,
    signals::Signals,
};
use rustix::event::{PollFd, PollFlags};
use std::{path::Path, process::ExitCode, time::Instant};
use volume::Volume;

/// The user as which the client runs unless told otherwise: nobody.
const DEFAULT_CLIENT_UID: u32 = 65534;

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let run_directory = arguments.require_directory("run-dir")?;
    let client_uid = arguments.take_number("client-uid")?.unwrap_or(DEFAULT_CLIENT_UID);
    let wanted = arguments.take_all("volume");
    let flags = arguments.take_all("flags");
    let owned = arguments.take_all("own");
    arguments.finish()?;
    if wanted.is_empty() {
        return Err(Failure::usage("--volume is missing"));
    }
    let mut volumes: Vec<Volume> = Vec::new();
    for pair in &wanted {
        let volume = Volume::parse(&run_directory, pair, client_uid)?;
        if volumes.iter().any(|one| one.collides_with(&volume)) {
            return Err(Failure::usage(format!("--volume: name or mountpoint is there twice: {pair}")));
        }
        volumes.push(volume);
    }
    for pair in &flags {
        let found = pair.split_once('=').and_then(|(name, options)| {
            Some((volumes.iter_mut().find(|volume| volume.name() == name)?, options))
        });
        let (volume, options) =
            found.ok_or_else(|| Failure::usage(format!("--flags: there is no such volume: {pair}")))?;
        volume.set_flags(mountpoint::flags(options)?);
    }
    let signals = Signals::install()?;
    install::into(layout::program(&run_directory).parent().unwrap_or(&run_directory))?;
    for directory in &owned {
        // Without its cache a client is slower, not wrong.
        if let Err(error) = layout::give(Path::new(directory), client_uid) {
            log::warn(None, &error.to_string());
        }
    }
    // Taken back or mounted before anyone can ask: a runner that asks gets an answer at once.
    for volume in &mut volumes {
        volume.attend();
    }
    while !Signals::stop_requested() {
        turn(&signals, &mut volumes);
    }
    stop(volumes)
}

/// Waits for something to happen and attends to it.
fn turn(signals: &Signals, volumes: &mut [Volume]) {
    {
        let mut descriptors = vec![PollFd::new(signals, PollFlags::IN)];
        descriptors.extend(volumes.iter().flat_map(Volume::descriptors));
        let due = volumes.iter().filter_map(Volume::due).min();
        wait(&mut descriptors, due.map(|due| due.saturating_duration_since(Instant::now())));
    }
    signals.clear();
    processes::reap();
    for volume in volumes {
        volume.proceed();
    }
}

/// Detaches everything and ends.
fn stop(volumes: Vec<Volume>) -> Result<ExitCode> {
    let mut left = Vec::new();
    for volume in volumes {
        let name = volume.name().to_owned();
        match volume.stop() {
            Ok(()) => log::info(Some(&name), "detached"),
            Err(failure) => left.push(format!("{name}: {failure}")),
        }
    }
    if left.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::new(left.join("; "))) }
}
