//! PEM files: the certificate somebody else made, and the CA certificate we hand out.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustls::pki_types::CertificateDer;

use super::{
    Identity,
    pem::{self, BadIdentity, Malformed},
};

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// Not there, or not ours to read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Not what it should be.
    #[error("{}: {what}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong; never the contents.
        what: Malformed,
    },
    /// No place to put it.
    #[error("{}: cannot be written: {error}", path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Reads a certificate chain, leaf first, and a private key from PEM files.
pub fn read(certificate: &Path, key: &Path) -> Result<Identity, FileProblem> {
    let contents = |path: &Path, what: Malformed| FileProblem::Contents { path: path.to_owned(), what };
    pem::identity(&bytes(certificate)?, &bytes(key)?).map_err(|error| match error {
        BadIdentity::Certificate(what) => contents(certificate, what),
        BadIdentity::Key(what) => contents(key, what),
    })
}

/// Reads the certificates of a PEM file, of which there is at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    pem::certificates(&bytes(path)?).map_err(|what| FileProblem::Contents { path: path.to_owned(), what })
}

fn bytes(path: &Path) -> Result<Vec<u8>, FileProblem> {
    fs::read(path).map_err(|error| FileProblem::Unread { path: path.to_owned(), error })
}

/// Writes a file that everybody may read, in one step: a reader sees the old contents or the new.
pub fn publish(path: &Path, contents: &str) -> Result<(), FileProblem> {
    let unwritten = |error| FileProblem::Unwritten { path: path.to_owned(), error };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = fs::write(&beside, contents)
        .and_then(|()| fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        // What is left of a failure helps nobody; the failure itself is what is told.
        let _ = fs::remove_file(&beside);
        unwritten(error)
    })
}
