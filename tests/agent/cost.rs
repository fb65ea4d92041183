//! What resilient mode costs beside the plain privileged client: the same work on two mounts, in alternating rounds.
//!
//! `make bench-client` prints one table. Of each kind of work it has the medians, and the slowest and fastest round of the
//! plain client, between which the median of ours has to be.

#[path = "../bench/usage.rs"]
mod usage;
mod work;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Pid;

use self::work::{Kind, MEBIBYTES, SMALL};
use crate::{
    pod::{Engine, Pod, juicefs},
    process::{Process, children_of},
};

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

#[test]
#[ignore = "a benchmark: make bench-client"]
fn as_much_is_done_as_by_a_plain_client() {
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
    let mut within = true;
    eprintln!(
        "\n| what | resilient, median | plain, median (slowest to fastest) | within |\n|---|---|---|---|"
    );
    for (kind, (mut ours, mut theirs)) in Kind::ALL.into_iter().zip(ours.rates.into_iter().zip(theirs.rates))
    {
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        let (slowest, fastest) = (theirs[0], theirs[ROUNDS - 1]);
        let (our, their) = (ours[ROUNDS / 2], theirs[ROUNDS / 2]);
        let is_within = our >= slowest;
        within &= is_within;
        let (name, unit) = kind.described();
        let verdict = if is_within { "yes" } else { "**no**" };
        eprintln!(
            "| {name} | {our:.0} {unit} | {their:.0} {unit} ({slowest:.0} to {fastest:.0}) | {verdict} |"
        );
    }
    let client = taken(runner.pid().into_iter());
    let agent = taken(std::iter::once(holder.pid()));
    let plain = taken(children_of(plain.pid()).into_iter());
    for (what, (resilient, plain)) in
        [("memory", (client.0 + agent.0, plain.0)), ("processor time", (client.1 + agent.1, plain.1))]
    {
        let unit = if what == "memory" { "MiB" } else { "s" };
        eprintln!("| {what} of all its processes | {resilient:.1} {unit} | {plain:.1} {unit} | |");
    }
    eprintln!("\n{ROUNDS} rounds of {MEBIBYTES} MiB and {SMALL} small files each");
    assert!(within, "a median is below all rounds of the plain client");
}

/// The plain client on a file system of its own, made as the other one is.
fn plain(pod: &Pod) -> (Process, PathBuf) {
    let Engine::Redis(redis) = &pod.engine else { panic!("there is a redis") };
    let metadata = format!("redis://:pass-of-redis@127.0.0.1:{}/2", redis.port);
    let bucket = format!("{}/", pod.path("plain-store"));
    let format = ["format", "--no-update", &metadata, "vol", "--storage", "file", "--bucket", &bucket];
    let made = Command::new(juicefs()).args(format).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let cache = pod.path("plain-cache");
    assert!(Path::new(&cache).parent().is_some_and(Path::is_dir));
    pod.plain_client(&["--cache-dir", &cache, "--cache-size", "200M"], &metadata)
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
