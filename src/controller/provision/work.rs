//! What the provisioner has the worker do, and what it says of the worker's failures.

use std::time::Duration;

use crate::{
    client::access::Access,
    controller::worker::{NotDone, Worker},
    worker::{Failed, FileSystem, Identity, Kind, Request, SubPath, Task},
};

/// Everybody may write to a volume's directory, as in those that clients make (contract 5.2).
pub const MODE: u32 = 0o777;
/// What one command may take; the client itself tries for longer.
const LIMIT: Duration = Duration::from_secs(30);
/// What the removal of a tree, or its clone, may take before it is begun again.
const TREE_LIMIT: Duration = Duration::from_hours(12);

/// What halves the processor time of a command that ends soon: its heap grows up to a limit and is not collected
/// before. A thousand claims are a thousand of these.
const BRISK: [(&str, &str); 2] = [("GOGC", "off"), ("GOMEMLIMIT", "100MiB")];
/// Variables that a secret may have for that; the worker takes a limited number.
const MOST_VARIABLES: usize = 16;

/// Who makes a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// The worker: it is there, with its quota if one was wanted.
    Worker,
    /// The clients of pods, without a quota: the worker's own cannot.
    Clients,
}

/// Makes a directory, with a quota of so many bytes.
pub async fn make(
    worker: &Worker,
    access: &Access,
    path: SubPath,
    quota: Option<u64>,
) -> Result<MadeBy, NotDone> {
    match ask(worker, access, Task::Create { path, mode: MODE, quota }, LIMIT).await {
        Err(NotDone::Failed(Failed { kind: Kind::Unsupported, .. })) => Ok(MadeBy::Clients),
        answer => answer.map(|()| MadeBy::Worker),
    }
}

/// Which file system it is; `None` if it is gone.
pub async fn identify(worker: &Worker, access: &Access) -> Result<Option<Identity>, NotDone> {
    let file_system = brisk(access);
    if file_system.edition == crate::worker::Edition::Enterprise {
        // Its name is all that there is.
        return Ok(Some(Identity { uuid: String::new(), name: file_system.address }));
    }
    let request = Request { file_system, task: Task::Identify, limit: LIMIT.as_secs() };
    match worker.ask(&request).await {
        Err(NotDone::Failed(Failed { kind: Kind::NotFormatted, .. })) => Ok(None),
        answer => answer,
    }
}

/// Removes a directory and all that is in it.
pub async fn remove(worker: &Worker, access: &Access, path: SubPath) -> Result<(), NotDone> {
    once(worker, access, Task::Remove(path), TREE_LIMIT).await
}

/// Whether a directory is there.
pub async fn find(worker: &Worker, access: &Access, path: SubPath) -> Result<bool, NotDone> {
    match once(worker, access, Task::Find(path), LIMIT).await {
        Err(NotDone::Failed(Failed { kind: Kind::Missing, .. })) => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// Makes a directory what another one is, and those above it, with this mode; what is there already is left as it is.
pub async fn clone(
    worker: &Worker,
    access: &Access,
    from: SubPath,
    to: SubPath,
    mode: u32,
) -> Result<(), NotDone> {
    if let Some(above) = to.above() {
        once(worker, access, Task::Create { path: above, mode, quota: None }, LIMIT).await?;
    }
    match once(worker, access, Task::Clone { from, to }, TREE_LIMIT).await {
        Err(NotDone::Failed(Failed { kind: Kind::Exists, .. })) => Ok(()),
        answer => answer,
    }
}

async fn once(worker: &Worker, access: &Access, task: Task, limit: Duration) -> Result<(), NotDone> {
    let request = Request { file_system: access.file_system.clone(), task, limit: limit.as_secs() };
    worker.ask(&request).await.map(drop)
}

/// Asks, and makes the file system first if there is none yet, as the client of a pod would.
async fn ask(worker: &Worker, access: &Access, task: Task, limit: Duration) -> Result<(), NotDone> {
    let mut request = Request { file_system: brisk(access), task, limit: limit.as_secs() };
    let failed = match worker.ask(&request).await {
        Err(NotDone::Failed(failed)) => failed,
        answer => return answer.map(drop),
    };
    let Some(format) = access.format.as_ref().filter(|_| failed.kind == Kind::NotFormatted) else {
        return Err(NotDone::Failed(failed));
    };
    let task = std::mem::replace(&mut request.task, Task::Format(format.clone()));
    worker.ask(&request).await?;
    request.task = task;
    worker.ask(&request).await.map(drop)
}

/// The file system for a command that ends soon; what its secret says itself counts.
fn brisk(access: &Access) -> FileSystem {
    let mut file_system = access.file_system.clone();
    let variables = &mut file_system.environment;
    if variables.len() <= MOST_VARIABLES && !BRISK.iter().any(|(name, _)| variables.contains_key(*name)) {
        variables.extend(BRISK.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    file_system
}

/// What to do about a failure.
pub fn remedy(not_done: &NotDone) -> &'static str {
    let NotDone::Failed(failed) = not_done else {
        return "see that the worker runs beside the controller, and its log";
    };
    match failed.kind {
        Kind::MetadataUnreachable => {
            "see that the metadata engine runs and can be reached from the controller's pod"
        }
        Kind::WrongPassword => "correct the password or token in the user secret",
        Kind::NotFormatted => "make the file system (juicefs format), or name its storage in the user secret",
        Kind::StorageUnusable => "correct storage, bucket and keys in the user secret",
        Kind::NotADirectory => "take what is in the way out of the file system",
        Kind::Unsupported => "give the worker a client that can do it",
        Kind::PermissionDenied => "run the worker as root",
        Kind::Late => "see what the metadata engine and the object storage are busy with",
        Kind::CalledOff => "it is tried again",
        Kind::Exists => "take what is there out of the file system, or use another directory",
        Kind::Invalid | Kind::Missing | Kind::Other => "the worker's log has more",
    }
}
