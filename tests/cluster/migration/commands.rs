//! The commands of `docs/migration.md`, and those that it takes to look after them.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{chart::helm, control_plane::ControlPlane};

use super::TEAM;

/// A directory in which they are run, with the programs they name.
pub(super) struct Commands {
    directory: PathBuf,
    kubeconfig: PathBuf,
    /// The fenced blocks of the page.
    blocks: Vec<String>,
    used: RefCell<BTreeSet<String>>,
}

impl Commands {
    /// None without Helm.
    pub(super) fn new(plane: &ControlPlane) -> Option<Self> {
        let helm = helm()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = plane.state().join("commands");
        let programs = directory.join("programs");
        fs::create_dir_all(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_juicefs-sidecar"), programs.join("juicefs-sidecar")).unwrap();
        symlink(root.join("charts"), directory.join("charts")).unwrap();
        script(&programs.join("kubectl"), &plane.kubectl());
        script(&programs.join("helm"), &helm);
        let page = fs::read_to_string(root.join("docs/migration.md")).unwrap();
        let blocks = page.split("```sh\n").skip(1);
        let blocks = blocks.map(|rest| rest.split_once("```").unwrap().0.trim().to_owned()).collect();
        Some(Self { directory, kubeconfig: plane.admin(), blocks, used: RefCell::default() })
    }

    /// Runs the block of the page that begins so.
    pub(super) fn page(&self, beginning: &str) -> String {
        let mut found = self.blocks.iter().filter(|block| block.starts_with(beginning));
        let block = found.next().unwrap_or_else(|| panic!("the page has no {beginning}"));
        assert!(found.next().is_none(), "the page has several of {beginning}");
        self.used.borrow_mut().insert(block.clone());
        self.run(&block.replace("my-app", TEAM))
    }

    /// The blocks of the page that were not run.
    pub(super) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        self.blocks.iter().filter(|block| !used.contains(*block)).cloned().collect()
    }

    /// Runs commands, each of which has to succeed.
    pub(super) fn run(&self, commands: &str) -> String {
        let path =
            format!("{}:{}", self.directory.join("programs").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-ec", commands]).current_dir(&self.directory);
        shell.env("PATH", path).env("KUBECONFIG", &self.kubeconfig);
        let output = shell.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}\n{told}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A command by a name.
fn script(path: &Path, command: &Command) {
    let mut text = "#!/bin/sh\n".to_owned();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            _ = writeln!(text, "export {}='{}'", name.display(), value.display());
        }
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
    _ = writeln!(text, "exec {} \"$@\"", words.join(" "));
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
