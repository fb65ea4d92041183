//! Names that clash with nothing in the pod, the same for the same pod.

use std::collections::BTreeSet;

use crate::pod::Pod;

/// The longest name of a container or volume (a DNS label).
const LONGEST: usize = 63;

/// The first metrics port; further volumes take the next free ones.
const METRICS_PORT: u16 = 9567;

/// What a client's metrics port may be called: the first, unless the pod has one of that name.
pub(crate) const METRICS_PORT_NAMES: [&str; 2] = ["metrics", "jfs-metrics"];

/// The names a pod uses already, growing with those given out.
#[derive(Debug, Default)]
pub(crate) struct Names {
    containers: BTreeSet<String>,
    volumes: BTreeSet<String>,
    ports: BTreeSet<u16>,
    /// How many ports from the first metrics port on are known to be taken.
    ports_passed: u16,
    /// Whether a container of the pod calls one of its ports `metrics`.
    metrics_port_named: bool,
}

impl Names {
    /// The names and port numbers of a pod.
    pub(crate) fn of(pod: &Pod<'_>) -> Self {
        let mut names = Self::default();
        let ephemeral = pod.spec.ephemeral_containers.iter().flatten();
        for container in pod.spec.all_containers().chain(ephemeral) {
            names.containers.insert(container.name.to_string());
            for port in container.ports.iter().flatten() {
                names.ports.extend(port.container_port.iter().chain(&port.host_port));
                names.metrics_port_named |= port.name.as_deref() == Some("metrics");
            }
        }
        names.volumes = pod.spec.volumes.iter().flatten().map(|volume| volume.name.to_string()).collect();
        names
    }

    /// A container's name: `wanted`, or `wanted-<n>` with the first free `n` from `index` on.
    pub(crate) fn container(&mut self, wanted: &str, index: usize) -> String {
        let numbered = |number: usize| fit(wanted, &format!("-{number}"));
        let mut name = if index == 0 { fit(wanted, "") } else { numbered(index) };
        let mut number = index;
        while !self.containers.insert(name.clone()) {
            number += 1;
            name = numbered(number);
        }
        name
    }

    /// A volume's name: `wanted`, or that with the container's name before it, then with a number behind.
    pub(crate) fn volume(&mut self, wanted: &str, container: &str) -> String {
        let mut name = fit(wanted, "");
        let prefixed = format!("{container}-{wanted}");
        let mut number = 0;
        while !self.volumes.insert(name.clone()) {
            name = if number == 0 { fit(&prefixed, "") } else { fit(&prefixed, &format!("-{number}")) };
            number += 1;
        }
        name
    }

    /// A port for a client's metrics that nobody in the pod declares.
    pub(crate) fn metrics_port(&mut self) -> u16 {
        let mut left = METRICS_PORT.saturating_add(self.ports_passed)..=u16::MAX;
        let port = left.find(|port| !self.ports.contains(port)).unwrap_or(METRICS_PORT);
        self.ports_passed = port - METRICS_PORT;
        self.ports.insert(port);
        port
    }

    /// Takes a port a user has chosen; `false` if somebody in the pod has it already.
    pub(crate) fn take_port(&mut self, port: u16) -> bool {
        self.ports.insert(port)
    }

    /// What the client's metrics port is called: a Service that targets the application's `metrics` must not
    /// find ours first.
    pub(crate) fn metrics_port_name(&self) -> &'static str {
        METRICS_PORT_NAMES[usize::from(self.metrics_port_named)]
    }
}

/// `stem` and `ending`, shortened to the longest name allowed; a shortened stem keeps a hash of the whole.
fn fit(stem: &str, ending: &str) -> String {
    if stem.len() + ending.len() <= LONGEST {
        return format!("{stem}{ending}");
    }
    let hash = format!("-{:08x}", fnv1a(stem));
    let keep = LONGEST - hash.len() - ending.len();
    let stem: String = stem.chars().filter(char::is_ascii).take(keep).collect();
    format!("{}{hash}{ending}", stem.trim_end_matches('-'))
}

/// FNV-1a, 32 bits: tells shortened names apart, the same on every machine and in every release.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_count_on_past_names_that_are_taken() {
        let pod =
            r#"{"spec":{"initContainers":[{"name":"jfs-mount"}],"containers":[{"name":"jfs-mount-1"}]}}"#;
        let mut names = Names::of(&serde_json::from_str(pod).unwrap());
        assert_eq!(names.container("jfs-mount", 0), "jfs-mount-2");
        assert_eq!(names.container("jfs-mount", 1), "jfs-mount-3");
    }

    #[test]
    fn volumes_get_the_containers_name_when_theirs_is_taken() {
        let pod = r#"{"spec":{"volumes":[{"name":"updatedb"}]}}"#;
        let mut names = Names::of(&serde_json::from_str(pod).unwrap());
        assert_eq!(names.volume("updatedb", "jfs-mount"), "jfs-mount-updatedb");
        assert_eq!(names.volume("updatedb", "jfs-mount"), "jfs-mount-updatedb-1");
        assert_eq!(names.volume("rsa-key", "jfs-mount"), "rsa-key");
    }

    #[test]
    fn long_names_are_shortened_and_stay_distinct() {
        let long = "a".repeat(70);
        let mut names = Names::default();
        let (first, second) = (names.volume(&long, "c"), names.volume(&format!("{long}b"), "c"));
        assert!(first.len() <= LONGEST && second.len() <= LONGEST);
        assert_ne!(first, second);
        let third = names.volume(&long, "c");
        assert!(third.len() <= LONGEST && third != first);
    }

    #[test]
    fn ports_step_over_those_of_the_pod() {
        let pod =
            r#"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":9567},{"hostPort":9568}]}]}}"#;
        let mut names = Names::of(&serde_json::from_str(pod).unwrap());
        assert_eq!((names.metrics_port(), names.metrics_port()), (9569, 9570));
    }
}
