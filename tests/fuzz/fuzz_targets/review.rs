//! Any bytes as the body of an admission request: an answer or a refusal, never a panic.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|body: &[u8]| check::check(body));
