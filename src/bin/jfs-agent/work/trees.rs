//! Whole trees: removed, cloned, and whether they are there. All of it is done by the client, by inode: no link of
//! those that are in a tree, or on the way to it, leads it away.

use super::{client::Job, mount::Mount, request::Outcome};
use juicefs_sidecar::worker::{Failed, Kind, SubPath, symptom, words};

/// What a client does on request.
const REMOVE: u32 = 1002;
const CLONE: u32 = 1006;

/// That owners, groups and modes are kept.
const PRESERVE: u8 = 2;

/// Whether a directory is there.
pub(super) fn find(job: &Job<'_>, path: &SubPath) -> Outcome<()> {
    let mut mount = Mount::start(job)?;
    let found = mount.directory(path.as_str());
    mount.end()?;
    found.map(drop)
}

/// Removes a directory with its quota and everything in it.
pub(super) fn remove(job: &Job<'_>, path: &SubPath) -> Outcome<()> {
    // Fails on anything that is not a directory and on whatever leads through a link.
    if !job.delete_quota(path)? {
        return Ok(());
    }
    let mut mount = Mount::start(job)?;
    let (parent, name) = path.split();
    let parent = mount.directory(&parent)?;
    let removed = mount.control(REMOVE, &[parent], name, b"");
    mount.end()?;
    removed
}

/// Makes a directory what another one is; the client shows it when it is complete, and not before.
pub(super) fn clone(job: &Job<'_>, from: &SubPath, to: &SubPath) -> Outcome<()> {
    let version = words::Command { words: vec!["version".to_owned()], environment: Vec::new() };
    if !symptom::clones(&job.run(&version, None)?) {
        return Err(Failed::new(Kind::Unsupported, "the client is older than 1.3, and clones differently"));
    }
    let mut mount = Mount::start(job)?;
    let source = mount.directory(from.as_str())?;
    let around = mount.directory(&from.split().0)?;
    let (parent, name) = to.split();
    let parent = mount.directory(&parent)?;
    let cloned = mount.control(CLONE, &[source, around, parent], name, &[0, 0, PRESERVE]);
    mount.end()?;
    cloned
}
