//! `jfs-agent` against the real JuiceFS client, the real kernel and real metadata engines.
//!
//! Needs root, `/dev/fuse` and what `tests/tools/setup` installs. Mount and process namespaces stand in for
//! containers; everything lives in namespaces of the test's own and goes with them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod application;
mod container;
mod crash;
mod exit;
mod faults;
mod holder;
mod hostile;
mod pod;
mod probes;
mod process;
mod programs;
mod silence;
mod upgrade;
mod worker;
