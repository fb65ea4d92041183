//! What the process tells the world about itself: logs and metrics. Never a secret.

pub mod api;
pub mod controller;
pub mod logs;
pub mod metrics;

pub use api::ApiCalls;
pub use controller::ControllerMetrics;
pub use logs::{LogArguments, LogFormat};
pub use metrics::Metrics;

#[cfg(test)]
mod tests;
