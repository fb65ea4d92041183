//! Real programs on the mount: what they were told is done is there afterwards, whatever becomes of the client.
//!
//! `AGENT_ROUNDS` says how many kills, upgrades and so on there are (a few in the gate).

mod git;
mod postgres;
mod redis;
mod sqlite;
pub(crate) mod store;
mod tar;
pub(crate) mod work;

use crate::{
    container::{Application, Runner},
    pod::Pod,
    process::{PATIENCE, Process, exit_code, holds_within, wait_until},
};
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};
use work::Outcome;

/// How often the client says that it is alive, in seconds; five times that, and its session is over, with its locks.
const HEARTBEAT: &str = "1";

/// The programs that keep what they share in a shared mapping, which a crash rolls back.
const SHARED_MAPPING: [&str; 2] = ["sqlite-wal-1", "sqlite-wal-2"];

/// The client of a mount that was given up.
const GIVEN_UP: Option<i32> = Some(73);

/// How often a test does what it does, unless `AGENT_ROUNDS` says otherwise.
fn rounds(few: u64) -> u64 {
    std::env::var("AGENT_ROUNDS").map_or(few, |text| text.parse().expect("AGENT_ROUNDS is a number"))
}

/// Programs at work in a pod.
struct Work {
    holder: Process,
    pod: Pod,
    /// The longest that each was without a yes after what was done to the client.
    standstill: BTreeMap<&'static str, Duration>,
}

/// See [`Work::mark`].
struct Mark {
    since: Instant,
    before: BTreeMap<&'static str, u64>,
}

impl Work {
    fn new() -> Self {
        let pod = Pod::on_redis();
        let mut words = pod.format_words();
        // Databases write the same anew all the time.
        words.extend(["--trash-days", "0"].map(str::to_owned));
        Pod::format_by(&words);
        fs::create_dir(pod.directory.join("programs")).unwrap();
        let holder = pod.holder();
        Self { holder, pod, standstill: BTreeMap::new() }
    }

    fn runner(&self, options: &[&str]) -> Runner {
        let mut words = self.pod.client_words(&["--heartbeat", HEARTBEAT]);
        // To end the sessions of the dead is a job in the background.
        words.retain(|word| word != "--no-bgjob");
        let runner = self.pod.start_runner("data", options, &words);
        self.pod.wait_until_ready();
        runner
    }

    /// How long each program's list of this kind is.
    fn lengths(&self, kind: &str) -> BTreeMap<&'static str, u64> {
        let outside = self.pod.directory.join("programs");
        let length = |name| fs::metadata(work::list(&outside, name, kind)).map_or(0, |found| found.len());
        work::PROGRAMS.into_iter().map(|name| (name, length(name))).collect()
    }

    /// A moment after which each program is to go on.
    fn mark(&self) -> Mark {
        Mark { since: Instant::now(), before: self.lengths("acknowledged") }
    }

    /// Waits until each program but these has got another yes, and takes note of how long that took.
    fn each_goes_on(&mut self, Mark { since, mut before }: Mark, but: &[&str]) {
        before.retain(|name, _| !but.contains(name));
        let go_on = holds_within(PATIENCE * 2, || {
            let now = self.lengths("acknowledged");
            before.retain(|name, length| {
                let waits = now[name] <= *length;
                if !waits {
                    let longest = self.standstill.entry(name).or_default();
                    *longest = since.elapsed().max(*longest);
                }
                waits
            });
            before.is_empty()
        });
        let last = |name| work::lines(&self.pod.directory.join("programs"), name, "failures").pop();
        let left: Vec<_> = before.keys().map(|name| (name, last(name))).collect();
        assert!(go_on, "nothing was done any more by {left:?}");
    }

    /// Says what the programs have seen, and begins a new list of what has failed.
    fn is_told(&mut self, what: &str) {
        let outside = self.pod.directory.join("programs");
        for name in work::PROGRAMS {
            let done = work::lines(&outside, name, "acknowledged").len();
            let longest = self.standstill.get(name).copied().unwrap_or_default().as_secs_f64();
            println!("{what}: {name}: {done} done by now, {longest:.1} s without at most");
            let mut failures = BTreeMap::<_, u64>::new();
            for failure in work::lines(&outside, name, "failures") {
                *failures.entry(failure).or_default() += 1;
            }
            for (failure, count) in failures {
                println!("    {count} times {failure}");
            }
            fs::write(work::list(&outside, name, "failures"), "").unwrap();
        }
        self.standstill.clear();
    }

    /// Ends programs and mount, and looks at what is there with another one, whose kernel and client know nothing yet.
    fn verify(&mut self, application: Application, runner: Runner) -> BTreeMap<String, Outcome> {
        application.finish_with::<()>(&self.pod);
        drop(runner);
        self.holder.kill();
        self.holder = self.pod.holder();
        let cache = self.pod.directory.join("cache");
        for entry in fs::read_dir(&cache).unwrap().flatten() {
            fs::remove_dir_all(entry.path()).unwrap();
        }
        let _runner = self.runner(&[]);
        let outcomes: BTreeMap<String, Outcome> =
            self.pod.application("verify programs").finish_with(&self.pod);
        for (name, Outcome { acknowledged, lost }) in &outcomes {
            assert!(*acknowledged > 0, "{name} has done nothing");
            println!("{name}: of {acknowledged} done {} lost {:?}", lost.len(), lost.first());
        }
        outcomes
    }

    /// Upgrades, of which programs notice nothing.
    fn upgraded(&mut self, mut runner: Runner, options: &[&str]) -> Runner {
        for _ in 0..rounds(3) {
            let mark = self.mark();
            let (code, _) = runner.stop();
            assert_eq!(code, Some(0));
            runner = self.runner(options);
            self.each_goes_on(mark, &[]);
        }
        let outside = self.pod.directory.join("programs");
        let failed = work::PROGRAMS.into_iter().flat_map(|name| work::lines(&outside, name, "failures"));
        // Who waits for a lock no longer than an upgrade takes on a busy machine has noticed that, and nothing else.
        let failed: Vec<String> = failed.filter(|failure| !failure.contains("database is locked")).collect();
        self.is_told("upgraded");
        assert_eq!(failed, [""; 0], "no program notices an upgrade");
        runner
    }

    /// Crashes that end programs, which begin anew on another mount, as those of a container that is started again do.
    fn ended(
        &mut self,
        mut runner: Runner,
        options: &[&str],
        mut application: Application,
    ) -> (Runner, Application) {
        for _ in 0..rounds(1) {
            let mut failures = self.lengths("failures");
            runner.kill_client();
            let mark = self.mark();
            assert_eq!(exit_code(runner.container.end()), GIVEN_UP);
            wait_until("each program to be told", || {
                let now = self.lengths("failures");
                failures.retain(|name, length| now[name] <= *length);
                failures.is_empty()
            });
            application.kill(&self.pod);
            runner = self.runner(options);
            application = self.pod.application("programs");
            self.each_goes_on(mark, &[]);
        }
        self.is_told("ended");
        (runner, application)
    }

    /// Crashes that programs live through.
    fn killed(&mut self, runner: &Runner) {
        let mut numbers = 0x5eed_u64;
        for _ in 0..rounds(3) {
            std::thread::sleep(Duration::from_millis(crate::crash::next(&mut numbers, 700)));
            let restarts = self.pod.status("data")["restarts"].as_u64().unwrap();
            runner.kill_client();
            let mark = self.mark();
            wait_until("the crash to be noticed", || {
                self.pod.status("data")["restarts"].as_u64() > Some(restarts)
            });
            self.pod.wait_until_ready();
            // What they share may be broken for good.
            self.each_goes_on(mark, &SHARED_MAPPING);
        }
        self.is_told("killed");
    }
}

/// Nothing that was acknowledged is lost, by any but these.
fn nothing_is_lost(outcomes: &BTreeMap<String, Outcome>, but_by: &[&str]) {
    for (name, outcome) in outcomes {
        if !but_by.contains(&name.as_str()) {
            assert_eq!(outcome.lost, [""; 0], "{name} has lost what it was told is done");
        }
    }
}

#[test]
fn programs_lose_nothing_in_silence() {
    let mut work = Work::new();
    let options = ["--on-crash", "fail"];
    let runner = work.runner(&options);
    let application = work.pod.application("programs");
    work.each_goes_on(work.mark(), &[]);
    let runner = work.upgraded(runner, &options);
    let (runner, application) = work.ended(runner, &options, application);
    nothing_is_lost(&work.verify(application, runner), &[]);

    let runner = work.runner(&[]);
    let application = work.pod.application("programs");
    work.each_goes_on(work.mark(), &[]);
    work.killed(&runner);
    nothing_is_lost(&work.verify(application, runner), &SHARED_MAPPING);
}
