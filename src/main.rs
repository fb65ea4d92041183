//! The `juicefs-sidecar` command.
fn main() {}
