//! The engine of juicefs-sidecar: given a pod and the storage objects around it, the pod with its JuiceFS clients.
//!
//! Data flows one way: request → [`pod`] (a lean view) → [`volume`] (which claims are JuiceFS, and everything
//! about each, from a [`volume::Catalog`]) → [`inject`] (a plan, then JSON Patch operations) → response.
//! `volume`, `client`, `inject` and `config` do no I/O and know no clock; [`admission`] and [`cli`] are the thin
//! shells around them and share everything but who fills the catalogue.
//!
//! All of this is behind the feature `engine`, for the agent is built without it and has nothing but [`worker`].

#[cfg(feature = "engine")]
pub mod admission;
#[cfg(feature = "engine")]
pub mod check;
#[cfg(feature = "engine")]
pub mod cli;
#[cfg(feature = "engine")]
pub mod client;
#[cfg(feature = "engine")]
pub mod cluster;
#[cfg(feature = "engine")]
pub mod config;
#[cfg(feature = "engine")]
pub mod controller;
#[cfg(feature = "engine")]
pub mod identifier;
#[cfg(feature = "engine")]
pub mod inject;
#[cfg(feature = "engine")]
pub mod map;
#[cfg(feature = "engine")]
pub mod migration;
#[cfg(feature = "engine")]
pub mod notation;
#[cfg(feature = "engine")]
pub mod offline;
#[cfg(feature = "engine")]
pub mod outcome;
#[cfg(feature = "engine")]
pub mod pod;
#[cfg(feature = "engine")]
pub mod redact;
#[cfg(feature = "engine")]
pub mod running;
#[cfg(feature = "engine")]
mod slip;
#[cfg(feature = "engine")]
pub mod support;
#[cfg(feature = "engine")]
pub mod telemetry;
#[cfg(feature = "engine")]
pub mod tls;
#[cfg(feature = "engine")]
pub mod volume;
pub mod worker;
