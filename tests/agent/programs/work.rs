//! The side of the application: programs at work until they are told to finish, and a look at what they left.

use crate::process::wait_until;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{git::Git, postgres::Postgres, redis::Redis, sqlite::Sqlite, tar::Tar};

/// After a failure, as a program does that tries again.
const PAUSE: Duration = Duration::from_millis(50);

/// A program that is used again and again.
pub(crate) trait Program: Send {
    /// Puts there what it works on, unless that is there.
    fn prepare(&mut self) -> Result<(), String>;

    /// A piece of work, by a name that no other has; from a yes on it has to be there for ever.
    fn work(&mut self, name: &str) -> Result<(), String>;

    /// What is wrong with these, which got a yes.
    fn verify(&mut self, acknowledged: &[String]) -> Vec<String>;
}

/// Where programs work, and where they keep what does not belong there.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) mount: PathBuf,
    pub(crate) outside: PathBuf,
}

/// What has become of a program's work.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: usize,
    pub(crate) lost: Vec<String>,
}

/// The programs, by the names that their results have; two to a database have to take turns.
pub(crate) const PROGRAMS: [&str; 9] = [
    "git",
    "postgres",
    "redis",
    "sqlite-rollback-1",
    "sqlite-rollback-2",
    "sqlite-wal-1",
    "sqlite-wal-2",
    "sqlite-wal-exclusive",
    "tar",
];

fn program(name: &str, place: &Place) -> Box<dyn Program> {
    match name {
        "git" => Box::new(Git::new(place)),
        "postgres" => Box::new(Postgres::new(place)),
        "redis" => Box::new(Redis::new(place)),
        "sqlite-rollback-1" | "sqlite-rollback-2" => {
            Box::new(Sqlite::new(place, "rollback", "delete", "NORMAL"))
        }
        "sqlite-wal-1" | "sqlite-wal-2" => Box::new(Sqlite::new(place, "wal", "wal", "NORMAL")),
        "sqlite-wal-exclusive" => Box::new(Sqlite::new(place, "exclusive", "wal", "EXCLUSIVE")),
        "tar" => Box::new(Tar::new(place)),
        other => panic!("no such program: {other}"),
    }
}

fn programs(pod: &Path) -> impl Iterator<Item = (&'static str, Box<dyn Program>)> {
    let place = Place { mount: pod.join("application"), outside: pod.join("programs") };
    PROGRAMS.into_iter().map(move |name| (name, program(name, &place)))
}

/// The work, until it may finish.
pub(crate) fn run(pod: &Path, finish: &Path, is_up: impl FnOnce()) {
    let outside = pod.join("programs");
    let mut programs: Vec<_> = programs(pod).collect();
    for (name, program) in &mut programs {
        program.prepare().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    is_up();
    // No run has the names of one before it.
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    std::thread::scope(|scope| {
        for (name, mut program) in programs {
            let outside = &outside;
            scope.spawn(move || {
                let list =
                    |kind| File::options().create(true).append(true).open(list(outside, name, kind)).unwrap();
                let (mut acknowledged, mut failures) = (list("acknowledged"), list("failures"));
                for number in begin.. {
                    if finish.exists() {
                        break;
                    }
                    let work = format!("{name}-{number}");
                    match program.work(&work) {
                        Ok(()) => writeln!(acknowledged, "{work}").unwrap(),
                        Err(error) => {
                            writeln!(failures, "{}", kind(&error, pod)).unwrap();
                            std::thread::sleep(PAUSE);
                        }
                    }
                }
            });
        }
    });
}

/// A look at everything that got a yes.
pub(crate) fn verify(pod: &Path) -> BTreeMap<String, Outcome> {
    let outside = pod.join("programs");
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for (name, mut program) in programs(pod) {
            let (outside, outcomes) = (&outside, &outcomes);
            scope.spawn(move || {
                let acknowledged = lines(outside, name, "acknowledged");
                let lost = program.verify(&acknowledged);
                let outcome = Outcome { acknowledged: acknowledged.len(), lost };
                outcomes.lock().unwrap().insert(name.to_owned(), outcome);
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// The list that a program keeps of what it was told is done, or of what it was told is not.
pub(crate) fn list(outside: &Path, name: &str, kind: &str) -> PathBuf {
    outside.join(format!("{name}.{kind}"))
}

/// The lines of such a list.
pub(crate) fn lines(outside: &Path, name: &str, kind: &str) -> Vec<String> {
    let text = fs::read_to_string(list(outside, name, kind)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What an error has in common with others of its kind: its first line, without numbers and without where the pod is.
fn kind(error: &str, pod: &Path) -> String {
    let line = error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
    let mut kind = String::new();
    for character in line.replace(pod.to_str().unwrap(), "").chars().take(200) {
        match character {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            other => kind.push(other),
        }
    }
    kind
}

/// Runs a command; its output, or what it says of its failure.
pub(crate) fn run_command(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}\n{}", String::from_utf8_lossy(&output.stderr), output.status))
    }
}

/// Those of the acknowledged that are not among what was found.
pub(crate) fn missing<'a>(acknowledged: &[String], found: impl Iterator<Item = &'a str>) -> Vec<String> {
    let found: std::collections::BTreeSet<&str> = found.collect();
    acknowledged.iter().filter(|name| !found.contains(name.as_str())).cloned().collect()
}

/// Tries again until it works, for what others may still have in hand.
pub(crate) fn patiently<T>(what: &str, mut work: impl FnMut() -> Result<T, String>) -> T {
    let mut outcome = None;
    wait_until(what, || match work() {
        Ok(value) => {
            outcome = Some(value);
            true
        }
        Err(error) => {
            eprintln!("{what}: {error}");
            std::thread::sleep(PAUSE);
            false
        }
    });
    outcome.expect("that is what was waited for")
}
