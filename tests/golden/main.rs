//! Every case of `tests/golden/` through the command line and the webhook's code, each a test of its own; see the
//! README there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod case;
mod expected;
mod schema;
mod scratch;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let trials = case::names().into_iter().map(|name| {
        let case = name.clone();
        Trial::test(name, move || Ok(case::Case::read(&case)?.check(update)?))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
