//! `jfs-agent crashed`: fails once after each crash of the client, and says what that has cost. The kubelet makes an event
//! of it, which nobody in the pod has the right to make.

use crate::{arguments::Arguments, failure::Result, layout::Place, log};
use std::{fs, process::ExitCode};

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let run_directory = arguments.require_directory("run-dir")?;
    let place = Place::new(&run_directory, &arguments.require("volume")?)?;
    arguments.finish()?;
    let path = place.crash_report();
    let Ok(report) = fs::read_to_string(&path) else { return Ok(ExitCode::SUCCESS) };
    _ = fs::remove_file(&path);
    log::print(&report);
    Ok(ExitCode::FAILURE)
}
