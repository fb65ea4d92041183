//! `jfs-agent release`: detaches mounts that nobody serves any more, without any privilege.
//!
//! A directory that is removed takes along what is mounted on it, in every mount namespace (Linux 3.18), as long as
//! nothing is mounted on it in the namespace of who removes it. So this runs in a container that does not see the mounts,
//! and it can do no harm: a directory with anything in it stays.

use crate::{
    arguments::Arguments,
    failure::{During, Failure, Result},
    log,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    io::Errno,
};
use std::process::ExitCode;

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let directory = arguments.require_directory("directory")?;
    let mountpoints = arguments.take_all("mountpoint");
    arguments.finish()?;
    if mountpoints.is_empty() {
        return Err(Failure::usage("--mountpoint is missing"));
    }
    let top = open(rustix::fs::CWD, &directory.to_string_lossy())
        .during(|| format!("open {}", directory.display()))?;
    let mut left = Vec::new();
    for mountpoint in &mountpoints {
        match release(&top, mountpoint) {
            Ok(()) => log::info(None, &format!("released {mountpoint}")),
            Err(Errno::NOENT) => log::info(None, &format!("{mountpoint} is not there")),
            Err(error) => left.push(format!("{mountpoint}: {error}")),
        }
    }
    if left.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::new(left.join("; "))) }
}

/// Removes `NAME` or `NAME/NAME`; links are not followed.
fn release(top: &OwnedFd, mountpoint: &str) -> rustix::io::Result<()> {
    match mountpoint.split_once('/') {
        None => remove(top, mountpoint),
        Some((parent, name)) => remove(&open(top, checked(parent)?)?, name),
    }
}

fn remove(parent: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    unlinkat(parent, checked(name)?, AtFlags::REMOVEDIR)
}

fn open(parent: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, path, flags, Mode::empty())
}

/// One step down, and no other.
fn checked(name: &str) -> rustix::io::Result<&str> {
    if matches!(name, "" | "." | "..") || name.contains('/') { Err(Errno::INVAL) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_empty_directories_one_or_two_steps_below_are_removed() {
        let top = std::env::temp_dir().join(format!("jfs-agent-release-{}", std::process::id()));
        for name in ["data/mnt", "full/mnt/file", "bare", "deep/mnt/below"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(top.join("full"), top.join("link")).unwrap();
        let opened = open(rustix::fs::CWD, top.to_str().unwrap()).unwrap();
        let outcomes = [
            ("data/mnt", Ok(())),
            ("data/mnt", Err(Errno::NOENT)),
            ("bare", Ok(())),
            ("full/mnt", Err(Errno::NOTEMPTY)),
            ("link/mnt", Err(Errno::NOTDIR)),
            ("deep/mnt/below", Err(Errno::INVAL)),
            ("../x", Err(Errno::INVAL)),
            ("data/..", Err(Errno::INVAL)),
            ("", Err(Errno::INVAL)),
        ];
        let seen = outcomes.map(|(path, _)| (path, release(&opened, path)));
        let left = top.join("full/mnt/file").exists();
        fs::remove_dir_all(&top).unwrap();
        assert_eq!(seen, outcomes);
        assert!(left);
    }
}
