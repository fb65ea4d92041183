//! Generated scripts run by `dash` and `bash`, the client's programs replaced by ones that record their arguments.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use juicefs_sidecar::volume::{Settings, settings::Directory};
use proptest::prelude::*;

use crate::{kubelet, script::script};

const SHELLS: [&str; 2] = ["dash", "bash"];
const MOUNT_POINT: &str = "/jfs/test-volume";
const POD_UID: &str = "0b8f7c5e-0000-4000-8000-1a2b3c4d5e6f";
const RECORDER: &str =
    "#!/bin/sh\nprintf '%s\\0' \"$#\" \"${0##*/}\" \"$@\" >>\"$RECORD\"\nexit \"${STATUS:-0}\"\n";

/// Values that a careless quoting would change, cut, expand or run.
const HOSTILE: [&str; 24] = [
    "plain",
    "two words",
    "  ends  ",
    "it's",
    "'; exit 7 #",
    "say \"hi\"",
    "$HOME ${HOME} $1 $$ $",
    "$(exit 7)",
    "$$(exit 7)",
    "$(JFS_POD_UID)",
    "${metaurl}",
    "`exit 7`",
    "a\nb\n",
    "\n",
    "\t\r\x07\x1b[0m\x7f",
    ";&|<>()*#~!?[]{}^%",
    "back\\slash\\",
    "\\'",
    "$'ansi'",
    "ünï$çødé $é 🦀",
    "--leading=dash",
    "-",
    "*",
    "%s%n",
];

/// The arguments of every program that was run, its name first.
type Calls = Vec<Vec<OsString>>;

/// A directory of its own with the recording programs.
struct Stage {
    directory: PathBuf,
}

impl Stage {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shells-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for program in ["juicefs", "mount.juicefs", "cp", "ln"] {
            let path = directory.join(program);
            fs::write(&path, RECORDER).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { directory }
    }

    /// Runs a container's `command` after the kubelet with each shell, all at once: its exit code, and what it ran.
    fn run(&self, command: &[String], environment: &[(&str, &str)]) -> Vec<(&'static str, i32, Calls)> {
        assert_eq!(command[..2], ["sh", "-c"]);
        let script = kubelet::expand_word(&self.with_recorders(&command[2]), POD_UID);
        thread::scope(|scope| {
            let runs = SHELLS.map(|shell| {
                let script = &script;
                scope.spawn(move || {
                    let (status, calls) = self.run_with(shell, script, environment);
                    (shell, status, calls)
                })
            });
            runs.map(|run| run.join().unwrap()).into()
        })
    }

    fn run_with(&self, shell: &str, script: &OsStr, environment: &[(&str, &str)]) -> (i32, Calls) {
        let record = self.directory.join(format!("record-{shell}"));
        fs::write(&record, "").unwrap();
        let found = ["/bin", "/usr/bin"].iter().map(|directory| Path::new(directory).join(shell));
        let program = found.into_iter().find(|path| path.exists());
        let program = program.unwrap_or_else(|| panic!("{shell} is missing: run `make setup`"));
        let output = Command::new(program)
            .arg("-c")
            .arg(script)
            .env_clear()
            .env("PATH", &self.directory)
            .env("RECORD", &record)
            .envs(environment.iter().copied())
            .current_dir(&self.directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "{shell} complained about {}", script.display());
        (output.status.code().unwrap(), read_record(&fs::read(&record).unwrap()))
    }

    /// The script with the recorders in place of the programs, at the only two places where programs are named.
    fn with_recorders(&self, script: &str) -> String {
        let here = self.directory.to_str().unwrap();
        let mut script = script.to_owned();
        for program in ["/usr/local/bin/juicefs format ", "/usr/bin/juicefs auth "] {
            if let Some(rest) = script.strip_prefix(program) {
                script = format!(
                    "{here}{} {rest}",
                    program.trim_start_matches("/usr/local/bin").trim_start_matches("/usr/bin").trim_end()
                );
            }
        }
        let exec =
            script.rfind("exec /bin/mount.juicefs ").or_else(|| script.rfind("exec /sbin/mount.juicefs "));
        let exec = exec.expect("the script ends in an exec of the client");
        let (preparation, mount) = script.split_at(exec);
        let mount = mount.replacen("/sbin/", "/bin/", 1).replacen("/bin/", &format!("{here}/"), 1);
        format!("{preparation}{mount}")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Reads `count NUL name NUL argument NUL …` again and again.
fn read_record(record: &[u8]) -> Calls {
    let mut fields = record.split(|byte| *byte == 0).map(|field| OsString::from_vec(field.to_vec()));
    let mut calls = Vec::new();
    while let Some(count) = fields.next().filter(|count| !count.is_empty()) {
        let count: usize = count.to_str().unwrap().parse().unwrap();
        calls.push(fields.by_ref().take(count + 1).collect());
    }
    calls
}

fn settings(options: &[String], directory: &str) -> Settings {
    Settings {
        options: options.to_vec(),
        directory: Directory { path: directory.to_owned(), ephemeral: Some("scratch".into()) },
        ..Settings::default()
    }
}

/// A value of `format-options`, whose quotes are taken off as a shell would.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\"'\"'"))
}

/// Every place of the community command lines that takes a user's value, filled with this one.
fn community_gets(stage: &Stage, value: &str) {
    let option = value.replace(',', "");
    let settings = settings(&[format!("o={option}"), option.clone()], &option);
    let format_option = option.trim();
    let format_options = format!("x={},session-token=t", quoted(format_option));
    let mut secret = vec![
        ("name", "jfs"),
        ("metaurl", "m"),
        ("storage", value),
        ("bucket", value),
        ("access-key", value),
        ("compress", value),
        ("secret-key", "s"),
    ];
    if !format_option.is_empty() {
        secret.push(("format-options", &format_options));
    }
    let script = script(&secret, &settings, MOUNT_POINT);
    assert!(script.needs.pod_uid);
    // What the kubelet would take from the injected secret: as hostile as the rest.
    let environment = [("metaurl", value), ("secretkey", value), ("session_token", value)];

    let mut format: Vec<String> = vec!["juicefs".into(), "format".into()];
    // Without the line ends behind it, as `--from-file` leaves them.
    let plain = value.trim_end_matches(['\n', '\r']);
    format.extend(["storage", "bucket", "access-key", "compress"].map(|key| format!("--{key}={plain}")));
    format.extend([format!("--secret-key={value}"), value.to_owned(), "jfs".into()]);
    if !format_option.is_empty() {
        format.extend([format!("--x={format_option}"), format!("--session-token={value}")]);
    }
    let mut options = vec![format!("o={option}")];
    options.extend(Some(option.clone()).filter(|option| !option.is_empty()));
    let parent = option.trim_end_matches('/');
    let directory = if option.is_empty() { String::new() } else { format!("{parent}/") };
    options.push(format!("subdir={directory}ephemeral-{POD_UID}-scratch"));
    let mount = ["mount.juicefs", value, MOUNT_POINT, "-o", &options.join(",")].map(str::to_owned);

    let wanted =
        [format, mount.to_vec()].map(|call| call.into_iter().map(OsString::from).collect::<Vec<_>>());
    for (shell, status, calls) in stage.run(&script.command, &environment) {
        assert_eq!((status, &calls[..]), (0, &wanted[..]), "{shell} with {value:?}");
    }
}

#[test]
fn hostile_values_reach_the_community_client_unchanged() {
    let stage = Stage::new();
    for value in HOSTILE {
        community_gets(&stage, value);
    }
}

#[test]
fn hostile_values_reach_the_enterprise_client_unchanged() {
    let stage = Stage::new();
    for value in HOSTILE {
        let plain = value.trim_end_matches(['\n', '\r']);
        let name = format!("n{}", plain.replace('/', ""));
        let (option, format_option) = (value.replace(',', ""), value.replace(',', "").trim().to_owned());
        let format_options =
            if format_option.is_empty() { "y".into() } else { format!("x={},y", quoted(&format_option)) };
        let secret = [
            ("name", name.as_str()),
            ("token", "t"),
            ("access-key2", value),
            ("subdir", value),
            ("passphrase", "p"),
            ("format-options", &format_options),
            ("configs", "acl: /root/.acl"),
        ];
        let settings = Settings { options: vec![option.clone()], ..Settings::default() };
        let script = script(&secret, &settings, MOUNT_POINT);
        let mut auth = ["juicefs", "auth", &name].map(str::to_owned).to_vec();
        auth.extend(["access-key2", "subdir"].map(|key| format!("--{key}={plain}")));
        auth.extend(["token", "passphrase"].map(|key| format!("--{key}={value}")));
        auth.extend(Some(format!("--x={format_option}")).filter(|_| !format_option.is_empty()));
        auth.extend(["--y", "--conf-dir=/root/.juicefs"].map(str::to_owned));
        let links = ["group", "passwd"].map(|file| {
            ["ln".into(), "-sf".into(), format!("/root/.acl/{file}"), format!("/etc/{file}")].to_vec()
        });
        let options = format!("foreground,no-update,{option}");
        let mount = ["mount.juicefs", &name, MOUNT_POINT, "-o", &options].map(str::to_owned).to_vec();
        let wanted: Vec<Vec<OsString>> = [vec![auth], links.to_vec(), vec![mount]]
            .concat()
            .into_iter()
            .map(|call: Vec<String>| call.into_iter().map(OsString::from).collect())
            .collect();
        for (shell, status, calls) in stage.run(&script.command, &[("token", value), ("passphrase", value)]) {
            assert_eq!((status, &calls), (0, &wanted), "{shell} with {value:?}");
        }
    }
}

#[test]
fn a_ready_made_configuration_is_copied_under_any_name() {
    let stage = Stage::new();
    let secret = [("name", "it's $(exit 7)"), ("initconfig", "{}")];
    let script = script(&secret, &Settings::default(), MOUNT_POINT);
    for (shell, _, calls) in stage.run(&script.command, &[]) {
        let copy = ["cp", "/etc/juicefs/it's $(exit 7).conf", "/root/.juicefs"];
        assert_eq!(calls[0], copy.map(OsString::from), "{shell}");
        assert_eq!(calls[1][..2], ["mount.juicefs", "it's $(exit 7)"].map(OsString::from), "{shell}");
    }
}

#[test]
fn a_preparation_that_fails_stops_the_mount() {
    let stage = Stage::new();
    let community = [("name", "jfs"), ("metaurl", "m")];
    let enterprise = [("name", "jfs"), ("token", "t"), ("configs", "acl: /root/.acl")];
    for secret in [&community[..], &enterprise[..]] {
        let script = script(secret, &Settings::default(), MOUNT_POINT);
        for (shell, status, calls) in stage.run(&script.command, &[("STATUS", "3")]) {
            assert_eq!((status, calls.len()), (1, 1), "{shell}: {calls:?}");
        }
    }
}

#[test]
fn the_last_line_keeps_the_shape_that_tools_read() {
    let script = script(&[("name", "jfs"), ("metaurl", "m")], &Settings::default(), MOUNT_POINT);
    let last = script.command[2].lines().last().unwrap();
    let words: Vec<_> = last.strip_prefix("exec ").unwrap().split(' ').collect();
    assert_eq!(words, ["/bin/mount.juicefs", "\"${metaurl}\"", MOUNT_POINT]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_value_reaches_the_client_unchanged(value in "[^\0]{1,40}") {
        community_gets(&Stage::new(), &value);
    }

    #[test]
    fn any_mix_of_special_characters_reaches_the_client_unchanged(value in "([$(]{1,3}|[){}'\"`\\\\\n !*~;&|<>#aé-]){1,16}") {
        community_gets(&Stage::new(), &value);
    }
}
