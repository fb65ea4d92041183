//! Clients that end by a word in a file, as `dash` and `bash` read their script.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use juicefs_sidecar::volume::Settings;

use crate::{kubelet, script::script_until};

/// Ends well when it is told to, as the client does.
const CLIENT: &str = "#!/bin/bash\ntrap 'exit 0' TERM\n: >\"$STARTED\"\nwhile :; do sleep 0.05; done\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of its own with a client and the file of the word, which is empty.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Self {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("word-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let client = directory.join("mount.juicefs");
        fs::write(&client, CLIENT).unwrap();
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("word"), "").unwrap();
        Self(directory)
    }

    /// The container's script after the kubelet, with our client in place of the real one.
    fn start(&self, shell: &str) -> Child {
        let word = self.0.join("word");
        let script = script_until(&[("name", "jfs")], &Settings::default(), "/jfs/x", word.to_str().unwrap());
        let text = kubelet::expand_word(&script.command[2], "");
        let text = text.into_string().unwrap().replace("/sbin/", &format!("{}/", self.0.display()));
        let mut command = Command::new(shell);
        command.args(["-c", &text]).env("STARTED", self.0.join("started"));
        command.spawn().expect(shell)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn until(what: &str, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !question() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_lives_until_there_is_a_word_and_ends_well() {
    for shell in ["dash", "bash"] {
        let stage = Stage::new(shell);
        let mut client = stage.start(shell);
        until("the client", || stage.0.join("started").exists());
        // It looks once a second.
        thread::sleep(Duration::from_millis(1500));
        assert!(client.try_wait().unwrap().is_none(), "{shell}: it ended before the word");
        fs::write(stage.0.join("word"), "true").unwrap();
        until("the client to end", || client.try_wait().unwrap().is_some());
        assert_eq!(client.wait().unwrap().code(), Some(0), "{shell}");
        // Started again, it has nothing to do.
        fs::remove_file(stage.0.join("started")).unwrap();
        assert_eq!(stage.start(shell).wait().unwrap().code(), Some(0), "{shell}");
        assert!(!stage.0.join("started").exists(), "{shell}");
    }
}
