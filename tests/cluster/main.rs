//! Against a real Kubernetes control plane; `tests/kubernetes/README.md` says which.

#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod control_plane;
mod controller;
mod golden;
mod host_network;
mod injection;
mod installation;
mod lifetime;
mod manifests;
mod neighbour;
mod objects;
mod program;
mod registration;
mod rights;
mod service;
mod watching;
