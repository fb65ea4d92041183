//! Pods on a real node: kubelet, containerd, runc, the JuiceFS client and redis. `make test-node` runs them.

#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../cluster/control_plane.rs"]
#[expect(dead_code, reason = "tests of the control plane ask more of it")]
mod control_plane;
mod counts;
mod jobs;
mod node;
mod outages;
mod pods;
#[path = "../cluster/program.rs"]
#[expect(dead_code, reason = "tests of the programs ask more of them")]
mod program;
#[path = "../cluster/service.rs"]
#[expect(dead_code, reason = "here there is one behind each Service, and it stays")]
mod service;
