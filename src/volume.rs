//! Which volumes of a pod are JuiceFS, and everything about each one. Pure: no I/O, no clock.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod attributes;
pub mod cache;
mod class;
pub mod exit_order;
pub mod objects;
mod options;
pub mod pattern;
pub mod quantity;
pub mod resolve;
mod resources;
pub mod secret;
pub mod settings;

use std::sync::Arc;

pub use objects::{Claim, Node, PersistentVolume, StorageClass};
pub use resolve::{Resolved, resolve};
pub use secret::{Edition, SecretError, UserSecret};
pub use settings::Settings;

/// The storage objects around a pod, from files or from a cluster's caches.
///
/// Answers are immediate and never fail: what is not known is `None`.
pub trait Lookup {
    /// A PersistentVolumeClaim.
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>>;
    /// A PersistentVolume.
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    /// Every PersistentVolume of a driver with this handle; more than one only if something went wrong.
    fn volumes_with_handle(&self, driver: &str, handle: &str) -> Vec<Arc<PersistentVolume>>;
    /// A StorageClass.
    fn class(&self, name: &str) -> Option<Arc<StorageClass>>;
    /// The class of claims that name none, if the cluster has one.
    fn default_class(&self) -> Option<Arc<StorageClass>>;
    /// The volume whose `claimRef` names a claim.
    fn volume_reserved_for(&self, namespace: &str, claim: &str) -> Option<Arc<PersistentVolume>>;
    /// A volume of the driver without class and without `claimRef` that the claim's selector matches.
    fn free_volume_for(&self, claim: &Claim, driver: &str) -> Option<Arc<PersistentVolume>>;
    /// What a user secret says, or why it says nothing.
    fn user_secret(&self, namespace: &str, name: &str) -> Option<Result<Arc<UserSecret>, SecretError>>;
    /// A Node, for `nodeSelector` in the ConfigMap.
    fn node(&self, name: &str) -> Option<Arc<Node>>;
    /// The lowest kubelet version (`major`, `minor`) among the nodes, `None` when no node is known.
    fn oldest_kubelet(&self) -> Option<(u32, u32)>;
}
