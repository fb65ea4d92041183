//! What pods leave on the node's own file system: the directories that their clients mounted in, and the mount itself
//! where the client was killed.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::super::watchdog::pod::Spec;
use crate::{
    identifier::{is_name, is_plain},
    inject::{
        MOUNT,
        status::{self, STATUS},
    },
};

/// Directories that one pod of ours removes.
const MOST_AT_ONCE: usize = 200;
/// Directories that are remembered, on all nodes together.
const LENGTH: usize = 20_000;
/// The longest name of a directory.
const LONGEST: usize = 255;

/// The node of a pod that has gone, and what it has left in the directory where we mount.
pub fn left(metadata: &ObjectMeta, spec: &Spec, mount_directory: &str) -> Option<(String, Vec<String>)> {
    let node = spec.node_name.as_deref().filter(|node| is_name(node))?;
    let injected = status::Status::parse(metadata.annotations.as_ref()?.get(STATUS)?).ok()?;
    let on_host = injected.volumes.iter().filter(|volume| volume.shared == "hostPath");
    let names: Vec<_> = on_host
        .filter_map(|volume| {
            let mut volumes = spec.volumes.iter().flatten();
            let source = volumes.find(|one| one.name == volume.volume)?.host_path.as_ref()?;
            let below = source.path.strip_prefix(mount_directory)?.strip_prefix('/')?;
            let name = below.strip_suffix(MOUNT)?.strip_suffix('/')?;
            is_own_name(name).then(|| name.to_owned())
        })
        .collect();
    (!names.is_empty()).then(|| (node.to_owned(), names))
}

/// Whether a text is one step down, as we name them.
fn is_own_name(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte != b'/' && is_plain(byte))
}

/// What is left, by node.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    nodes: BTreeMap<String, (Instant, BTreeSet<String>)>,
}

impl Leftovers {
    /// Takes note.
    pub(super) fn add(&mut self, node: String, names: Vec<String>, now: Instant) {
        let all: usize = self.nodes.values().map(|(_, names)| names.len()).sum();
        let (_, known) = self.nodes.entry(node).or_insert_with(|| (now, BTreeSet::new()));
        known.extend(names.into_iter().take(LENGTH.saturating_sub(all)));
    }

    /// Takes out what has waited for long enough, or has become much, of so many nodes at most.
    pub(super) fn due(&mut self, most: usize, after: Duration, now: Instant) -> Vec<(String, Vec<String>)> {
        let is_due = |since: Instant, names: &BTreeSet<String>| {
            names.len() >= MOST_AT_ONCE || now.duration_since(since) >= after
        };
        let due = self.nodes.iter_mut().filter(|(_, (since, names))| is_due(*since, names));
        let taken = due
            .take(most)
            .map(|(node, (since, names))| {
                *since = now;
                let mut rest = std::mem::take(names).into_iter();
                let first = rest.by_ref().take(MOST_AT_ONCE).collect();
                names.extend(rest);
                (node.clone(), first)
            })
            .collect();
        self.nodes.retain(|_, (_, names)| !names.is_empty());
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{inject::status::StatusVolume, notation::Mode};

    const DIRECTORY: &str = "/var/lib/juicefs/volume";

    fn left_by(pod: &Value) -> Option<(String, Vec<String>)> {
        let metadata = serde_json::from_value(pod["metadata"].clone()).unwrap();
        left(&metadata, &serde_json::from_value(pod["spec"].clone()).unwrap(), DIRECTORY)
    }

    fn pod(path: &str) -> Value {
        let mut status = status::Status::new(Mode::Classic);
        status.volumes = vec![StatusVolume {
            container: "jfs-mount".to_owned(),
            volume: "data".to_owned(),
            shared: "hostPath".to_owned(),
            ..StatusVolume::default()
        }];
        json!({
            "metadata": {"name": "app", "annotations": {STATUS: status.to_text()}},
            "spec": {"nodeName": "n", "volumes": [{"name": "data", "hostPath": {"path": path}}]},
        })
    }

    #[test]
    fn only_directories_of_ours_are_named() {
        let found = left_by(&pod("/var/lib/juicefs/volume/0ca3-out/mnt"));
        assert_eq!(found, Some(("n".to_owned(), vec!["0ca3-out".to_owned()])));
        for other in [
            "/var/lib/juicefs/volume/mnt",
            "/var/lib/juicefs/volume/../mnt",
            "/var/lib/juicefs/volume/a/b/mnt",
            "/var/lib/juicefs/volume/a/other",
            "/var/lib/juicefs/volume-2/a/mnt",
            "/data/a/mnt",
        ] {
            assert_eq!(left_by(&pod(other)), None, "{other}");
        }
        let mut bare = pod("/var/lib/juicefs/volume/a/mnt");
        bare["metadata"]["annotations"] = json!({});
        assert_eq!(left_by(&bare), None, "a directory of that name in a pod of somebody else's");
    }

    #[test]
    fn they_are_removed_together_when_it_is_time() {
        let (now, after) = (Instant::now(), Duration::from_mins(10));
        let mut leftovers = Leftovers::default();
        leftovers.add("n".to_owned(), vec!["b".to_owned(), "a".to_owned()], now);
        leftovers.add("m".to_owned(), vec!["c".to_owned()], now + after / 2);
        assert_eq!(leftovers.due(8, after, now + after / 2), []);
        let due = leftovers.due(8, after, now + after);
        assert_eq!(due, [("n".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(leftovers.due(8, after, now + after), []);
        assert_eq!(leftovers.due(8, after, now + after * 2).len(), 1);
        // Many are not waited for, and no command is too long.
        leftovers.add("n".to_owned(), (0..=MOST_AT_ONCE).map(|number| number.to_string()).collect(), now);
        assert_eq!(leftovers.due(8, after, now)[0].1.len(), MOST_AT_ONCE);
        assert_eq!(leftovers.due(8, after, now), []);
        assert_eq!(leftovers.due(8, after, now + after)[0].1.len(), 1);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut leftovers = Leftovers::default();
        let names = (0..2 * LENGTH).map(|number| number.to_string()).collect();
        leftovers.add("n".to_owned(), names, Instant::now());
        assert_eq!(leftovers.nodes["n"].1.len(), LENGTH);
    }
}
