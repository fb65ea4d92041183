//! The API server: how it is reached, and what is read from it.

pub mod bucket;
pub mod client;
