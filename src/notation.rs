//! How values are written, by Kubernetes, by Go and by us: quantities, durations, versions, modes, exit orders, crashes.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod duration;
pub mod exit_order;
pub mod mode;
pub mod on_crash;
pub mod quantity;
mod version;

pub use exit_order::ExitOrder;
pub use mode::Mode;
pub use on_crash::OnCrash;
pub use quantity::{Percentage, Quantity};
pub use version::{NotAVersion, Version};
