//! One request, from its first byte to its answer; a process of its own.

use super::{Options, client::Job, trees};
use crate::{
    arguments::Arguments,
    clock,
    failure::{During, Result},
    log,
    mask::Mask,
    packet::{self, wait},
    signals::Signals,
};
use juicefs_sidecar::worker::{
    Answer, Edition, Failed, FileSystem, Identity, Kind, LONGEST_LIMIT, LONGEST_REQUEST, Request, SubPath,
    Task, address, gibibytes, symptom,
    words::{self, Files},
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::BorrowedFd,
    fs::Mode,
    io::Errno,
    process::Signal,
};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long a request may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(2);

/// Most variables of a file system.
const MOST_VARIABLES: usize = 256;

/// Variables that decide what a program is, and not what it does.
const FORBIDDEN: [&str; 4] = ["LD_", "_FUSE_", "JFS_SUPER", "_JFS_"];

/// What a request comes to.
pub(super) type Outcome<T> = std::result::Result<T, Failed>;

/// Runs the command; the request is on standard input.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let options = Options::read(&mut arguments)?;
    arguments.finish()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .during(|| "follow the worker into its end")?;
    let signals = Signals::install()?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let socket = rustix::stdio::stdin();
    let begin = Instant::now();
    let read = read(socket, &signals);
    let label = read.as_ref().ok().map(|request| label(request).to_owned());
    let answer = match read.and_then(|request| carry_out(&request, &options, &signals, socket)) {
        Ok(identity) => Answer::Done { identity },
        Err(failed) => Answer::Failed(failed),
    };
    let took = clock::seconds(begin.elapsed());
    match &answer {
        Answer::Done { .. } => log::info(label.as_deref(), &format!("done after {took} s")),
        Answer::Failed(Failed { kind, message }) => {
            log::warn(label.as_deref(), &format!("failed after {took} s: {kind:?}: {message}"));
        }
    }
    let mut bytes = serde_json::to_vec(&answer).during(|| "write the answer")?;
    bytes.push(b'\n');
    // Who has left needs no answer. It is shorter than what the socket takes at once.
    _ = packet::send(socket, &bytes, &[]);
    Ok(ExitCode::SUCCESS)
}

/// What the log calls it.
fn label(request: &Request) -> &str {
    request.task.path().map_or(request.task.name(), SubPath::as_str)
}

/// Reads a line.
fn read(socket: BorrowedFd<'_>, signals: &Signals) -> Outcome<Request> {
    let refused = |reason: &str| Failed::new(Kind::Invalid, format!("the request {reason}"));
    let end = Instant::now() + ARRIVAL_LIMIT;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while bytes.last() != Some(&b'\n') {
        match rustix::io::read(socket, &mut part) {
            Ok(0) => return Err(refused("ended before its end")),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || Signals::stop_requested() {
                    return Err(refused("did not arrive in time"));
                }
                let mut descriptors =
                    [PollFd::new(&socket, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
                wait(&mut descriptors, Some(left));
            }
            Err(error) => return Err(refused(&format!("cannot be read: {error}"))),
        }
        if bytes.len() > LONGEST_REQUEST {
            return Err(refused("is too long"));
        }
    }
    // The error says where, not what is there.
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| refused(&cause(&error)))?;
    check(&request).map_err(|reason| refused(&reason))?;
    Ok(request)
}

/// What is wrong with the JSON; of a text that is there only that it is wrong.
fn cause(error: &serde_json::Error) -> String {
    format!("is not understood at column {}: {:?} error", error.column(), error.classify())
}

fn check(request: &Request) -> std::result::Result<(), String> {
    let FileSystem { address, environment, edition, .. } = &request.file_system;
    if !(1..=LONGEST_LIMIT).contains(&request.limit) {
        return Err(format!("has a limit of {} s; 1 to {LONGEST_LIMIT} are possible", request.limit));
    }
    if address.is_empty() || address.starts_with('-') || address.chars().any(char::is_control) {
        return Err("has an address that cannot be one".to_owned());
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.contains(|letter: char| {
                !letter.is_ascii_alphanumeric() && !matches!(letter, '_' | '-' | '.')
            })
    };
    if *edition == Edition::Enterprise && !is_name(address) {
        return Err("has a name of a file system that cannot be one".to_owned());
    }
    if environment.len() > MOST_VARIABLES {
        return Err(format!("has more than {MOST_VARIABLES} variables"));
    }
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err("has a variable that cannot be one".to_owned());
        }
        if FORBIDDEN.iter().any(|forbidden| name.starts_with(forbidden)) {
            return Err(format!("sets {name}, which is not the file system's to set"));
        }
    }
    match request.task {
        Task::Create { mode, .. } if mode > 0o777 => Err(format!("has a mode of {mode:o}; 777 is the most")),
        _ => Ok(()),
    }
}

fn carry_out(
    request: &Request,
    options: &Options,
    signals: &Signals,
    socket: BorrowedFd<'_>,
) -> Outcome<Option<Identity>> {
    let FileSystem { edition, address, environment, auth, configuration, rsa_key } = &request.file_system;
    let split = address::split(address)
        .map_err(|reason| Failed::new(Kind::Invalid, format!("the metadata engine's address {reason}")))?;
    let home = options.place(rustix::process::getpid());
    let place = Place::make(home, address, configuration.as_deref(), rsa_key.as_deref())
        .map_err(|failure| Failed::new(Kind::Other, failure.to_string()))?;
    let mut variables: Vec<(String, String)> =
        environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    variables.extend(split.password.map(|(name, value)| (name.to_owned(), value)));
    let client = match edition {
        Edition::Community => &options.client,
        Edition::Enterprise => &options.enterprise_client,
    };
    if !Path::new(client).exists() {
        return Err(Failed::new(
            Kind::Unsupported,
            format!("the worker has no client of this edition ({client})"),
        ));
    }
    let words = match &request.task {
        Task::Format(words) => words,
        _ => auth,
    };
    let with_address = words.iter().chain([address]).map(String::as_str);
    let job = Job {
        client,
        address: &split.address,
        home: &place.home,
        mask: Mask::new(with_address, variables.clone()),
        environment: variables,
        label: label(request),
        signals,
        socket,
        end: Instant::now() + Duration::from_secs(request.limit),
        limit: request.limit,
    };
    let invalid = |reason: String| Failed::new(Kind::Invalid, reason);
    if *edition == Edition::Enterprise && configuration.is_none() {
        let command = words::auth(auth, &request.file_system, place.files()).map_err(invalid)?;
        job.run(&command, None)?;
    }
    match &request.task {
        Task::Identify => return identify(&job, *edition).map(Some),
        Task::Format(words) => {
            let command = words::format(words, &request.file_system, job.address, place.files());
            job.run(&command.map_err(invalid)?, None)?;
        }
        Task::Create { path, mode, quota } => {
            let capacity = quota.map(|bytes| format!("--capacity={}", gibibytes(bytes)));
            let more = ["--create".to_owned()].into_iter().chain(capacity);
            let mode = Mode::from_raw_mode(*mode);
            match job.run(&job.quota("set", path, more), Some(mode)) {
                Err(failed) if quota.is_some() || !symptom::says_no_limit(&failed.message) => {
                    return Err(failed);
                }
                _ => {}
            }
        }
        Task::SetQuota { path, bytes } => {
            let capacity = format!("--capacity={}", gibibytes(*bytes));
            job.run(&job.quota("set", path, [capacity]), None)?;
        }
        Task::DeleteQuota(path) => _ = job.delete_quota(path)?,
        _ if *edition == Edition::Enterprise => {
            let reason = "the enterprise client is not known to do it without a mount";
            return Err(Failed::new(Kind::Unsupported, reason));
        }
        Task::Remove(path) => trees::remove(&job, path)?,
        Task::Find(path) => trees::find(&job, path)?,
        Task::Clone { from, to } => trees::clone(&job, from, to)?,
    }
    Ok(None)
}

/// Asks the client which file system it is; of its configuration nothing else is looked at.
fn identify(job: &Job<'_>, edition: Edition) -> Outcome<Identity> {
    if edition == Edition::Enterprise {
        let reason = "the name of an enterprise file system is all there is to know";
        return Err(Failed::new(Kind::Unsupported, reason));
    }
    let words = vec!["config".to_owned(), job.address.to_owned()];
    let command = words::Command { words, environment: Vec::new() };
    // Much of it is nobody's business, and not among the secrets of this request.
    let output = job.finish(job.start(&command, &[])?, "config", false)?;
    let field = |key: &str| {
        let mut lines = output.lines().map(|line| line.trim().trim_end_matches(','));
        let text = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix("\": "));
        text.and_then(|text| serde_json::from_str::<String>(text).ok())
    };
    match (field("\"UUID"), field("\"Name")) {
        (Some(uuid), Some(name)) => Ok(Identity { uuid, name }),
        _ => Err(Failed::new(Kind::Other, "the client did not say which file system it is")),
    }
}

/// What one request has in files.
struct Place {
    home: PathBuf,
    rsa_key: String,
    configurations: String,
}

impl Place {
    fn make(home: PathBuf, name: &str, configuration: Option<&str>, rsa_key: Option<&str>) -> Result<Self> {
        let make = |path: &Path| {
            fs::DirBuilder::new().mode(0o700).create(path).during(|| format!("make {}", path.display()))
        };
        make(&home)?;
        let configurations = home.join(".juicefs");
        make(&configurations)?;
        let key = home.join("rsa-key.pem");
        if let Some(rsa_key) = rsa_key {
            write(&key, rsa_key)?;
        }
        if let Some(configuration) = configuration {
            write(&configurations.join(format!("{name}.conf")), configuration)?;
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Ok(Self { rsa_key: text(key), configurations: text(configurations), home })
    }

    fn files(&self) -> Files<'_> {
        Files { rsa_key: &self.rsa_key, configurations: &self.configurations }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let file = File::options().create_new(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).during(|| format!("write {}", path.display()))
}
