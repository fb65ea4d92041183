//! The agent's only unsafe code: two calls into the C library for which there is no sound wrapper.
//!
//! `signal`: neither std nor rustix installs handlers, and a mask with signalfd would be inherited by the client.
//! `getsockopt(SO_PEERCRED)`: rustix 1.1 has it, but takes the process id for nonzero, and that of a peer in another
//! process namespace, which is every peer in a pod, is zero.
#![expect(unsafe_code, reason = "signal and SO_PEERCRED have no sound wrapper in std or rustix")]

use rustix::{
    fd::{AsFd, AsRawFd},
    process::Signal,
};
use std::ffi::{c_int, c_uint};

/// What is called when a signal arrives.
pub(crate) type Handler = extern "C" fn(c_int);

/// What `signal` returns when it failed.
const FAILED: usize = usize::MAX;

const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;

/// The kernel's `struct ucred`.
#[repr(C)]
#[derive(Default)]
struct Credentials {
    pid: c_int,
    uid: c_uint,
    gid: c_uint,
}

unsafe extern "C" {
    fn signal(number: c_int, handler: Handler) -> usize;
    fn getsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *mut Credentials,
        length: *mut c_uint,
    ) -> c_int;
}

/// Installs a handler, which must do nothing but what a signal handler may; whether that worked.
pub(crate) fn handle(number: Signal, handler: Handler) -> bool {
    // SAFETY: the type of the handler is what signal(2) requires; what it may do is said above, and the one there is
    // keeps to it.
    unsafe { signal(number.as_raw(), handler) != FAILED }
}

/// The user as which the peer of a Unix socket ran when it connected.
pub(crate) fn peer_uid(socket: impl AsFd) -> Option<u32> {
    let mut found = Credentials::default();
    let size = c_uint::try_from(size_of::<Credentials>()).ok()?;
    let mut length = size;
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: the value is as long as `length` says, both outlive the call, and any bytes make a valid value.
    let outcome = unsafe { getsockopt(number, SOL_SOCKET, SO_PEERCRED, &raw mut found, &raw mut length) };
    (outcome == 0 && length == size).then_some(found.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_socket_of_ours_is_ourselves() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_uid(one), Some(rustix::process::getuid().as_raw()));
        assert_eq!(peer_uid(std::fs::File::open("/dev/null").unwrap()), None);
    }
}
