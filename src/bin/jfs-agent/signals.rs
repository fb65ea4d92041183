//! Signals as something to poll: a handler that marks them and writes a byte to a pipe.
//!
//! rustix has no safe call for handlers or signalfd, and a blocked signal mask would be inherited by the client.
//! This module is the agent's only unsafe code.
#![expect(unsafe_code, reason = "signal(2) has no safe wrapper in std or rustix")]

use crate::failure::{Failure, Result};
use rustix::{
    fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd},
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use std::{
    ffi::c_int,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

static PIPE: AtomicI32 = AtomicI32::new(-1);
static STOP: AtomicBool = AtomicBool::new(false);

/// The readable end of the pipe.
pub(crate) struct Signals {
    reader: OwnedFd,
}

unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
}

/// What `signal` returns when it failed.
const FAILED: usize = usize::MAX;

/// Only atomics and one write(2): both may be used in a signal handler.
extern "C" fn note(number: c_int) {
    if number != Signal::CHILD.as_raw() {
        STOP.store(true, Ordering::SeqCst);
    }
    let pipe = PIPE.load(Ordering::SeqCst);
    if pipe >= 0 {
        // SAFETY: the pipe is opened before the handler is installed and never closed.
        let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
        _ = rustix::io::write(pipe, &[0]);
    }
}

impl Signals {
    /// Installs the handlers for SIGTERM, SIGINT and SIGCHLD; called once.
    pub(crate) fn install() -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|error| Failure::new(format!("pipe for signals: {error}")))?;
        // Never closed: the handler writes to it by number.
        PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
        for number in [Signal::TERM, Signal::INT, Signal::CHILD] {
            // SAFETY: the handler has the required type and does only what a handler may do.
            if unsafe { signal(number.as_raw(), note) } == FAILED {
                return Err(Failure::new(format!("cannot handle signal {}", number.as_raw())));
            }
        }
        Ok(Self { reader })
    }

    /// Empties the pipe; call before looking at what happened, so that nothing is missed.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 64];
        while matches!(rustix::io::read(&self.reader, &mut buffer), Ok(count) if count > 0) {}
    }

    /// Whether the process was told to stop.
    pub(crate) fn stop_requested() -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
