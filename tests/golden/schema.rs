//! Results against the schema of Kubernetes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use serde_json::Value;

/// The version of the API server that the recorded reviews come from.
const KUBERNETES: &str = "1.36";

/// What `kubernetes-validate --strict` says against documents, each given with the name of its case.
///
/// One process for all of them, since it reads a large schema first.
pub(crate) fn complaints(documents: &[(String, Value)]) -> Vec<String> {
    if documents.is_empty() {
        return Vec::new();
    }
    let scratch = Scratch::new("schema");
    let files = documents.iter().enumerate().map(|(index, (case, document))| {
        scratch.write(&format!("{case}.{index}.json"), &document.to_string())
    });
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/kubernetes-validate");
    let run = Command::new(&tool).args(["--strict", "--quiet", "-k", KUBERNETES]).args(files).output();
    let output = match run {
        Ok(output) => output,
        Err(error) => return vec![format!("{} cannot be run ({error}): `make setup`", tool.display())],
    };
    let mut complaints: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if !output.status.success() && complaints.is_empty() {
        complaints.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    complaints
}

/// A folder that goes away with the value.
pub(crate) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
