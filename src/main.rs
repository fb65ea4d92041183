//! The `juicefs-sidecar` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    juicefs_sidecar::cli::run()
}
