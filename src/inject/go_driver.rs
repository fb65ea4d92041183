//! Pods that the Go driver's webhook injected: each has a directory of its own on the node, and a copy of one would have
//! the same. On one node the copy's client mounts over the other's mount, which is gone for its application as soon as
//! the copy ends. So such a pod gets directories that follow from the request about it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    identifier::{is_label, is_uid},
    inject::{
        Decision, MOUNT, Subject,
        operation::Patch,
        outline,
        status::{MOVED, Status, pod_of},
        undo::{CONTAINER_LISTS, list},
    },
    notation::Mode,
    outcome::{Code, Refusal},
    pod::{Pod, Volume},
};

/// The volume by which its clients reach the directory that has all others in it.
pub(crate) const PARENT_VOLUME: &str = "jfs-dir";
/// Where its clients have that.
const PARENT_MOUNT: &str = "/jfs";
/// Where commands of a container are.
const COMMANDS: [&str; 7] = [
    "/command",
    "/args",
    "/lifecycle/postStart/exec/command",
    "/lifecycle/preStop/exec/command",
    "/startupProbe/exec/command",
    "/livenessProbe/exec/command",
    "/readinessProbe/exec/command",
];

/// A directory of the node that an application shares with its client.
struct Shared<'a> {
    /// The volume's place in the pod.
    index: usize,
    /// The volume's name.
    volume: &'a str,
    /// The directory that it is in.
    parent: &'a str,
    /// Its own name there.
    name: &'a str,
}

/// Directories of their own for clients of the Go driver's.
#[derive(Debug, Default)]
pub(super) struct Separation {
    patch: Patch,
    /// What was done.
    said: Vec<String>,
    /// The pod they are meant for.
    pod: String,
    /// Whether the pod has annotations.
    annotated: bool,
}

impl Separation {
    /// Adds this to what was decided on the pod besides.
    ///
    /// Nothing here moves an element of a list, so it comes first. The pod that it is meant for is written into it: the
    /// same pod may come again, and keeps its directories.
    pub(super) fn with(self, mut decision: Decision) -> Decision {
        if self.patch.is_empty() {
            return decision;
        }
        let annotated = self.annotated || !decision.patch.is_empty();
        let mut patch = self.patch.followed_by(&decision.patch);
        if annotated {
            patch.add(&["metadata", "annotations", MOVED], &self.pod);
        } else {
            patch.add(&["metadata", "annotations"], &BTreeMap::from([(MOVED, self.pod)]));
        }
        if decision.patch.is_empty() {
            decision.code = Code::Repaired;
            decision.message = self.said.join("; ");
        }
        decision.warnings.extend(self.said);
        Decision { patch, ..decision }
    }
}

/// Separates the clients of the Go driver's in this pod from those of all others.
pub(super) fn separate(subject: &Subject<'_>) -> Result<Separation, Refusal> {
    let shared = shared(subject.pod);
    let metadata = &subject.pod.metadata;
    let this = pod_of(subject.namespace, metadata);
    let moved = metadata.annotations.as_ref().and_then(|annotations| annotations.moved.as_deref());
    if shared.is_empty() || (subject.identity.is_some() && moved == Some(&*this)) {
        return Ok(Separation::default());
    }
    let clients: Vec<_> = clients(subject.pod).collect();
    let whole =
        outline(subject, Some(&Status { containers: clients.clone(), ..Status::new(Mode::Classic) }))?;
    let (mut patch, mut said) = (Patch::default(), Vec::new());
    for one in shared {
        let texts = texts_with(&whole, &clients, one.name);
        if texts.is_empty() {
            continue;
        }
        let Some(identity) = subject.identity.filter(|identity| is_uid(identity)) else {
            return Err(Refusal::new(
                Code::PodUnsupported,
                format!("spec.volumes \"{}\": hostPath", one.volume),
                "is the directory of one pod that the JuiceFS CSI driver injected, and every pod that is made of this would \
                 mount into it",
                "use the workload as it was before it was injected",
            ));
        };
        let name = format!("{identity}-{}", one.volume);
        patch.replace(
            &["spec", "volumes", &one.index.to_string(), "hostPath", "path"],
            &format!("{}/{name}", one.parent),
        );
        for (path, text) in texts {
            let path: Vec<_> = path.split('/').collect();
            patch.replace(&path, &renamed(text, one.name, &name));
        }
        said.push(format!(
            "volume \"{}\" is the directory {}/{} of a pod that the JuiceFS CSI driver injected; this one gets a directory \
             of its own, {name}",
            one.volume, one.parent, one.name
        ));
    }
    Ok(Separation { patch, said, pod: this, annotated: metadata.annotations.is_some() })
}

/// The directories of the node that are one step below that of the clients.
fn shared<'a>(pod: &'a Pod<'_>) -> Vec<Shared<'a>> {
    fn path<'a>(volume: &'a Volume<'_>) -> Option<&'a str> {
        volume.host_path.as_ref().map(|source| source.path.trim_end_matches('/'))
    }
    let volumes = pod.spec.volumes.as_deref().unwrap_or_default();
    let parent = volumes.iter().find(|volume| *volume.name == *PARENT_VOLUME).and_then(path);
    let Some(parent) = parent.filter(|parent| !parent.is_empty()) else { return Vec::new() };
    let below = |(index, volume): (usize, &'a Volume<'_>)| {
        let name = path(volume)?.strip_prefix(parent)?.strip_prefix('/')?;
        // In a directory that is called `mnt` we mount ourselves.
        let is_own = !name.is_empty() && !name.starts_with('.') && name != MOUNT;
        (is_own && name.bytes().all(is_of_name) && is_label(&volume.name)).then(|| Shared {
            index,
            volume: &volume.name,
            parent,
            name,
        })
    };
    volumes.iter().enumerate().filter_map(below).collect()
}

/// Containers that have the directory with all others.
fn clients(pod: &Pod<'_>) -> impl Iterator<Item = String> {
    let has_parent = |container: &&crate::pod::Container<'_>| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| *mount.name == *PARENT_VOLUME && &*mount.mount_path == PARENT_MOUNT)
    };
    pod.spec.all_containers().filter(has_parent).map(|container| container.name.to_string())
}

/// The texts in the commands of clients that name a directory below theirs, each with its path in the pod.
fn texts_with<'a>(pod: &'a Value, clients: &[String], name: &str) -> Vec<(String, &'a str)> {
    let mut found = Vec::new();
    for of in CONTAINER_LISTS {
        let containers = list(pod, of).iter().enumerate();
        let is_client = |container: &Value| clients.iter().any(|client| container["name"] == client.as_str());
        for (index, container) in containers.filter(|(_, container)| is_client(container)) {
            for place in COMMANDS {
                let words = container.pointer(place).and_then(Value::as_array).into_iter().flatten();
                for (number, word) in words.enumerate() {
                    if let Some(text) = word.as_str().filter(|text| renamed(text, name, "") != *text) {
                        found.push((format!("spec/{of}/{index}{place}/{number}"), text));
                    }
                }
            }
        }
    }
    found
}

/// Whether a byte may be part of the name of one of the driver's directories.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// A text with another directory in place of this one, wherever a client's path to it stands.
fn renamed(text: &str, name: &str, other: &str) -> String {
    let path = format!("{PARENT_MOUNT}/{name}");
    let (mut renamed, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(&path) {
        renamed.push_str(before);
        let (last, next) = (renamed.bytes().next_back(), after.bytes().next());
        if last.into_iter().chain(next).any(is_of_name) {
            renamed.push_str(&path);
        } else {
            renamed.push_str(PARENT_MOUNT);
            renamed.push('/');
            renamed.push_str(other);
        }
        rest = after;
    }
    renamed.push_str(rest);
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_renamed_where_a_whole_path_names_it() {
        for (text, wanted) in [
            ("umount /jfs/abcdef -l; rmdir /jfs/abcdef; exit 0", "umount /jfs/x -l; rmdir /jfs/x; exit 0"),
            ("check '/jfs/abcdef' /jfs/abcdef/.stats", "check '/jfs/x' /jfs/x/.stats"),
            ("/jfs/abcdefg /jfs/abcde /jfs/abcdef.d", "/jfs/abcdefg /jfs/abcde /jfs/abcdef.d"),
            ("-v=/jfs/abcdef:/data,/srv/jfs/abcdef", "-v=/jfs/x:/data,/srv/jfs/abcdef"),
            ("abcdef", "abcdef"),
        ] {
            assert_eq!(renamed(text, "abcdef", "x"), wanted);
        }
    }
}
