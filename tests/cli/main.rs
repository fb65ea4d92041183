//! The real binary on small inputs.
#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod explain;
mod form;
mod inject;
mod input;
mod migration;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

/// A directory of its own for each test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("juicefs-sidecar-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.args(arguments).current_dir(directory);
    for name in
        ["DRIVER_NAME", "JUICEFS_MOUNT_IMAGE", "JUICEFS_CE_MOUNT_IMAGE", "JUICEFS_EE_MOUNT_IMAGE", "NO_COLOR"]
    {
        command.env_remove(name);
    }
    command
}

fn run(files: &[(&str, &str)], arguments: &[&str]) -> Ran {
    run_with(files, arguments, "")
}

fn run_with(files: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Ran {
    let directory = Directory::new(files);
    let mut child = command(&directory.0, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read it may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    Ran::from(child.wait_with_output().unwrap())
}

#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn ran(code: i32, stdout: &str, stderr: &str) -> Ran {
    Ran { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// As people write them: comments, quotes, flow style, a deeper margin, no line end at the end.
const WRITTEN: &str = "\
# head
apiVersion: apps/v1 # inline
kind: Deployment
metadata: {name: 'web', namespace: quickstart} # flow
spec:
    template:
        spec:
            containers:
            # the application
            - name: app   # app
              image: \"busybox\"   # renovate: datasource=docker
              volumeMounts: [{name: site, mountPath: /data}] # mounts
            volumes: # many
            - name: site
              persistentVolumeClaim:
                claimName: site";

const POD: &str =
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: web}\nspec: {containers: [{name: c}]}\n";

const NO_KIND: &str = "warning: no manifest of Kubernetes, it has no kind; printed as it is\n";
const NO_WORKLOAD: &str = "no workload among the manifests\n";

const REFUSED: &str = "hint: what was refused is printed as it was, without clients\n";

#[test]
fn help_shows_examples_and_the_version_is_told() {
    let help = run(&[], &["inject", "--help"]);
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    assert!(
        help.stdout.contains("juicefs-sidecar inject -f examples/quickstart/ -o diff"),
        "{}",
        help.stdout
    );
    assert!(!help.stdout.contains('\u{1b}'), "colours in a pipe");
    assert_eq!(
        run(&[], &["--version"]),
        ran(0, concat!("juicefs-sidecar ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&[], &["completion", shell]);
        assert_eq!((script.code, &*script.stderr), (Some(0), ""), "{shell}");
        assert!(script.stdout.contains("uninject") && script.stdout.contains("kube-version"), "{shell}");
    }
    let directory = Directory::new(&[("completion.bash", &run(&[], &["completion", "bash"]).stdout)]);
    let script = r#"source ./completion.bash
        registered=$(complete -p juicefs-sidecar); function=${registered##* -F }; function=${function%% *}
        COMP_WORDS=(juicefs-sidecar un); COMP_CWORD=1
        "$function" juicefs-sidecar un juicefs-sidecar; echo "${COMPREPLY[*]}""#;
    let bash = Command::new("bash").args(["-c", script]).current_dir(&directory.0).output();
    let bash = bash.expect("bash is there: `make setup`");
    assert_eq!(
        String::from_utf8_lossy(&bash.stdout),
        "uninject\n",
        "{}",
        String::from_utf8_lossy(&bash.stderr)
    );
}

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart");

fn explained(files: &[(&str, &str)], arguments: &[&str]) -> Value {
    let result = run(files, &[&["explain", "-o", "json"], arguments].concat());
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    serde_json::from_str(&result.stdout).unwrap()
}

fn quickstart(file: &str) -> String {
    std::fs::read_to_string(format!("{QUICKSTART}/{file}")).unwrap()
}
