//! git, as it is without configuration.

use super::work::{Place, Program, missing, run_command};
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};

/// So many commits to a collection of garbage.
const COMMITS_TO_A_COLLECTION: u64 = 10;

/// What a command that was interrupted leaves in the way of the next, which says so.
const LOCKS: [&str; 5] =
    ["index.lock", "HEAD.lock", "refs/heads/main.lock", "packed-refs.lock", "gc.pid.lock"];

pub(crate) struct Git {
    repository: PathBuf,
    count: u64,
}

impl Git {
    pub(crate) fn new(place: &Place) -> Self {
        Self { repository: place.mount.join("repository"), count: 0 }
    }

    fn git(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new("git");
        // Nothing of the machine's own configuration.
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
        command.args(["-c", "user.name=tester", "-c", "user.email=tester@example.com"]);
        command.arg("-C").arg(&self.repository).args(words);
        run_command(&mut command)
    }

    fn commit(&mut self, name: &str) -> Result<(), String> {
        let path = self.repository.join(format!("file-{}", self.count % 20));
        let written = File::create(&path)
            .and_then(|mut file| file.write_all(format!("{name}\n").repeat(50).as_bytes()));
        written.map_err(|error| format!("writing a file: {error}"))?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", name])?;
        self.count += 1;
        if self.count.is_multiple_of(COMMITS_TO_A_COLLECTION) {
            self.git(&["gc", "--quiet"]).map_err(|error| format!("gc: {error}"))?;
        }
        Ok(())
    }
}

impl Program for Git {
    fn prepare(&mut self) -> Result<(), String> {
        if !self.repository.exists() {
            fs::create_dir(&self.repository).map_err(|error| error.to_string())?;
            self.git(&["init", "--quiet", "--initial-branch=main"])?;
        }
        Ok(())
    }

    fn work(&mut self, name: &str) -> Result<(), String> {
        let outcome = self.commit(name);
        if outcome.is_err() {
            // What who uses it does then.
            for lock in LOCKS {
                _ = fs::remove_file(self.repository.join(".git").join(lock));
            }
        }
        outcome
    }

    fn verify(&mut self, acknowledged: &[String]) -> Vec<String> {
        let mut lost = match self.git(&["log", "--format=%s", "main"]) {
            Ok(log) => missing(acknowledged, log.lines()),
            Err(error) => vec![format!("log: {error}")],
        };
        lost.extend(self.git(&["fsck", "--full", "--no-dangling"]).err());
        lost
    }
}
