//! How values are written, by Kubernetes, by Go and by us: quantities, durations, versions, modes, exit orders.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod duration;
pub mod exit_order;
pub mod mode;
pub mod quantity;
mod version;

pub use exit_order::ExitOrder;
pub use mode::Mode;
pub use quantity::{Percentage, Quantity};
pub use version::{NotAVersion, Version};
