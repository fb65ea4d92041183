//! What resilient mode costs beside the plain privileged client: the same work on two mounts, in alternating rounds. Needs
//! root and `/dev/fuse`, as the agent's tests do.
//!
//! `make bench-client` prints one table and fails where a median of ours is below the slowest round of the plain client.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up has failed")]

#[path = "../../agent/container.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod container;
#[path = "../../agent/pod.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod pod;
#[path = "../../agent/process.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod process;
#[path = "../usage.rs"]
mod usage;
mod work;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use pod::{Pod, juicefs};
use process::{Process, children_of};
use rustix::process::Pid;
use work::{Kind, MEBIBYTES, SMALL};

/// Rounds of each side; odd, for the sake of the median.
const ROUNDS: usize = 9;

/// A side, with its figures.
struct Side {
    /// The root of its mount, seen from outside.
    place: PathBuf,
    rates: [Vec<f64>; Kind::ALL.len()],
}

impl Side {
    fn new(place: PathBuf) -> Self {
        Self { place, rates: Default::default() }
    }

    fn round(&mut self, number: usize) {
        let directory = self.place.join(format!("round-{number}"));
        fs::create_dir(&directory).unwrap();
        for (kind, rates) in Kind::ALL.into_iter().zip(&mut self.rates) {
            rates.push(kind.rate(&directory));
        }
        fs::remove_dir(&directory).unwrap();
    }
}

fn main() -> ExitCode {
    let pod = Pod::on_redis();
    pod.format();
    let holder = pod.holder();
    let runner = pod.runner();
    let root = format!("/proc/{}/root{}", holder.pid().as_raw_nonzero(), pod.mountpoint("data"));
    let mut ours = Side::new(root.into());
    let (plain, place) = plain(&pod);
    let mut theirs = Side::new(place);
    for number in 0..=ROUNDS {
        // In turns, as to who is first as well.
        let (first, second) =
            if number % 2 == 0 { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
        first.round(number);
        second.round(number);
        if number == 0 {
            // Whoever is first finds everything cold.
            ours.rates = Default::default();
            theirs.rates = Default::default();
        }
    }
    println!("\n| what | resilient, median | plain, median (slowest to fastest) |\n|---|---|---|");
    let within = print_rates(ours, theirs);
    let ours = taken(runner.pid().into_iter().chain([holder.pid()]));
    let theirs = taken(children_of(plain.pid()).into_iter());
    println!("| memory of all its processes | {:.1} MiB | {:.1} MiB |", ours.0, theirs.0);
    println!("| processor time of all its processes | {:.1} s | {:.1} s |", ours.1, theirs.1);
    println!("\n{ROUNDS} rounds of {MEBIBYTES} MiB and {SMALL} small files each");
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints what was done in a second, a row for each kind of work; whether none of our medians is below all rounds of
/// theirs.
fn print_rates(ours: Side, theirs: Side) -> bool {
    let mut within = true;
    for (kind, (mut ours, mut theirs)) in Kind::ALL.into_iter().zip(ours.rates.into_iter().zip(theirs.rates))
    {
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        let (slowest, fastest) = (theirs[0], theirs[ROUNDS - 1]);
        let (our, their) = (ours[ROUNDS / 2], theirs[ROUNDS / 2]);
        let (name, unit) = kind.described();
        let beyond = if our >= slowest { "" } else { " **beyond**" };
        within &= our >= slowest;
        println!("| {name} | {our:.0} {unit}{beyond} | {their:.0} {unit} ({slowest:.0} to {fastest:.0}) |");
    }
    within
}

/// The plain client on a file system of its own, made as the other one is.
fn plain(pod: &Pod) -> (Process, PathBuf) {
    let metadata = format!("{}/2", pod.metadata().strip_suffix("/1").unwrap());
    let bucket = format!("{}/", pod.path("plain-store"));
    let format = ["format", "--no-update", &metadata, "vol", "--storage", "file", "--bucket", &bucket];
    let made = Command::new(juicefs()).args(format).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    pod.plain_client(&["--cache-dir", &pod.path("plain-cache"), "--cache-size", "200M"], &metadata)
}

/// Memory (MiB) and processor time (seconds) of processes and all that they have started.
fn taken(processes: impl Iterator<Item = Pid>) -> (f64, f64) {
    let mut all: Vec<Pid> = processes.collect();
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children_of(pid));
        next += 1;
    }
    all.iter().fold((0.0, 0.0), |(memory, time), pid| {
        (memory + usage::memory(*pid, "VmRSS"), time + usage::processor(*pid))
    })
}
