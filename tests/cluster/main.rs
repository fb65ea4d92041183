//! Against a real Kubernetes control plane; `tests/kubernetes/README.md` says which.

#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod certificates;
mod chaos;
mod chart;
mod check;
#[path = "../webhook/client.rs"]
mod client;
mod control_plane;
mod controller;
mod crash;
mod events;
mod explained;
mod file_system;
mod golden;
mod host_network;
mod hostile;
mod hostile_pods;
mod injection;
mod installation;
mod janitor;
mod jobs;
mod largest;
mod lifetime;
mod manifests;
mod migration;
mod neighbour;
mod objects;
#[path = "../properties/pods.rs"]
mod pods;
mod program;
mod provision;
mod registration;
mod rights;
mod running;
mod secrets;
mod serve;
mod service;
#[path = "../properties/settings.rs"]
mod settings;
mod shapes;
mod support;
mod watching;
