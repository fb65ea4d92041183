//! Commands of resilient mode as they are really read: by the kubelet, then by `jfs-agent run`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use juicefs_sidecar::{
    client::{Needs, POD_UID, Script, word::Word},
    inject::resilient,
};
use proptest::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::kubelet;

/// Long enough for the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);
const UID: &str = "0b8f7c5e-0000-4000-8000-1a2b3c4d5e6f";
/// A secret that means something to everybody who might read it once more.
const SECRET: &str = r#"{mountpoint}$(metaurl)","x":"\ it's"#;

/// A run directory with a place for one volume, and a program that records its arguments; gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("agent-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("run/data/client")).unwrap();
        let scratch = Self(path);
        let program =
            format!("#!/bin/sh\nprintf '%s\\0' \"$@\" >{0}.new\nmv {0}.new {0}\n", scratch.path("record"));
        fs::write(scratch.path("program"), program).unwrap();
        fs::set_permissions(scratch.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// An agent that is told to stop, and waited for, when it is no longer needed.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}

/// What the recording program gets when the agent runs it before the client.
fn arguments(scratch: &Scratch, words: Vec<Word<'_>>) -> Vec<String> {
    let record = scratch.path("record");
    let _ = fs::remove_file(&record);
    let mut first = vec![Word::literal(scratch.path("program"))];
    first.extend(words);
    let script = Script {
        preparation: vec![first],
        mount: vec![Word::literal("true"), resilient::mount_point()],
        needs: Needs::default(),
        warnings: Vec::new(),
    };
    let command = resilient::command(&script).unwrap();
    let command = command.iter().map(|word| {
        // Values of the container's environment must not get here: others may read the container's command.
        let word = kubelet::expand(word, |_| Some("EXPANDED".to_owned()));
        String::from_utf8(word).unwrap()
    });
    let _agent = Agent(
        Command::new(env!("CARGO_BIN_EXE_jfs-agent"))
            .args(["run", "--volume=data", &format!("--run-dir={}", scratch.path("run"))])
            .args(command)
            .stderr(Stdio::null())
            .env("secretkey", SECRET)
            .env(POD_UID, UID)
            .spawn()
            .unwrap(),
    );
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = fs::read_to_string(&record) {
            return text.split_terminator('\0').map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "the command was not run");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn values_arrive_once_and_whole() {
    let scratch = Scratch::new("values");
    let words = vec![
        Word::literal("--secret-key=").and_variable("secretkey"),
        Word::literal("{secretkey}").and_pod_uid().and("{{"),
        Word::literal(""),
        Word::literal("$(secretkey)$$"),
    ];
    let wanted = [format!("--secret-key={SECRET}"), format!("{{secretkey}}{UID}{{{{"), String::new()];
    let arrived = arguments(&scratch, words);
    assert_eq!(arrived[..3], wanted);
    assert_eq!(arrived[3..], ["$(secretkey)$$"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_arrives_as_it_is(texts in prop::collection::vec(r#"([{}$()"\\' \n]|[a-z,=é😀]){0,12}"#, 1..5)) {
        let scratch = Scratch::new("any");
        let words = texts.iter().map(|text| Word::literal(text.as_str())).collect();
        prop_assert_eq!(arguments(&scratch, words), texts);
    }
}
