//! `SQLite`, by Python's module, every transaction synchronous.

use super::work::{Place, Program, missing, patiently, run_command};
use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/programs/sqlite.py");

pub(crate) struct Sqlite {
    database: PathBuf,
    journal: &'static str,
    locking: &'static str,
    python: Option<Python>,
    /// What was asked last got a no.
    is_refused: bool,
}

/// The process that has the database open.
struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Python {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Python {
    fn start(sqlite: &Sqlite) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "python3", SCRIPT]).arg(&sqlite.database);
        command.args([sqlite.journal, sqlite.locking]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, name: &str) -> std::io::Result<String> {
        writeln!(self.input, "{name}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Sqlite {
    pub(crate) fn new(place: &Place, name: &str, journal: &'static str, locking: &'static str) -> Self {
        Self {
            database: place.mount.join(format!("{name}.db")),
            journal,
            locking,
            python: None,
            is_refused: false,
        }
    }

    fn query(&self, statement: &str) -> Result<String, String> {
        let script = "import sqlite3, sys\n\
                      for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(row[0])";
        run_command(Command::new("python3").args(["-c", script]).arg(&self.database).arg(statement))
    }
}

impl Program for Sqlite {
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn work(&mut self, name: &str) -> Result<(), String> {
        let mut python = self.python.take().unwrap_or_else(|| Python::start(self));
        let answer = python.ask(name).map_err(|error| error.to_string())?;
        if answer.is_empty() {
            return Err("python ended".into());
        }
        let was_refused = std::mem::replace(&mut self.is_refused, answer != "ok");
        // What a new connection does not end, a new process does: SQLite may have kept a descriptor, or count with a lock,
        // of the connection before.
        let is_over = was_refused && self.is_refused;
        if !is_over {
            self.python = Some(python);
        }
        match answer.as_str() {
            "ok" => Ok(()),
            _ if is_over => {
                Err(format!("{answer}, with a new connection too: the process has to be started again"))
            }
            _ => Err(answer),
        }
    }

    fn verify(&mut self, acknowledged: &[String]) -> Vec<String> {
        // Locks of sessions that are gone may still be there.
        let found = patiently("a database that opens", || {
            self.query("SELECT name FROM lines NOT INDEXED").or_else(|error| {
                if error.contains("locked") { Err(error) } else { Ok(format!("cannot be read: {error}")) }
            })
        });
        // What is broken is told before what is missing.
        let broken = match self.query("PRAGMA integrity_check") {
            Ok(found) if found == "ok\n" => None,
            other => Some(format!("integrity: {other:?}")),
        };
        broken.into_iter().chain(missing(acknowledged, found.lines())).collect()
    }
}
