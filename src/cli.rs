//! cli

pub mod process;
pub mod webhook;
