//! The controller: what the webhook needs and may not do itself, because it may not write.

pub mod lease;
pub mod registration;

/// The label that says who looks after an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value on objects of ours, and the field manager of what we apply.
pub const MANAGER: &str = "juicefs-sidecar";
