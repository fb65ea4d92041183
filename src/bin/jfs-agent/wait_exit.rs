//! `jfs-agent wait-exit`: the preStop of classic mode. Ends when the condition holds or the limit is reached,
//! always with success: a hook that fails only adds noise to a pod that ends anyway.

use crate::{
    arguments::Arguments,
    clock,
    failure::{Failure, Result},
    log,
    look::{Seen, Target, Wish, look},
};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How often to look.
const PAUSE: Duration = Duration::from_millis(250);

/// How long one look may take; less when less is left.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// No look is shorter, so that one is had even at the limit.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// How long no handle must have been open, unless told otherwise.
const DEFAULT_QUIET: Duration = Duration::from_secs(2);

/// What to wait for.
enum Strategy {
    /// No open handles for that long.
    Idle(PathBuf, Duration),
    /// Nothing left to upload.
    Staging(PathBuf),
    /// Nobody listens on that port any more.
    Port(u16),
    /// The limit alone.
    Sleep,
}

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let strategy = match arguments.require("strategy")?.as_str() {
        "idle" => Strategy::Idle(
            arguments.require_directory("mountpoint")?,
            arguments.take_seconds("quiet")?.unwrap_or(DEFAULT_QUIET),
        ),
        "staging" => Strategy::Staging(arguments.require_directory("mountpoint")?),
        "port" => {
            Strategy::Port(arguments.take_number("port")?.ok_or_else(|| Failure::usage("--port is missing"))?)
        }
        "sleep" => Strategy::Sleep,
        other => {
            return Err(Failure::usage(format!(
                "--strategy is one of idle, port, staging and sleep, not {other}"
            )));
        }
    };
    let limit = arguments.take_seconds("limit")?.ok_or_else(|| Failure::usage("--limit is missing"))?;
    arguments.finish()?;
    let begin = Instant::now();
    let what = match strategy {
        Strategy::Idle(mountpoint, quiet) => wait_until_idle(&mountpoint, quiet, begin + limit),
        Strategy::Staging(mountpoint) => wait_until_uploaded(&mountpoint, begin + limit),
        Strategy::Port(port) => wait_until_refused(port, begin + limit),
        Strategy::Sleep => {
            std::thread::sleep(limit);
            "slept".to_owned()
        }
    };
    log::info(None, &format!("{what} after {} s", clock::seconds(begin.elapsed())));
    Ok(ExitCode::SUCCESS)
}

fn wait_until_idle(mountpoint: &Path, quiet: Duration, end: Instant) -> String {
    let mut quiet_since = None;
    loop {
        let found = match stats(mountpoint, end) {
            Ok(Seen { open_handles: Some(0), .. }) => {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= quiet {
                    return format!("no open handles for {} s", clock::seconds(quiet));
                }
                "no open handles for a moment".to_owned()
            }
            Ok(Seen { open_handles: Some(count), .. }) => {
                quiet_since = None;
                format!("{count} open handles")
            }
            Ok(_) => return "gave up, because the client does not count open handles,".to_owned(),
            Err(Unseen::Gone(reason)) => return format!("nothing to wait for ({reason})"),
            Err(Unseen::Late) => "a client that does not answer".to_owned(),
        };
        if !pause(end) {
            return format!("gave up at the limit with {found}");
        }
    }
}

fn wait_until_uploaded(mountpoint: &Path, end: Instant) -> String {
    loop {
        let found = match stats(mountpoint, end) {
            // Clients without write-back do not count staging blocks.
            Ok(Seen { staging_blocks: None | Some(0), .. }) => return "everything is uploaded".to_owned(),
            Ok(Seen { staging_blocks: Some(count), .. }) => format!("{count} blocks to upload"),
            Err(Unseen::Gone(reason)) => return format!("nothing to wait for ({reason})"),
            Err(Unseen::Late) => "a client that does not answer".to_owned(),
        };
        if !pause(end) {
            return format!("gave up at the limit with {found}");
        }
    }
}

fn wait_until_refused(port: u16, end: Instant) -> String {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left.min(LOOK_LIMIT)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return format!("port {port} refuses");
            }
            _ => {}
        }
        if !pause(end) {
            return format!("gave up at the limit with port {port} still open");
        }
    }
}

/// Why nothing was seen.
enum Unseen {
    /// There is no mount, or nobody serves it.
    Gone(String),
    /// The client takes its time.
    Late,
}

fn stats(mountpoint: &Path, end: Instant) -> std::result::Result<Seen, Unseen> {
    let begin = Instant::now();
    let left = end.saturating_duration_since(begin).clamp(SHORTEST_LOOK, LOOK_LIMIT);
    let wish = Wish::STATS.within(left);
    // NB: by what the look was given, which has no fractions of a millisecond: who is late by one is not gone.
    look(Target::Path(mountpoint), wish).map_err(|failure| {
        if begin.elapsed() < wish.limit() { Unseen::Gone(failure.to_string()) } else { Unseen::Late }
    })
}

/// Waits a little; false when the limit is reached.
fn pause(end: Instant) -> bool {
    let left = end.saturating_duration_since(Instant::now());
    std::thread::sleep(PAUSE.min(left));
    !left.is_zero()
}
