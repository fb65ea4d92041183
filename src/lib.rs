//! The engine of juicefs-sidecar: given a pod and the storage objects around it, the pod with its JuiceFS clients.
//!
//! Data flows one way: request → [`pod`] (a lean view) → [`volume`] (which claims are JuiceFS, and everything
//! about each, through [`volume::Lookup`]) → [`inject`] (a plan, then JSON Patch operations) → response.
//! `volume`, `client`, `inject` and `config` do no I/O and know no clock; [`admission`] and [`cli`] are the thin
//! shells around them and share everything but the `Lookup`.
#![cfg(feature = "engine")]

pub mod admission;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod identifier;
pub mod inject;
pub mod map;
pub mod notation;
pub mod offline;
pub mod outcome;
pub mod pod;
pub mod telemetry;
pub mod tls;
pub mod volume;
