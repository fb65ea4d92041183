//! Signals as something to poll: a handler that marks them and writes a byte to a pipe.

use crate::{
    failure::{During, Failure, Result},
    foreign,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use std::{
    ffi::c_int,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The writable end of the pipe; never closed.
static PIPE: OnceLock<OwnedFd> = OnceLock::new();
static STOP: AtomicBool = AtomicBool::new(false);

/// The readable end of the pipe.
pub(crate) struct Signals(OwnedFd);

/// Only atomic loads and stores and one write(2): all of it may be done in a signal handler.
extern "C" fn note(number: c_int) {
    if number != Signal::CHILD.as_raw() {
        STOP.store(true, Ordering::SeqCst);
    }
    if let Some(pipe) = PIPE.get() {
        // A full pipe wakes the reader as well.
        _ = rustix::io::write(pipe, &[0]);
    }
}

impl Signals {
    /// Installs the handlers for SIGTERM, SIGINT and SIGCHLD; called once.
    pub(crate) fn install() -> Result<Self> {
        let (reader, writer) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).during(|| "make a pipe for signals")?;
        if PIPE.set(writer).is_err() {
            return Err(Failure::new("signals are handled already"));
        }
        for number in [Signal::TERM, Signal::INT, Signal::CHILD] {
            if !foreign::handle(number, note) {
                return Err(Failure::new(format!("cannot handle signal {}", number.as_raw())));
            }
        }
        Ok(Self(reader))
    }

    /// Empties the pipe; call before looking at what happened, so that nothing is missed.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 64];
        while matches!(rustix::io::read(&self.0, &mut buffer), Ok(count) if count > 0) {}
    }

    /// Whether the process was told to stop.
    pub(crate) fn stop_requested() -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
