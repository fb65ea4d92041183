//! Which volumes of a pod are JuiceFS, and everything about each one. Pure: no I/O, no clock.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod attributes;
pub mod backing;
pub(crate) mod by_name;
pub mod cache;
pub mod catalog;
pub(crate) mod class;
pub mod directory;
pub mod node;
pub mod objects;
mod options;
pub mod pattern;
pub mod resolve;
pub mod resolved;
mod resources;
pub mod secret;
pub mod settings;

pub(crate) use attributes::wanted_mode;
pub use catalog::Catalog;
pub use objects::{Claim, Node, PersistentVolume, StorageClass};
pub use resolve::resolve;
pub use resolved::Resolved;
pub(crate) use resolved::{CLAIM_VOLUME, EPHEMERAL_DIRECTORY, SHARED_VOLUME, claim_of_ephemeral};
pub use secret::{Edition, SecretError, UserSecret};
pub use settings::Settings;
