//! Results against the schema of Kubernetes.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use serde_json::Value;

/// The version of the API server that the recorded reviews come from.
const KUBERNETES: &str = "1.36";

/// `validate.py`, one process for all cases, since it reads a large schema first. It ends with its input, which is
/// this process's end at the latest.
static VALIDATOR: LazyLock<Mutex<io::Result<Validator>>> = LazyLock::new(|| Mutex::new(Validator::start()));

struct Validator {
    _process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Validator {
    fn start() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(root.join(".tools/venv/bin/python3"))
            .arg(root.join("tests/golden/validate.py"))
            .arg(KUBERNETES)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (input, output) = input.zip(output).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { _process: process, input, output: BufReader::new(output) })
    }

    fn ask(&mut self, document: &Value) -> io::Result<String> {
        writeln!(self.input, "{document}")?;
        let mut complaint = String::new();
        match self.output.read_line(&mut complaint)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(serde_json::from_str(&complaint)?),
        }
    }
}

/// Fails with what the schema, read strictly, has against a document.
pub(crate) fn check(document: &Value) -> Result<(), String> {
    let mut validator = VALIDATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let complaint = match validator.as_mut() {
        Ok(validator) => validator.ask(document).map_err(|error| format!("validate.py: {error}"))?,
        Err(error) => return Err(format!("validate.py cannot be run ({error}): `make setup`")),
    };
    if complaint.is_empty() { Ok(()) } else { Err(format!("not valid: {complaint}\n{document:#}")) }
}
