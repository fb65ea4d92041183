//! Any bytes as the body of an admission request: an answer or a refusal, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = serde_json::from_slice::<juicefs_sidecar::pod::Pod<'_>>(body);
});
