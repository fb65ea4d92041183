//! What a snapshot is known by, and where it lies. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use crate::{identifier::is_uid, worker::SubPath};

/// The directory of snapshots, in the root of each file system. No volume is made in it, and none that has it, or
/// something in it, is removed with its data.
pub const DIRECTORY: &str = ".snapshots";

/// A snapshot: its file system, and its directory there. Whoever can name one names no path by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The UUID of the file system, by its metadata.
    file_system: String,
    /// The UID of the `VolumeSnapshotContent` that the snapshot was taken for.
    snapshot: String,
}

impl Handle {
    /// The handle of a snapshot; none where one of the two cannot be part of it.
    pub fn new(file_system: &str, snapshot: &str) -> Option<Self> {
        let of = |text: &str| is_uid(text).then(|| text.to_owned());
        Some(Self { file_system: of(file_system)?, snapshot: of(snapshot)? })
    }

    /// Reads a handle, which anybody may have written.
    pub fn read(text: &str) -> Option<Self> {
        let (file_system, snapshot) = text.split_once('/')?;
        Self::new(file_system, snapshot)
    }

    /// The UUID of the file system.
    pub fn file_system(&self) -> &str {
        &self.file_system
    }

    /// Whether the snapshot was taken for the content of this UID.
    pub fn is_of(&self, uid: &str) -> bool {
        self.snapshot == uid
    }

    /// Its directory.
    pub fn path(&self) -> Option<SubPath> {
        SubPath::try_from(format!("{DIRECTORY}/{}", self.snapshot)).ok()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.file_system, self.snapshot)
    }
}

/// Whether a directory is that of snapshots, or in it.
pub fn is_among_snapshots(directory: &str) -> bool {
    directory.split('/').find(|part| !part.is_empty()) == Some(DIRECTORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_leads_to_one_directory_and_nowhere_else() {
        let handle = Handle::read("a-1/b-2").unwrap();
        assert_eq!((handle.file_system(), handle.to_string().as_str()), ("a-1", "a-1/b-2"));
        assert_eq!(handle.path().unwrap().as_str(), ".snapshots/b-2");
        assert!(handle.is_of("b-2") && !handle.is_of("b-20") && !handle.is_of("a-1"));
        let long = format!("a/{}", "b".repeat(65));
        for text in [
            "",
            "/",
            "a",
            "a/",
            "/b",
            "a//b",
            "a/b/c",
            "a/..",
            "../b",
            "a/.",
            "a/b\n",
            "a/b ",
            "a/ü",
            "a/b\0",
            "a|b",
            "snapshot-1|pvc-1",
            &long,
        ] {
            assert_eq!(Handle::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_directory_of_snapshots_is_told_by_its_whole_name() {
        for directory in [".snapshots", "/.snapshots/", ".snapshots/a", "//.snapshots/a/b"] {
            assert!(is_among_snapshots(directory), "{directory:?}");
        }
        for directory in ["", "/", ".snapshots1", ".snapshot", "a/.snapshots", "snapshots"] {
            assert!(!is_among_snapshots(directory), "{directory:?}");
        }
    }
}
