//! One case: what goes in, and what comes out of the command line and the webhook's code.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use juicefs_sidecar::{
    admission::{self, Endpoint},
    config::{Config, Process},
    inject::{self, Engine, Family, Subject},
    notation::Version,
    offline::{Manifests, documents, render},
    outcome::Code,
    pod::Pod,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    answer::{describe, patch_of, review_of},
    expected::{self, Files},
    schema,
    scratch::Scratch,
};

/// The namespace of documents that say none.
const NAMESPACE: &str = "default";

/// `case.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    about: String,
    review: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default = "yes")]
    webhook: bool,
    #[serde(default = "yes")]
    valid: bool,
}

fn yes() -> bool {
    true
}

pub(crate) struct Case {
    name: String,
    folder: PathBuf,
    description: Description,
}

/// What came of a case.
#[derive(Default)]
struct Outcome {
    files: Files,
    /// Documents that have to be valid.
    documents: Vec<Value>,
}

/// What a program wrote and how it ended.
struct Run {
    stdout: String,
    stderr: String,
    code: i32,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names of all cases, in order.
pub(crate) fn names() -> Vec<String> {
    let folders = fs::read_dir(root().join("tests/golden")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = folders
        .filter(|folder| folder.path().join("case.yaml").exists())
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

impl Case {
    pub(crate) fn read(name: &str) -> Result<Self, String> {
        let folder = root().join("tests/golden").join(name);
        let text = fs::read_to_string(folder.join("case.yaml")).map_err(|error| error.to_string())?;
        let description: Description =
            serde_saphyr::from_str(&text).map_err(|error| format!("case.yaml: {error}"))?;
        if description.about.is_empty() {
            return Err("case.yaml says nothing".to_owned());
        }
        Ok(Self { name: name.to_owned(), folder, description })
    }

    /// Runs the case and compares what comes out with what is expected, or makes it the expectation.
    pub(crate) fn check(&self, update: bool) -> Result<(), String> {
        let outcome = match &self.description.review {
            Some(review) => self.run_review(review),
            None => self.run_input(),
        }?;
        if update {
            expected::update(&self.folder, &outcome.files)?;
        } else {
            expected::compare(&self.folder, &outcome.files)?;
        }
        if self.description.valid { outcome.documents.iter().try_for_each(schema::check) } else { Ok(()) }
    }

    fn run_review(&self, review: &str) -> Result<Outcome, String> {
        let body = fs::read(root().join("tests/reviews").join(review)).map_err(|error| error.to_string())?;
        let review: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let answer = self.ask(&body)?;
        let mut outcome = Outcome::default();
        if review["request"]["operation"] == "CREATE" {
            let mut pod = review["request"]["object"].clone();
            // Offline the pod's own UID stands for the request's.
            pod["metadata"]["uid"] = review["request"]["uid"].clone();
            let scratch = Scratch::new(&self.name);
            let run = self.inject(&scratch.write("input.json", &pod.to_string()));
            self.agree(&answer, &pod, &run)?;
            outcome.documents = parse(&run.stdout)?;
        }
        outcome.files.insert("answer.yaml", render::yaml(&describe(&answer, true)));
        Ok(outcome)
    }

    fn run_input(&self) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let input = fs::read_to_string(self.folder.join("input.yaml")).map_err(|error| error.to_string())?;
        let run = self.inject(Path::new("input.yaml"));
        if let [pod] = parse(&input)?.as_slice()
            && pod["kind"] == "Pod"
            && self.description.webhook
        {
            let answer = self.ask(review_of(pod).to_string().as_bytes())?;
            self.agree(&answer, pod, &run)?;
            outcome.files.insert("answer.yaml", render::yaml(&describe(&answer, false)));
        }
        outcome.documents = parse(&run.stdout)?.into_iter().flat_map(items).collect();
        if run.code == 2 && !run.stdout.is_empty() {
            return Err(format!("input was not understood, yet stdout is not empty:\n{}", run.stdout));
        }
        if run.code != 2 && run.stdout != input {
            outcome.files.insert("output.yaml", run.stdout);
        }
        if !run.stderr.is_empty() || run.code != 0 {
            outcome.files.insert("stderr.txt", format!("{}exit {}\n", run.stderr, run.code));
        }
        Ok(outcome)
    }

    /// The command line and the answer have to agree; what was injected has to stay, and to come out again.
    fn agree(&self, answer: &Value, pod: &Value, run: &Run) -> Result<(), String> {
        let response = &answer["response"];
        if (response["allowed"] == false) != (run.code == 1) {
            return Err(format!("exit code {} but the webhook answers {response}\n{}", run.code, run.stderr));
        }
        let patched = match patch_of(answer) {
            Some(patch) => apply(pod, &patch)?,
            None => pod.clone(),
        };
        if parse(&run.stdout)? != [patched.clone()] {
            return Err(format!(
                "the command line wrote\n{}\nbut the patched pod is\n{patched:#}",
                run.stdout
            ));
        }
        if response["auditAnnotations"]["decision"] != Code::Injected.as_str() {
            return Ok(());
        }
        self.again(&patched)?;
        let undo = inject::uninject(&patched).map_err(|refusal| refusal.to_string())?;
        let undone = undo.ok_or("the injected pod is not recognised as such")?;
        let undone = apply(&patched, &undone.operations().map_err(|error| error.to_string())?)?;
        if undone == *pod { Ok(()) } else { Err(format!("uninject gives\n{undone:#}\ninstead of\n{pod:#}")) }
    }

    /// Injecting what is injected has to change nothing.
    fn again(&self, patched: &Value) -> Result<(), String> {
        let text = patched.to_string();
        let pod: Pod<'_> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let subject = Subject {
            pod: &pod,
            object: &|| Ok(patched.to_string().into()),
            namespace: patched["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE),
            identity: patched["metadata"]["uid"].as_str(),
            family: self.family(),
        };
        let decision = self.with_engine(|engine| engine.decide(&subject))?;
        if decision.code == Code::AlreadyInjected && decision.patch.is_empty() {
            return Ok(());
        }
        let patch = decision.patch.to_json();
        let patch = String::from_utf8_lossy(&patch);
        Err(format!("injecting again: {} {} {patch}", decision.code, decision.message))
    }

    /// The webhook's answer, which `juicefs-sidecar review` has to give too, to the byte.
    fn ask(&self, body: &[u8]) -> Result<Value, String> {
        let answer =
            self.with_engine(|engine| admission::answer(body, Endpoint::Inject(self.family()), engine))?;
        let run = finish(self.command("review").stdin(Stdio::piped()), body);
        if run.stdout.trim_end().as_bytes() != answer.body.trim_ascii_end() {
            let answered = String::from_utf8_lossy(&answer.body);
            return Err(format!("review writes\n{}{}\nbut the webhook\n{answered}", run.stdout, run.stderr));
        }
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    }

    fn inject(&self, file: &Path) -> Run {
        let mut command = self.command("inject");
        finish(command.arg("-f").arg(file).stdin(Stdio::null()), &[])
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
        command.current_dir(&self.folder).arg(subcommand);
        for path in self.cluster() {
            command.arg("--cluster").arg(path);
        }
        command.args(["--config", self.config()]).args(&self.description.args);
        command
    }

    /// Relative to the case's folder, as a user would give it.
    fn config(&self) -> &'static str {
        if self.folder.join("config.yaml").exists() { "config.yaml" } else { "../config.yaml" }
    }

    /// Relative to the case's folder, as a user would give it.
    fn cluster(&self) -> Vec<&'static str> {
        let shared = if self.description.review.is_some() { "../../reviews/cluster" } else { "../cluster" };
        let own = self.folder.join("cluster.yaml").exists().then_some("cluster.yaml");
        [shared].into_iter().chain(own).collect()
    }

    fn with_engine<T>(&self, ask: impl FnOnce(&Engine<'_>) -> T) -> Result<T, String> {
        let mut cluster = Vec::new();
        for path in self.cluster() {
            cluster.extend(read(&self.folder.join(path))?);
        }
        let (manifests, _) = Manifests::gather(&cluster, NAMESPACE).map_err(|error| error.to_string())?;
        let config =
            fs::read_to_string(self.folder.join(self.config())).map_err(|error| error.to_string())?;
        let (config, _) = Config::parse(&config).map_err(|error| error.to_string())?;
        let mut arguments = self.description.args.iter();
        let kubernetes =
            arguments.find(|argument| *argument == "--kube-version").and_then(|_| arguments.next());
        let kubernetes = kubernetes.and_then(|text| text.parse::<Version>().ok());
        let process = Process { kubernetes, ..Process::default() };
        Ok(ask(&Engine { catalog: &manifests.catalog, config: &config, process: &process, explain: false }))
    }

    fn family(&self) -> Family {
        let serverless = self.description.args.iter().any(|argument| argument == "--serverless");
        if serverless { Family::Serverless } else { Family::Node }
    }
}

fn apply(document: &Value, patch: &json_patch::Patch) -> Result<Value, String> {
    let mut changed = document.clone();
    json_patch::patch(&mut changed, patch).map_err(|error| format!("the patch does not apply: {error}"))?;
    Ok(changed)
}

fn finish(command: &mut Command, input: &[u8]) -> Run {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input says why on stderr.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().unwrap();
    Run {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn parse(text: &str) -> Result<Vec<Value>, String> {
    let documents = documents::parse("output", text).map_err(|error| format!("{error}\n{text}"))?;
    Ok(documents.into_iter().map(|document| document.value).collect())
}

/// The documents of a file, or of the files of a folder.
fn read(path: &Path) -> Result<Vec<documents::Document>, String> {
    let files = if path.is_dir() {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![path.to_owned()]
    };
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        all.extend(documents::parse(&file.to_string_lossy(), &text).map_err(|error| error.to_string())?);
    }
    Ok(all)
}

/// The items of a `List`, or the document itself.
fn items(document: Value) -> Vec<Value> {
    match document["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![document],
    }
}
