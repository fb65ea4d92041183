//! `jfs-agent run`: process 1 of the client container. Supervises the JuiceFS client without any privilege.

mod client;
mod comm;
mod first;
mod keeper;
mod runner;
mod words;

use crate::{
    arguments::Arguments,
    failure::{During, Failure, Result},
    layout::Place,
    log,
    mask::Mask,
    signals::Signals,
};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long one of the first commands may take, unless told otherwise.
const DEFAULT_FIRST_LIMIT: Duration = Duration::from_mins(2);

/// How long a hand-over may take, unless told otherwise: what Kubernetes gives a pod by default, less a little.
const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// How long to wait for the holder to make the volume's place, and for an earlier runner to end.
const PLACE_LIMIT: Duration = Duration::from_mins(1);

/// How often to look again while waiting for that.
const PLACE_PAUSE: Duration = Duration::from_millis(20);

/// Killed by SIGTERM, as shells report it.
const TERMINATED: u8 = 128 + 15;

/// What the command line says.
struct Options {
    place: Place,
    first: Vec<Vec<String>>,
    first_limit: Duration,
    grace: Duration,
    on_crash: OnCrash,
    /// Whether the kernel is asked to send again what was in flight.
    resend: bool,
    client: Vec<String>,
}

/// What happens to the mount when the client crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnCrash {
    /// The next client serves it.
    Resume,
    /// It is given up: applications get an error from everything they do with it, and have to begin anew.
    Fail,
}

/// Runs the command.
pub(crate) fn main(arguments: Arguments) -> Result<ExitCode> {
    let options = read(arguments)?;
    let signals = Signals::install()?;
    // As process 1 this happens anyway; as any other it makes the client's orphans ours to bury.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .during(|| "become the keeper of orphans")?;
    let client = words::fill(&options.client, Some(""))?;
    let words = options.first.iter().flatten().chain(&client).map(String::as_str);
    let mask = Mask::new(words, std::env::vars());
    let Some(_lock) = lock(&options.place)? else { return Ok(ExitCode::from(TERMINATED)) };
    let last_words = options.place.last_words();
    _ = fs::remove_file(&last_words);
    let outcome = run(&options, &signals, &mask);
    if let Err(failure) = &outcome {
        // For probes and `status`, which come when nobody is left to ask.
        _ = fs::write(&last_words, failure.to_string());
    }
    outcome
}

fn read(mut arguments: Arguments) -> Result<Options> {
    let run_directory = arguments.require_directory("run-dir")?;
    let parse = |text: &String| -> Result<Vec<String>> {
        let words: Vec<String> = serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("--first is not a JSON array of strings: {error}")))?;
        words::fill(&words, None)
    };
    let on_crash = match arguments.take("on-crash").as_deref() {
        None | Some("resume") => OnCrash::Resume,
        Some("fail") => OnCrash::Fail,
        Some(other) => {
            return Err(Failure::usage(format!("--on-crash is neither resume nor fail: {other}")));
        }
    };
    let resend = match arguments.take("resend").as_deref() {
        None | Some("yes") => true,
        Some("no") => false,
        Some(other) => return Err(Failure::usage(format!("--resend is neither yes nor no: {other}"))),
    };
    let options = Options {
        place: Place::new(&run_directory, &arguments.require("volume")?)?,
        first: arguments.take_all("first").iter().map(parse).collect::<Result<_>>()?,
        first_limit: arguments.take_seconds("first-limit")?.unwrap_or(DEFAULT_FIRST_LIMIT),
        grace: arguments.take_seconds("grace")?.unwrap_or(DEFAULT_GRACE),
        on_crash,
        resend,
        client: arguments.take_command(),
    };
    arguments.finish()?;
    if options.client.is_empty() {
        return Err(Failure::usage("the client's command is missing after --"));
    }
    Ok(options)
}

/// Waits for the volume's place and makes sure to be its only runner; nothing when told to stop meanwhile.
fn lock(place: &Place) -> Result<Option<File>> {
    let end = Instant::now() + PLACE_LIMIT;
    let path = place.runner_lock();
    loop {
        let reason = match File::options().create(true).truncate(false).write(true).open(&path) {
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                Err(_) => "another runner of this volume is alive".to_owned(),
            },
            Err(error) => format!("{}: {error} (is the holder running?)", path.display()),
        };
        if Signals::stop_requested() {
            return Ok(None);
        }
        if Instant::now() >= end {
            return Err(Failure::new(reason).with_code(crate::failure::HOLDER));
        }
        std::thread::sleep(PLACE_PAUSE);
    }
}

fn run(options: &Options, signals: &Signals, mask: &Mask) -> Result<ExitCode> {
    match first::run(&options.first, options.first_limit, &options.place, mask, signals)? {
        first::Then::GoOn => runner::Runner::new(options, signals, mask)?.run(),
        first::Then::Stop => {
            log::info(Some(options.place.name()), "told to stop before the client was started");
            Ok(ExitCode::from(TERMINATED))
        }
    }
}
