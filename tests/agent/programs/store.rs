//! The object store is away: what needs it waits or is told, what does not goes on, and nobody restarts anything.

use super::rounds;
use crate::{
    pod::{Pod, Redis},
    process::{free_port, holds_within, wait_until},
};
use rustix::{
    fs::{Advice, fadvise},
    process::Signal,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

const PASSWORD: &str = "pass-of-store";

/// Within so long the mount has to answer, which a busy machine does not see to each time that it is asked.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// A file is so large, more than goes with its metadata.
const SIZE: usize = 200_000;

/// What one kind of operation saw.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Seen {
    done: u64,
    errors: BTreeMap<String, u64>,
    longest: Duration,
}

type Operation<'a> = Box<dyn FnMut() -> io::Result<()> + Send + 'a>;

/// Three kinds of operations at once, each counted for itself; then a look at all that was written.
pub(crate) fn run(
    mount: &Path,
    finish: &Path,
    is_up: impl FnOnce(),
) -> (BTreeMap<String, Seen>, Vec<String>) {
    let steady = mount.join("steady");
    write_synced(&steady, "steady").unwrap();
    let written = Mutex::new(Vec::new());
    let mut number = 0;
    let write = || {
        number += 1;
        let name = format!("written-{number}");
        write_synced(&mount.join(&name), &name)?;
        fs::write(finish.with_file_name("wrote"), number.to_string())?;
        written.lock().unwrap().push(name);
        Ok(())
    };
    let read = || is_content(&steady, "steady");
    let mut directory = 0_u64;
    let make = || {
        directory += 1;
        let path = mount.join(format!("directory-{}", directory % 10));
        fs::create_dir(&path)?;
        fs::read_dir(mount).map(Iterator::count)?;
        fs::remove_dir(&path)
    };
    is_up();
    let kinds: [(&str, Operation<'_>); 3] =
        [("write and fsync", Box::new(write)), ("read", Box::new(read)), ("directories", Box::new(make))];
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> =
            kinds.into_iter().map(|(name, work)| (name, scope.spawn(|| repeat(work, finish)))).collect();
        threads.into_iter().map(|(name, thread)| (name.to_owned(), thread.join().unwrap())).collect()
    });
    let written = written.into_inner().unwrap();
    let lost = written.into_iter().filter(|name| is_content(&mount.join(name), name).is_err());
    (seen, lost.collect())
}

fn repeat(mut work: impl FnMut() -> io::Result<()>, finish: &Path) -> Seen {
    let mut seen = Seen::default();
    while !finish.exists() {
        let begin = Instant::now();
        match work() {
            Ok(()) => seen.done += 1,
            Err(error) => *seen.errors.entry(error.to_string()).or_default() += 1,
        }
        seen.longest = begin.elapsed().max(seen.longest);
        std::thread::sleep(Duration::from_millis(20));
    }
    seen
}

fn content(name: &str) -> Vec<u8> {
    let line = format!("{name}\n");
    line.bytes().cycle().take(SIZE).collect()
}

fn write_synced(path: &Path, name: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&content(name))?;
    file.sync_all()
}

/// Reads a file from the store, not out of the kernel's memory.
fn is_content(path: &Path, name: &str) -> io::Result<()> {
    let mut file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut found = Vec::new();
    file.read_to_end(&mut found)?;
    if found == content(name) { Ok(()) } else { Err(io::Error::other("wrong content")) }
}

#[test]
fn an_object_store_that_is_away_is_waited_for() {
    // As long as it is away with the full counts.
    let away = Duration::from_secs(if rounds(1) == 1 { 6 } else { 60 });
    let pod = Pod::on_redis();
    let directory = pod.directory.join("objects");
    fs::create_dir(&directory).unwrap();
    let mut store = Redis::start_on(free_port(), &directory, PASSWORD);
    let mut words = pod.format_words();
    words.truncate(words.len() - 4);
    let bucket = format!("redis://127.0.0.1:{}/0", store.port);
    words.extend(["--storage", "redis", "--bucket", &bucket, "--secret-key", PASSWORD].map(str::to_owned));
    Pod::format_by(&words);
    let _holder = pod.holder();
    // Nothing is read but from the store.
    let _runner = pod.start_runner("data", &[], &pod.client_words(&["--cache-size", "0"]));
    pod.wait_until_ready();
    let application = pod.application("store");
    let wrote = || fs::read_to_string(pod.path("wrote")).ok().and_then(|text| text.parse::<u64>().ok());
    let goes_on = || {
        let before = wrote();
        wait_until("files to be written again", || wrote() > before);
    };
    let watch = || {
        let begin = Instant::now();
        while begin.elapsed() < away {
            let answers = holds_within(PROBE_LIMIT, || pod.ready(Some("data")).0 == Some(0));
            assert!(answers, "the mount does not need the store to answer: {}", pod.ready(Some("data")).1);
            std::thread::sleep(PROBE_PAUSE);
        }
    };
    goes_on();
    // It answers nothing.
    store.process.signal(Signal::STOP);
    watch();
    store.process.signal(Signal::CONT);
    goes_on();
    // It is not there.
    store.process.kill();
    watch();
    let _store = Redis::start_on(store.port, &directory, PASSWORD);
    goes_on();
    assert_eq!(pod.status("data")["restarts"].as_u64(), Some(0));
    let (seen, lost): (BTreeMap<String, Seen>, Vec<String>) = application.finish_with(&pod);
    for (name, Seen { done, errors, longest }) in &seen {
        println!(
            "object store away twice for {away:?}: {name}: {done} done, {longest:.1?} at most, {errors:?}"
        );
    }
    assert_eq!(lost, [""; 0]);
    assert!(seen["directories"].longest < away && seen["directories"].errors.is_empty(), "{seen:?}");
}
