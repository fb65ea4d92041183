//! Where things lie in the run directory that the containers of a pod share.
//!
//! `DIR/.bin` and `DIR/NAME` belong to the holder; `DIR/NAME/client` belongs to the volume's client. The holder
//! never opens a path in there for writing, so an unprivileged client cannot lead it anywhere.

use crate::failure::{During, Failure, Result};
use rustix::fs::{Gid, Uid};
use std::path::{Path, PathBuf};

/// Longest name of a volume; with it the paths of sockets stay below the kernel's 108 bytes.
const LONGEST_NAME: usize = 63;

/// One volume's place in the run directory.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    name: String,
}

impl Place {
    /// The place of the volume with this name.
    pub(crate) fn new(run_directory: &Path, name: &str) -> Result<Self> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        let sound = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed);
        if !sound || name.starts_with('.') {
            return Err(Failure::usage(format!(
                "--volume: {name:?} cannot be the name of a volume (letters, digits, - _ and . only, no . first; 63 at most)"
            )));
        }
        Ok(Self { directory: run_directory.join(name), name: name.to_owned() })
    }

    /// The name of the volume.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory that the holder owns.
    pub(crate) fn holder_directory(&self) -> &Path {
        &self.directory
    }

    /// The socket on which the holder serves.
    pub(crate) fn holder_socket(&self) -> PathBuf {
        self.directory.join("hold.sock")
    }

    /// The directory that the client owns.
    pub(crate) fn client_directory(&self) -> PathBuf {
        self.directory.join("client")
    }

    /// The socket on which the runner serves.
    pub(crate) fn runner_socket(&self) -> PathBuf {
        self.client_directory().join("run.sock")
    }

    /// The socket on which the JuiceFS client asks for its descriptor (`JFS_SUPER_COMM`).
    pub(crate) fn client_socket(&self) -> PathBuf {
        self.client_directory().join("comm.sock")
    }

    /// What the last client left for the next one.
    pub(crate) fn handover_file(&self) -> PathBuf {
        self.client_directory().join("handover.json")
    }

    /// The open handles in the client's own words; its path is given to the next client.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.client_directory().join("state.json")
    }

    /// Locked by the runner as long as it lives.
    pub(crate) fn runner_lock(&self) -> PathBuf {
        self.client_directory().join("run.lock")
    }

    /// What a crash has cost, until somebody was told.
    pub(crate) fn crash_report(&self) -> PathBuf {
        self.client_directory().join("crashed")
    }

    /// What a runner that gave up had to say.
    pub(crate) fn last_words(&self) -> PathBuf {
        self.client_directory().join("failed")
    }
}

/// Where the holder puts its own program for the client containers.
pub(crate) fn program(run_directory: &Path) -> PathBuf {
    // No volume can be called like that.
    run_directory.join(".bin/jfs-agent")
}

/// Gives a directory or file to the client's user.
pub(crate) fn give(path: &Path, client_uid: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(client_uid), Gid::from_raw(client_uid));
    rustix::fs::chown(path, Some(user), Some(group)).during(|| format!("chown {}", path.display()))
}

/// The volumes that have a place in the run directory.
pub(crate) fn volumes(run_directory: &Path) -> std::io::Result<Vec<Place>> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(run_directory)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && let Ok(place) = Place::new(run_directory, name)
            && entry.file_type()?.is_dir()
        {
            places.push(place);
        }
    }
    places.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_run_directory() {
        let long = "x".repeat(64);
        for name in ["", ".", "..", "a/b", "../a", ".bin", "a b", "a\0", long.as_str()] {
            assert!(Place::new(Path::new("/run"), name).is_err(), "{name:?}");
        }
        for name in ["data-0.x_y", "bin"] {
            assert!(Place::new(Path::new("/run"), name).is_ok(), "{name}");
        }
    }
}
