//! What runs in the pods of a cluster: the clients that were injected, and how they are, told from the pod alone.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod decided;
pub mod upgrade;

use std::fmt;

use k8s_openapi::api::core::v1 as api;
use serde::{Serialize, Serializer};

use crate::{
    inject::status::{STATUS, Status},
    notation::Mode,
};

/// An injected pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it runs; empty while it does not.
    pub node: String,
    /// What kind of sidecars it has.
    pub mode: Mode,
    /// Whether they are native ones.
    pub native: bool,
    /// Whether it is being deleted, or has ended.
    pub over: bool,
    /// The client of each volume.
    pub clients: Vec<Client>,
    /// Containers that serve the whole pod: the agent.
    pub agents: Vec<Container>,
}

/// The client of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// The claim; of a generic ephemeral volume the one that Kubernetes makes for it.
    pub claim: String,
    /// The pod's volume.
    pub volume: String,
    /// The PersistentVolume, as far as it was known at injection.
    pub persistent_volume: String,
    /// Its container.
    #[serde(flatten)]
    pub container: Container,
}

/// A container of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    #[serde(rename = "container")]
    pub name: String,
    /// The image that it is to have.
    pub image: String,
    /// How it is.
    pub state: State,
    /// How often the kubelet has started it again.
    pub restarts: i32,
    /// How it ended last, if it did.
    pub last_end: Option<End>,
}

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, and its startup probe has succeeded: the mount has answered.
    Serving,
    /// Started, and the mount has not answered yet.
    Starting,
    /// Not running: why, and what the kubelet says beside.
    Waiting(String),
    /// Ended, and not started again.
    Ended(End),
    /// The pod is not on a node yet, or the container is not in it any more.
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Its exit code.
    pub code: i32,
    /// In the kubelet's words: `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// The end of its log, where it failed.
    pub message: String,
}

/// The longest message of a kubelet that is shown, in characters.
const LONGEST_MESSAGE: usize = 300;

impl Pod {
    /// What was injected into a pod; nothing if nothing was.
    ///
    /// # Errors
    /// The status annotation cannot be read: why.
    pub fn read(pod: &api::Pod) -> Result<Option<Self>, String> {
        let annotations = pod.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|annotations| annotations.get(STATUS)) else {
            return Ok(None);
        };
        let status = Status::parse(text).map_err(|error| format!("annotation {STATUS}: {error}"))?;
        let container = |name: &str| Container::read(pod, name);
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let clients = status.volumes.iter().map(|volume| Client {
            claim: volume.claim_in(pod_name),
            volume: volume.of_user().to_owned(),
            persistent_volume: volume.persistent_volume.clone(),
            container: container(&volume.container),
        });
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let ended = matches!(phase, Some("Succeeded" | "Failed"));
        Ok(Some(Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            mode: status.mode,
            native: status.native,
            over: ended || pod.metadata.deletion_timestamp.is_some(),
            clients: clients.collect(),
            agents: status.containers.iter().map(|name| container(name)).collect(),
        }))
    }

    /// As messages call it.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether something of ours is not as it should be. A pod that no node has begun with is none of it.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        let mut containers = self.clients.iter().map(|client| &client.container).chain(&self.agents);
        !self.over && containers.any(|container| !matches!(container.state, State::Serving | State::Unknown))
    }
}

impl Container {
    fn read(pod: &api::Pod, name: &str) -> Self {
        let spec = pod.spec.as_ref();
        let mut containers =
            spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let image = containers.find(|container| container.name == name);
        let status = pod.status.as_ref();
        let mut statuses = status.into_iter().flat_map(|status| {
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
        });
        let status = statuses.find(|status| status.name == name);
        let last = status.and_then(|status| status.last_state.as_ref());
        Self {
            name: name.to_owned(),
            image: image.and_then(|container| container.image.clone()).unwrap_or_default(),
            state: status.map_or(State::Unknown, State::of),
            restarts: status.map_or(0, |status| status.restart_count),
            last_end: last.and_then(|last| last.terminated.as_ref()).map(End::of),
        }
    }
}

impl State {
    fn of(status: &api::ContainerStatus) -> Self {
        let Some(state) = &status.state else { return Self::Unknown };
        if state.running.is_some() {
            return if status.started == Some(true) { Self::Serving } else { Self::Starting };
        }
        if let Some(ended) = &state.terminated {
            return Self::Ended(End::of(ended));
        }
        let Some(waiting) = &state.waiting else { return Self::Unknown };
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        match waiting.message.as_deref().map(shortened).filter(|message| !message.is_empty()) {
            Some(message) => Self::Waiting(format!("{reason}: {message}")),
            None => Self::Waiting(reason.to_owned()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => formatter.write_str("serving"),
            Self::Starting => formatter.write_str("starting"),
            Self::Waiting(why) => write!(formatter, "not running: {why}"),
            Self::Ended(end) => write!(formatter, "ended: {end}"),
            Self::Unknown => formatter.write_str("not there"),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl End {
    fn of(ended: &api::ContainerStateTerminated) -> Self {
        Self {
            code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.as_deref().map(shortened).unwrap_or_default(),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit code {}", self.code)?;
        if !self.reason.is_empty() {
            write!(formatter, " ({})", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(formatter, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// The end of what a kubelet passes on, in one line: it may be anything that a container has printed.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|character| !character.is_control()).collect();
    let length = line.chars().count();
    if length <= LONGEST_MESSAGE {
        return line;
    }
    let end: String = line.chars().skip(length - LONGEST_MESSAGE).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(statuses: &Value) -> api::Pod {
        let status = json!({"version": 1, "mode": "resilient", "profile": "node", "native": true,
            "containers": ["jfs-agent"], "undo": {},
            "volumes": [{"container": "jfs-mount", "volume": "v", "source": "persistentVolumeClaim",
                "shared": "emptyDir", "claim": "data", "persistentVolume": "pv"}]});
        let pod = json!({
            "metadata": {"namespace": "app", "name": "web", "annotations": {STATUS: status.to_string()}},
            "spec": {
                "nodeName": "node",
                "containers": [{"name": "app"}],
                "initContainers": [
                    {"name": "jfs-agent", "image": "agent:1"},
                    {"name": "jfs-mount", "image": "juicedata/mount:ce-v1.3.0"},
                ],
            },
            "status": {"phase": "Running", "initContainerStatuses": statuses},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn container(name: &str, started: bool, state: &Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": started, "restartCount": 2, "started": started,
            "state": state})
    }

    #[test]
    fn clients_are_found_with_their_state() {
        let running = json!({"running": {}});
        let agent = container("jfs-agent", true, &running);
        for (started, state, wanted) in [
            (true, running.clone(), "serving"),
            (false, running.clone(), "starting"),
            (
                false,
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off\n 10s\u{1b}[31m"}}),
                "not running: CrashLoopBackOff: back-off 10s[31m",
            ),
            (false, json!({"waiting": {}}), "not running: waiting"),
            (
                false,
                json!({"terminated": {"exitCode": 73, "reason": "Error", "message": "given up"}}),
                "ended: exit code 73 (Error): given up",
            ),
            (false, json!({}), "not there"),
        ] {
            let statuses = json!([agent, container("jfs-mount", started, &state)]);
            let read = Pod::read(&pod(&statuses)).unwrap().unwrap();
            let [client] = read.clients.as_slice() else { panic!("{read:?}") };
            assert_eq!(client.container.state.to_string(), wanted);
            assert_eq!(read.is_impaired(), !["serving", "not there"].contains(&wanted));
            assert_eq!((client.claim.as_str(), client.container.restarts), ("data", 2));
            assert_eq!(client.container.image, "juicedata/mount:ce-v1.3.0");
            assert_eq!(read.agents[0].state, State::Serving);
        }
    }

    #[test]
    fn pods_that_were_not_injected_are_none_and_broken_ones_say_why() {
        let mut other = pod(&json!([]));
        other.metadata.annotations = None;
        assert_eq!(Pod::read(&other), Ok(None));
        let mut broken = pod(&json!([]));
        broken.metadata.annotations.get_or_insert_default().insert(STATUS.to_owned(), "{".to_owned());
        assert!(Pod::read(&broken).unwrap_err().contains("does not parse"));
    }

    #[test]
    fn of_long_messages_the_end_is_kept() {
        let long = format!("{}the reason", "x".repeat(1000));
        let short = shortened(&long);
        assert!(short.starts_with('…') && short.ends_with("the reason"));
        assert_eq!(short.chars().count(), LONGEST_MESSAGE + 1);
    }
}
