//! The API server: how it is reached, and what is read from it.
//!
//! [`Caches`] keep a [`Catalog`](crate::volume::Catalog) up to date by watching; [`Live`] reads what they do not have yet; the
//! configuration and the secrets that volumes name are followed one by one.

pub mod bucket;
pub mod caches;
mod certificate;
pub mod client;
mod configuration;
pub(crate) mod follow;
mod live;
pub(crate) mod pages;
mod secrets;
mod slim;
mod snapshot;

pub use caches::{Caches, NoCaches, Settings, follow_storage};
pub use certificate::serving_certificate;
pub use live::Live;
pub use snapshot::Snapshot;
