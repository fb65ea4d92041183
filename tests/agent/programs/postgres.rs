//! `PostgreSQL` with its data on the mount, as it is without configuration, but for frequent checkpoints.

use super::work::{Place, Program, missing, patiently, run_command};
use crate::process::Process;
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    outside: PathBuf,
    server: Option<Process>,
}

/// Where Debian has the programs of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is missing: run tests/tools/setup")
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take()
            && server.ended().is_none()
        {
            // Ends at once, with its processes and its shared memory.
            server.signal(Signal::QUIT);
            server.end();
        }
    }
}

impl Postgres {
    pub(crate) fn new(place: &Place) -> Self {
        let outside = place.outside.join("postgres");
        Self { programs: programs(), data: place.mount.join("postgres"), outside, server: None }
    }

    /// The words that run one of the programs as the user whose data it is: it refuses to be root.
    fn words(&self, program: &str) -> Vec<String> {
        let user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"];
        let user = user.into_iter().chain(["--pdeathsig", "KILL"]).map(str::to_owned);
        user.chain([self.programs.join(program).to_str().unwrap().to_owned()]).collect()
    }

    fn command(&self, program: &str) -> Command {
        let words = self.words(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/").env("LC_ALL", "C");
        command
    }

    fn ask(&self, statement: &str) -> Result<String, String> {
        let mut command = self.command("psql");
        command.arg("-h").arg(&self.outside).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
        run_command(command.args(["-c", statement]))
    }

    /// Starts it again if it has ended.
    fn see_to_the_server(&mut self) -> Result<(), String> {
        if self.server.as_mut().is_some_and(|server| server.ended().is_none()) {
            return Ok(());
        }
        let ended = self.server.take().is_some();
        let mut words = self.words("postgres");
        words.extend(["-D".into(), self.data.to_str().unwrap().into()]);
        words.extend(["-k".into(), self.outside.to_str().unwrap().into()]);
        for setting in ["listen_addresses=", "checkpoint_timeout=30s", "max_wal_size=32MB"] {
            words.extend(["-c".into(), setting.into()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.server = Some(Process::start(&words, &self.outside.with_extension("log")));
        if ended { Err("the server ended".into()) } else { Ok(()) }
    }
}

/// Gives a directory to the user whose data it is.
fn give(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| error.to_string())?;
    run_command(Command::new("chown").arg("postgres:postgres").arg(path)).map(drop)
}

impl Program for Postgres {
    fn prepare(&mut self) -> Result<(), String> {
        if !self.data.exists() {
            give(&self.outside)?;
            give(&self.data)?;
            let mut command = self.command("initdb");
            command.args(["--no-sync", "--data-checksums", "--auth=trust", "-U", "postgres", "-D"]);
            run_command(command.arg(&self.data))?;
        }
        patiently("postgres to be ready", || {
            self.see_to_the_server()?;
            self.ask("CREATE TABLE IF NOT EXISTS lines (name TEXT PRIMARY KEY, content TEXT)")
        });
        Ok(())
    }

    fn work(&mut self, name: &str) -> Result<(), String> {
        self.see_to_the_server()?;
        self.ask(&format!("INSERT INTO lines VALUES ('{name}', repeat('{name}', 50))")).map(drop)
    }

    fn verify(&mut self, acknowledged: &[String]) -> Vec<String> {
        let found = patiently("postgres to have recovered", || {
            self.see_to_the_server()?;
            self.ask("SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT name FROM lines")
        });
        missing(acknowledged, found.lines())
    }
}
