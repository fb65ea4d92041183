//! What an application does not notice must not be a loss: nothing that was lost gets a yes.

use crate::{application::Report, container::Runner, pod::Pod, process::wait_until};
use rustix::fs::{FlockOperation, flock};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Entries of the directory that is listed: more than one answer of the client holds.
const ENTRIES: usize = 5000;

/// So many listings are interrupted, each further on than the last.
const LISTINGS: usize = 10;

/// How many others open the file, so that numbers of handles that begin anew come to the one that was lost.
const OTHERS: usize = 64;

/// How often the client is replaced under the journals.
const UPGRADES: u32 = 20;

/// How often the client says that it is alive, in seconds; five times that, and its session is over.
const HEARTBEAT: &str = "2";

/// Kills the client and waits until the next one serves.
fn crash(pod: &Pod, runner: &Runner) {
    let restarts = pod.status("data")["restarts"].as_u64().unwrap();
    runner.kill_client();
    wait_until("the crash to be noticed", || pod.status("data")["restarts"].as_u64() > Some(restarts));
    pod.wait_until_ready();
}

/// What the probe says that is there to tell people.
fn told(pod: &Pod) -> (Option<i32>, String) {
    let output = pod.agent(&["crashed", "--run-dir", &pod.path("run"), "--volume", "data"]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn each_crash_is_told_once_and_an_upgrade_is_none() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    assert_eq!(told(&pod), (Some(0), String::new()));
    crash(&pod, &runner);
    let (code, report) = told(&pod);
    assert_eq!(code, Some(1));
    assert!(
        report.contains("volume data") && report.contains("signal 9") && report.contains("EBADF"),
        "{report}"
    );
    assert_eq!(told(&pod), (Some(0), String::new()));
    assert_eq!(runner.stop().0, Some(0));
    runner = pod.runner();
    assert_eq!(told(&pod), (Some(0), String::new()));
    // The container's own process: what the client had is as lost.
    runner.kill();
    let _runner = pod.runner();
    assert_eq!(told(&pod).0, Some(1));
}

/// A file that was open for writing when the client died stays lost, however many others open it afterwards.
#[test]
fn a_descriptor_that_was_lost_never_comes_back_to_life() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let application = pod.application("left open");
    crash(&pod, &runner);
    let report = application.finish(&pod);
    assert_eq!(report.errors, [""; 0]);
    assert_eq!(report.checked, 2, "writing and fsync have to fail: {report:?}");
}

/// The application of that test.
pub(crate) fn left_open(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let mut report = Report::default();
    let path = mount.join("left-open");
    fs::write(&path, [b'o'; 10]).unwrap();
    let open = || File::options().read(true).write(true).open(&path);
    let lost = open().unwrap();
    lost.write_all_at(&vec![b'A'; 1 << 20], 0).unwrap();
    is_up();
    wait_until("the client to have died", || finish.exists());
    let others: Option<Vec<File>> = (0..OTHERS).map(|_| report.run("open", open)).collect();
    let outcomes = [("write", lost.write_all_at(b"B", 1 << 20)), ("fsync", lost.sync_all())];
    for (what, outcome) in outcomes {
        match outcome {
            Err(error) if error.raw_os_error() == Some(9) => report.checked += 1,
            Err(error) => report.errors.push(format!("{what}: {error}")),
            Ok(()) => report.errors.push(format!("{what} said yes to what was lost")),
        }
    }
    // They have lost nothing, and are not told of what another has.
    for other in others.iter().flatten() {
        report.run("fsync of another", || other.sync_all());
    }
    report
}

/// A lock whose owner is gone is free again soon after the session of the client that died with it is over.
#[test]
fn a_lock_does_not_outlive_its_owner() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let mut words = pod.client_words(&["--heartbeat", HEARTBEAT]);
    // To end the sessions of the dead is a job in the background.
    words.retain(|word| word != "--no-bgjob");
    let runner = pod.start_runner("data", &[], &words);
    pod.wait_until_ready();
    let application = pod.application("lock owner");
    crash(&pod, &runner);
    let report = application.finish(&pod);
    println!("a lock of a process that ended after a crash: free after {} ms", report.longest);
    assert_eq!(report.errors, [""; 0]);
}

/// The application of that test.
pub(crate) fn lock_owner(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let mut report = Report::default();
    let path = mount.join("lock");
    let open = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
    let owner = open();
    flock(&owner, FlockOperation::NonBlockingLockExclusive).unwrap();
    is_up();
    wait_until("the client to have died", || finish.exists());
    drop(owner);
    let begin = Instant::now();
    let next = open();
    wait_until("the lock to be free", || flock(&next, FlockOperation::NonBlockingLockExclusive).is_ok());
    report.longest = u64::try_from(begin.elapsed().as_millis()).unwrap();
    report
}

/// A listing that a crash interrupts is whole, if nobody adds or removes entries meanwhile.
#[test]
fn a_listing_that_a_crash_interrupts_has_no_holes() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let runner = pod.runner();
    let application = pod.application("lister");
    crash(&pod, &runner);
    let report = application.finish(&pod);
    println!("interrupted by a crash: {} listings whole, {} failed", report.checked, report.repeated);
    assert_eq!(report.errors, [""; 0]);
}

/// A listing that an upgrade interrupts is whole, if nobody adds or removes entries meanwhile.
#[test]
fn a_listing_that_an_upgrade_interrupts_has_no_holes() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    let application = pod.application("lister");
    assert_eq!(runner.stop().0, Some(0));
    let _runner = pod.runner();
    let report = application.finish(&pod);
    println!("interrupted by an upgrade: {} listings whole, {} failed", report.checked, report.repeated);
    assert_eq!(report.errors, [""; 0]);
}

/// The application of these tests: `repeated` counts listings that failed.
pub(crate) fn lister(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let mut report = Report::default();
    let directory = mount.join("many");
    fs::create_dir(&directory).unwrap();
    for number in 0..ENTRIES {
        File::create(directory.join(number.to_string())).unwrap();
    }
    let mut listings: Vec<_> = (0..LISTINGS).map(|_| fs::read_dir(&directory).unwrap()).collect();
    let mut begun: Vec<Vec<_>> = Vec::new();
    for (number, listing) in listings.iter_mut().enumerate() {
        begun.push(listing.take(1 + number * ENTRIES / LISTINGS).collect());
    }
    is_up();
    wait_until("the client to be another", || finish.exists());
    for (mut found, rest) in begun.into_iter().zip(listings) {
        found.extend(rest);
        match found
            .into_iter()
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
        {
            Err(_) => report.repeated += 1,
            Ok(names) => {
                let steady = names.into_iter().filter(|name| !name.as_encoded_bytes().starts_with(b"added"));
                let (found, distinct) = steady.fold((0, BTreeSet::new()), |(found, mut distinct), name| {
                    distinct.insert(name);
                    (found + 1, distinct)
                });
                let distinct = distinct.len();
                if (found, distinct) == (ENTRIES, ENTRIES) {
                    report.checked += 1;
                } else {
                    report.errors.push(format!("{found} entries, {distinct} of them different"));
                }
            }
        }
    }
    report
}

/// What was written and closed before, during and after an upgrade is there for whoever opens the file next.
#[test]
fn what_was_closed_during_an_upgrade_is_there() {
    let pod = Pod::on_redis();
    pod.format();
    let _holder = pod.holder();
    let mut runner = pod.runner();
    let application = pod.application("journal");
    for _ in 0..UPGRADES {
        let (code, _) = runner.stop();
        assert_eq!(code, Some(0));
        runner = pod.runner();
    }
    let report = application.finish(&pod);
    println!("{} lines written, {} read back at once", report.operations, report.checked);
    assert_eq!(report.errors, [""; 0]);
}

/// The application of that test: a line, closed; then all of them read by somebody who opens the file anew.
pub(crate) fn journal(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let total = Mutex::new(Report::default());
    is_up();
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let path = mount.join(format!("journal-{writer}"));
            let total = &total;
            scope.spawn(move || {
                let report = keep_journal(&path, finish);
                total.lock().unwrap().add(report);
            });
        }
    });
    total.into_inner().unwrap()
}

fn keep_journal(path: &Path, finish: &Path) -> Report {
    let mut report = Report::default();
    let mut wanted = String::new();
    while !finish.exists() {
        let line = format!("{:06}\n", report.checked % 1_000_000);
        // Not for ever longer, or reading it back is all that is done.
        if wanted.len() > 20_000 {
            wanted.clear();
            report.run("truncate", || File::create(path));
        }
        let Some(mut file) = report.run("open", || File::options().create(true).append(true).open(path))
        else {
            continue;
        };
        report.run("append", || file.write_all(line.as_bytes()));
        wanted.push_str(&line);
        drop(file);
        let found = report.run("read back", || fs::read_to_string(path));
        if found.as_deref() == Some(&wanted) {
            report.checked += 1;
        } else {
            let later = std::iter::repeat_with(|| {
                std::thread::sleep(Duration::from_millis(100));
                fs::read_to_string(path).map(|found| found.len()).unwrap_or_default()
            });
            let later: Vec<usize> = later.take(20).collect();
            report.errors.push(format!(
                "{} bytes of {} right after closing, every 100 ms after that {later:?}",
                found.map_or(0, |found| found.len()),
                wanted.len()
            ));
            wanted.clear();
            report.run("truncate", || File::create(path));
        }
    }
    report
}
