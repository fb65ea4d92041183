//! redis with its log of writes on the mount, synchronous.

use super::work::{Place, Program, missing, patiently, run_command};
use crate::process::{Process, wait_until};
use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) struct Redis {
    directory: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    server: Option<Process>,
}

impl Redis {
    pub(crate) fn new(place: &Place) -> Self {
        let (directory, log) = (place.mount.join("redis"), place.outside.join("redis.log"));
        Self { directory, log, socket: place.outside.join("redis.sock"), server: None }
    }

    fn ask(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new("redis-cli");
        command.arg("-e").arg("-s").arg(&self.socket).args(words);
        run_command(&mut command)
    }

    /// Starts it again if it has ended; why it has.
    fn see_to_the_server(&mut self) -> Result<(), String> {
        if self.server.as_mut().is_some_and(|server| server.ended().is_none()) {
            return Ok(());
        }
        let ended = self.server.take().is_some();
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let place = |path: &Path| path.to_str().unwrap().to_owned();
        let (directory, socket) = (place(&self.directory), place(&self.socket));
        // Not on a port, which others may take while it is down. Its log is rewritten often, so that this is interrupted too.
        let words =
            ["redis-server", "--port", "0", "--unixsocket", &socket, "--dir", &directory, "--save", ""];
        let log = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-min-size", "32kb"];
        let words: Vec<&str> = words.into_iter().chain(log).collect();
        let server = self.server.insert(Process::start(&words, &self.log));
        wait_until("redis to listen or to end", || {
            server.ended().is_some() || UnixStream::connect(&self.socket).is_ok()
        });
        if ended {
            let last = said.lines().rfind(|line| line.contains(" # ")).unwrap_or_default();
            return Err(format!(
                "redis ended: {}",
                last.split(" # ").nth(1).unwrap_or("it does not say why")
            ));
        }
        Ok(())
    }
}

impl Program for Redis {
    fn prepare(&mut self) -> Result<(), String> {
        fs::create_dir_all(&self.directory).map_err(|error| error.to_string())
    }

    fn work(&mut self, name: &str) -> Result<(), String> {
        self.see_to_the_server()?;
        self.ask(&["SET", name, &name.repeat(20)]).map(drop)
    }

    fn verify(&mut self, acknowledged: &[String]) -> Vec<String> {
        let found = patiently("redis to have read its log", || {
            self.see_to_the_server()?;
            self.ask(&["KEYS", "*"])
        });
        let lost = missing(acknowledged, found.lines());
        self.server.take();
        lost
    }
}
