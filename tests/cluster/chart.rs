//! `charts/juicefs-sidecar/`, by Helm itself: what it makes of values, and how it is installed, changed and taken away.

mod alerts;
mod cert_manager;
mod dashboard;
mod driver;
mod faults;
mod kubelet;
mod life;
mod rendered;
mod values;

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use juicefs_sidecar::offline::documents;
use serde_json::Value;

use super::manifests::NAMESPACE;

/// The release, as the documents have it.
const RELEASE: &str = "juicefs-sidecar";

/// Where the chart is.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/juicefs-sidecar")
}

/// Where Helm is, or would be.
fn program() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm/build");
    let output = Command::new(build).arg("--where").output().expect("tests/helm/build runs");
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
}

/// Definitions of others' custom resources that the chart may have objects of.
fn definitions() -> PathBuf {
    let mut name = program().into_os_string();
    name.push("-definitions");
    name.into()
}

/// Helm, if `make helm` has built it. The gate insists on it.
pub(crate) fn helm() -> Option<Command> {
    let program = program();
    if program.exists() {
        let mut command = Command::new(program);
        // Its caches and settings, if it wants any, are not those of who runs the tests.
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, &home);
        }
        command.env_remove("KUBECONFIG");
        return Some(command);
    }
    assert!(env::var_os("CI").is_none(), "there is no {}: run `make helm`", program.display());
    // Past the capture of test output, so that a run that passes says it too.
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED {test}: no Helm to test with; `make helm` builds one");
    None
}

/// `helm template` with more arguments.
fn template(arguments: &[&str]) -> Option<Output> {
    let mut command = helm()?;
    command.args(["template", RELEASE]).arg(folder()).args(["--namespace", NAMESPACE]).args(arguments);
    Some(command.output().unwrap())
}

/// The objects that are rendered with these arguments.
fn rendered(arguments: &[&str]) -> Option<Vec<Value>> {
    let output = template(arguments)?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    Some(objects(&String::from_utf8(output.stdout).unwrap()))
}

/// The objects of a text.
fn objects(text: &str) -> Vec<Value> {
    let documents = documents::parse("rendered", text).unwrap();
    let values = documents.into_iter().map(|document| document.value);
    values.filter(Value::is_object).collect()
}

/// What Helm says against rendering with these arguments.
fn refused(arguments: &[&str]) -> Option<String> {
    let output = template(arguments)?;
    assert!(!output.status.success(), "{arguments:?} is taken");
    Some(String::from_utf8(output.stderr).unwrap())
}

/// An object of a kind and name; there is one.
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}
