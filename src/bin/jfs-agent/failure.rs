//! What went wrong, in words for an operator, and the exit code that tells it apart.

use std::{fmt, process::ExitCode};

/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
/// A command that has to run before the client failed.
pub(crate) const FIRST_COMMAND: u8 = 70;
/// The client ended again and again before it served.
pub(crate) const CLIENT: u8 = 71;
/// The holder did not answer.
pub(crate) const HOLDER: u8 = 72;
/// The client crashed, and its mount was given up as the command line wants it.
pub(crate) const GIVEN_UP: u8 = 73;
/// Anything else, such as a system call that was refused.
const OTHER: u8 = 1;

/// A failure: what it says and what the process exits with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

/// The result of nearly everything here.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without a code of its own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: OTHER }
    }

    /// A mistake on the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).with_code(USAGE)
    }

    /// The same failure with another exit code.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What the process should exit with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Adds to an error what was being done.
pub(crate) trait During<T> {
    /// Turns the error into a [`Failure`] that reads `<what>: <error>`.
    fn during<W: fmt::Display>(self, what: impl FnOnce() -> W) -> Result<T>;
}

impl<T, E: fmt::Display> During<T> for std::result::Result<T, E> {
    fn during<W: fmt::Display>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{}: {error}", what())))
    }
}
