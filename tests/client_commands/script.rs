//! Scripts as the planner gets them.

use std::collections::BTreeMap;

use juicefs_sidecar::{
    client::Script,
    config::Process,
    volume::{Settings, UserSecret},
};

/// The script for a user secret of these keys and values.
pub(crate) fn script(secret: &[(&str, &str)], settings: &Settings, mount_point: &str) -> Script {
    let data: BTreeMap<String, Vec<u8>> =
        secret.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    let facts = UserSecret::parse(&data).expect("the user secret is good");
    juicefs_sidecar::client::script(&facts, settings, mount_point, None, &Process::default())
        .expect("the values fit a command line")
}
