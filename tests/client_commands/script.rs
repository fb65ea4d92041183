//! Scripts as the planner gets them.

use std::collections::BTreeMap;

use juicefs_sidecar::{
    client::{Container, Needs},
    config::Process,
    inject::shell,
    volume::{Settings, UserSecret},
};

/// What a client's container runs.
pub(crate) struct Script {
    pub(crate) command: Vec<String>,
    pub(crate) needs: Needs,
}

/// The script for a user secret of these keys and values.
pub(crate) fn script(secret: &[(&str, &str)], settings: &Settings, mount_point: &str) -> Script {
    made(secret, settings, mount_point, None)
}

/// The same for a client that ends by a word in a file.
pub(crate) fn script_until(
    secret: &[(&str, &str)],
    settings: &Settings,
    mount_point: &str,
    file: &str,
) -> Script {
    made(secret, settings, mount_point, Some(file))
}

fn made(secret: &[(&str, &str)], settings: &Settings, mount_point: &str, until: Option<&str>) -> Script {
    let data: BTreeMap<String, Vec<u8>> =
        secret.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    let (facts, process) = (UserSecret::parse(&data).expect("the user secret is good"), Process::default());
    let script = juicefs_sidecar::client::script(&facts, settings, Container::of_root(mount_point), &process)
        .expect("the values fit a command line");
    Script { command: shell::command(&script, until).expect("no value has a NUL byte"), needs: script.needs }
}
