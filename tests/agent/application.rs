//! The application of a test pod: a process of its own that works on the mount and reports what it saw.

use crate::{container::Application, pod::Pod, programs, silence};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

/// What an application saw.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Operations that were tried.
    pub(crate) operations: u64,
    /// Those that failed, and how.
    pub(crate) errors: Vec<String>,
    /// Descriptors open for writing that did not survive a crash, JuiceFS's own limit.
    pub(crate) bad_descriptors: u64,
    /// Renames that were carried out by a client that died before it answered, and then again by the next, which
    /// found nothing to rename. No keeper of a mount can tell; what matters is that the effect is there.
    pub(crate) repeated: u64,
    /// The longest operation, in milliseconds.
    pub(crate) longest: u64,
    /// Files whose every byte was acknowledged and checked at the end.
    pub(crate) checked: u64,
}

impl Report {
    /// Runs an operation and takes note of it.
    pub(crate) fn run<T>(&mut self, what: &str, operation: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let begin = Instant::now();
        let outcome = operation();
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap();
        self.longest = self.longest.max(took);
        self.operations += 1;
        match outcome {
            Ok(value) => Some(value),
            Err(error) if error.raw_os_error() == Some(9) && matches!(what, "write" | "fsync" | "close") => {
                self.bad_descriptors += 1;
                None
            }
            Err(error) => {
                self.errors.push(format!("{what} (after {took} ms): {error}"));
                None
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.errors.extend(other.errors);
        self.bad_descriptors += other.bad_descriptors;
        self.repeated += other.repeated;
        self.longest = self.longest.max(other.longest);
        self.checked += other.checked;
    }
}

/// The process; run by the tests with a plan, not by hand.
#[test]
#[ignore = "the application's side of other tests"]
fn process() {
    let Ok(plan) = std::env::var("JFS_TEST_PLAN") else { return };
    let pod = PathBuf::from(std::env::var("JFS_TEST_POD").unwrap());
    let mount = pod.join("application");
    let finish = pod.join("application-may-finish");
    let is_up = || fs::write(pod.join("application-is-up"), "").unwrap();
    let report = match plan.as_str() {
        "programs" => json!(programs::work::run(&pod, &finish, is_up)),
        "verify programs" => {
            is_up();
            json!(programs::work::verify(&pod))
        }
        "store" => json!(programs::store::run(&mount, &finish, is_up)),
        plan => json!(report(plan, &mount, &finish, is_up)),
    };
    fs::write(pod.join("report.json"), report.to_string()).unwrap();
}

impl Application {
    /// Tells it to finish; what it reports, if it works by one of the plans of [`report`].
    pub(crate) fn finish(self, pod: &Pod) -> Report {
        self.finish_with(pod)
    }
}

/// The plans that one report tells all of.
fn report(plan: &str, mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    match plan {
        "busy" => busy(mount, finish, is_up),
        "writers" => writers(mount, finish, is_up),
        "abandoned" => abandoned(mount, finish, is_up),
        "journal" => silence::journal(mount, finish, is_up),
        "lister" => silence::lister(mount, finish, is_up),
        "left open" => silence::left_open(mount, finish, is_up),
        "lock owner" => silence::lock_owner(mount, finish, is_up),
        other => panic!("no such plan: {other}"),
    }
}

/// A file that stays open, and a look at the mount: both have to fail once the mount was given up.
fn abandoned(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let mut report = Report::default();
    let mut file = File::create(mount.join("abandoned")).unwrap();
    file.write_all(b"written").unwrap();
    is_up();
    crate::process::wait_until("the mount to have been given up", || finish.exists());
    let outcomes = [
        ("write", file.write_all(b"more")),
        ("fsync", file.sync_all()),
        ("stat", fs::metadata(mount).map(drop)),
    ];
    for (what, outcome) in outcomes {
        match outcome.map_err(|error| error.raw_os_error()) {
            // ENOTCONN; EIO and ECONNABORTED are what the kernel says of what had been begun.
            Err(Some(107 | 5 | 103)) => report.checked += 1,
            other => report.errors.push(format!("{what}: {other:?}")),
        }
    }
    report
}

/// Several threads that open, write, fsync, close, rename, stat, read, list and remove.
fn busy(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let directories: Vec<PathBuf> = (0..3).map(|thread| mount.join(format!("busy-{thread}"))).collect();
    for directory in &directories {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("steady"), content("steady", 0)).unwrap();
    }
    is_up();
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for directory in &directories {
            scope.spawn(|| {
                let report = busy_thread(directory, finish);
                total.lock().unwrap().add(report);
            });
        }
    });
    total.into_inner().unwrap()
}

/// Content that names where it belongs.
fn content(name: &str, version: u64) -> Vec<u8> {
    format!("{name} {version} ").repeat(300).into_bytes()
}

fn busy_thread(directory: &Path, finish: &Path) -> Report {
    let mut report = Report::default();
    let steady = directory.join("steady");
    let reader = report.run("open", || File::open(&steady)).expect("the file that was just made");
    let mut acknowledged = BTreeMap::new();
    let mut round = 0;
    while !finish.exists() {
        round += 1;
        let name = format!("file-{}", round % 50);
        let (fresh, path) = (directory.join(format!("{name}.new")), directory.join(&name));
        let wanted = content(&name, round);
        if write_file(&mut report, &fresh, &wanted) {
            let mut repeated = false;
            let renamed = report.run("rename", || match fs::rename(&fresh, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    repeated = true;
                    if fs::read(&path)? == wanted { Ok(()) } else { Err(error) }
                }
                outcome => outcome,
            });
            report.repeated += u64::from(repeated);
            // Whether one that failed has happened is not known until the next.
            match renamed {
                Some(()) => acknowledged.insert(name, round),
                None => acknowledged.remove(&name),
            };
        }
        report.run("stat", || fs::metadata(&steady));
        report.run("list", || fs::read_dir(directory).map(Iterator::count));
        report.run("read", || {
            let mut found = vec![0; content("steady", 0).len()];
            reader.read_exact_at(&mut found, 0)?;
            if found == content("steady", 0) { Ok(()) } else { Err(io::Error::other("wrong content")) }
        });
        report.run("statfs", || rustix::fs::statfs(directory).map_err(io::Error::from));
    }
    for (name, round) in acknowledged {
        let found = report.run("check", || fs::read(directory.join(&name)));
        if found.is_some_and(|found| found == content(&name, round)) {
            report.checked += 1;
        } else {
            report.errors.push(format!("{name}: not what was written in round {round}"));
        }
    }
    report
}

/// Writes a file and has it acknowledged; false when its descriptor did not survive, which is tried again later.
fn write_file(report: &mut Report, path: &Path, content: &[u8]) -> bool {
    let Some(mut file) = report.run("open", || File::create(path)) else { return false };
    let (first, second) = content.split_at(content.len() / 2);
    let done = report.run("write", || file.write_all(first)).is_some()
        && report.run("write", || file.write_all(second)).is_some()
        && report.run("fsync", || file.sync_all()).is_some();
    report.run("close", || rustix::io::dup(&file).map(drop).map_err(io::Error::from));
    done
}

/// Files that stay open for writing all the time: appended to, sought in, read back.
fn writers(mount: &Path, finish: &Path, is_up: impl FnOnce()) -> Report {
    let mut report = Report::default();
    let path = |number| mount.join(format!("open-{number}"));
    let mut files: Vec<File> = (0..4)
        .map(|number| {
            let mut options = File::options();
            report.run("open", || options.create(true).read(true).write(true).open(path(number))).unwrap()
        })
        .collect();
    is_up();
    let mut lines = 0_u64;
    while !finish.exists() {
        for (number, file) in files.iter_mut().enumerate() {
            // The descriptor's own offset is what says where this goes.
            let line = format!("{number}:{lines:010}\n");
            report.run("append", || file.write_all(line.as_bytes()));
            if lines.is_multiple_of(5) {
                report.run("sync", || file.sync_data());
            }
        }
        lines += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    for (number, mut file) in files.into_iter().enumerate() {
        let wanted: Vec<String> = (0..lines).map(|line| format!("{number}:{line:010}\n")).collect();
        let wanted = wanted.concat();
        let offset = report.run("tell", || file.stream_position());
        let mut found = String::new();
        report.run("rewind", || file.seek(SeekFrom::Start(0)));
        report.run("read back", || file.read_to_string(&mut found));
        report.run("final sync", || file.sync_all());
        if offset == Some(wanted.len() as u64) && found == wanted {
            report.checked += 1;
        } else {
            report.errors.push(format!(
                "open-{number}: {} bytes at offset {offset:?}, {} wanted",
                found.len(),
                wanted.len()
            ));
        }
    }
    report
}
