//! Which clients are to get another image, and how far one of them has got.

use k8s_openapi::api::core::v1 as api;

use super::{End, Pod, State};
use crate::notation::Mode;

/// The exit code of a client that handed its open files over.
const HANDED_OVER: i32 = 0;

/// Reasons for which the kubelet waits that time alone does not mend.
const HOPELESS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// A client that is to get another image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// The image that it has.
    pub from: String,
    /// How often it had been started again before.
    pub restarts: i32,
}

/// What is done about a pod's clients, and why nothing about some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Clients to be changed, in the order of the pods.
    pub targets: Vec<Target>,
    /// Clients that have the image already.
    pub done: usize,
    /// Pods whose clients are only replaced with the pod.
    pub classic: Vec<String>,
    /// Clients of other images: pod and container, and the image.
    pub others: Vec<(String, String)>,
    /// Clients that do not serve, which could not hand over: pod and container, and how they are.
    pub impaired: Vec<(String, String)>,
}

/// An image without its tag and digest.
#[must_use]
pub fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        // What follows the last colon of `registry:5000/image` is no tag.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// Chooses the clients whose image has the repository `from` and is not `image` yet.
#[must_use]
pub fn select(pods: &[Pod], image: &str, from: &str) -> Selection {
    let mut selection = Selection::default();
    for pod in pods.iter().filter(|pod| !pod.over) {
        if pod.mode == Mode::Classic {
            selection.classic.push(pod.title());
            continue;
        }
        for container in pod.clients.iter().map(|client| &client.container) {
            let title = || format!("{} {}", pod.title(), container.name);
            if container.image == image {
                selection.done += 1;
            } else if repository(&container.image) != from {
                selection.others.push((title(), container.image.clone()));
            } else if container.state != State::Serving {
                selection.impaired.push((title(), container.state.to_string()));
            } else {
                selection.targets.push(Target {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: container.name.clone(),
                    from: container.image.clone(),
                    restarts: container.restarts,
                });
            }
        }
    }
    selection
}

/// How far a client has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The kubelet is not done yet.
    Waiting,
    /// The next client serves, with the open files of the last.
    Upgraded,
    /// The next client serves, but the last one did not hand over: what was open for writing is lost.
    NotHandedOver(String),
    /// It will not serve by itself.
    Failed(String),
}

impl Target {
    /// The JSON patch that changes the image, if the container still has the one it had and is still where it was.
    ///
    /// # Errors
    /// The container is not there any more.
    pub fn patch(&self, pod: &api::Pod, image: &str) -> Result<json_patch::Patch, String> {
        let containers =
            pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let index = containers.iter().position(|container| container.name == self.container);
        let index = index.ok_or_else(|| format!("there is no container {} any more", self.container))?;
        let path = format!("/spec/initContainers/{index}");
        let operations = serde_json::json!([
            {"op": "test", "path": format!("{path}/name"), "value": self.container},
            {"op": "test", "path": format!("{path}/image"), "value": self.from},
            {"op": "replace", "path": format!("{path}/image"), "value": image},
        ]);
        serde_json::from_value(operations).map_err(|error| error.to_string())
    }

    /// How far it has got, by the pod as it is now; `None` if the pod is gone.
    #[must_use]
    pub fn progress(&self, pod: Option<&api::Pod>) -> Progress {
        let Some(Ok(Some(pod))) = pod.map(Pod::read) else {
            return Progress::Failed("the pod is gone".to_owned());
        };
        if pod.over {
            return Progress::Failed("the pod has ended, or is being deleted".to_owned());
        }
        let mut clients = pod.clients.iter().map(|client| &client.container);
        let Some(container) = clients.find(|container| container.name == self.container) else {
            return Progress::Failed("the container is gone".to_owned());
        };
        let restarted = container.restarts > self.restarts;
        match &container.state {
            State::Serving if restarted => match &container.last_end {
                Some(End { code: HANDED_OVER, .. }) => Progress::Upgraded,
                Some(end) => Progress::NotHandedOver(end.to_string()),
                None => Progress::NotHandedOver("nothing is known of its end".to_owned()),
            },
            State::Waiting(why) if HOPELESS.iter().any(|reason| why.starts_with(reason)) => {
                Progress::Failed(why.clone())
            }
            // It was started with the new image and has ended.
            State::Waiting(why) if restarted && why.starts_with("CrashLoopBackOff") => {
                let end = container.last_end.as_ref().map(|end| format!("; last {end}"));
                Progress::Failed(format!("{why}{}", end.unwrap_or_default()))
            }
            _ => Progress::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::Container, *};
    use crate::{inject::status::STATUS, running::Client};

    const OLD: &str = "juicedata/mount:ce-v1.3.0";
    const NEW: &str = "juicedata/mount:ce-v1.4.0";

    fn pod(name: &str, mode: Mode, image: &str, state: State) -> Pod {
        let container = Container {
            name: "jfs-mount".to_owned(),
            image: image.to_owned(),
            state,
            restarts: 1,
            last_end: None,
        };
        let empty = String::new;
        let client =
            Client { claim: "data".to_owned(), volume: empty(), persistent_volume: empty(), container };
        let (namespace, name) = ("app".to_owned(), name.to_owned());
        Pod {
            namespace,
            name,
            node: empty(),
            mode,
            native: true,
            over: false,
            clients: vec![client],
            agents: vec![],
        }
    }

    #[test]
    fn repositories_have_neither_tag_nor_digest() {
        for (image, name) in [
            ("juicedata/mount:ce-v1.3.0", "juicedata/mount"),
            ("juicedata/mount", "juicedata/mount"),
            ("registry:5000/juicedata/mount", "registry:5000/juicedata/mount"),
            ("registry:5000/mount:1@sha256:abc", "registry:5000/mount"),
        ] {
            assert_eq!(repository(image), name);
        }
    }

    #[test]
    fn only_what_can_hand_over_is_chosen_and_the_rest_is_told() {
        let mut over = pod("over", Mode::Resilient, OLD, State::Serving);
        over.over = true;
        let pods = [
            pod("old", Mode::Resilient, OLD, State::Serving),
            pod("new", Mode::Resilient, NEW, State::Serving),
            pod("classic", Mode::Classic, OLD, State::Serving),
            pod("enterprise", Mode::Resilient, "juicedata/ee:1", State::Serving),
            pod("sick", Mode::Resilient, OLD, State::Starting),
            over,
        ];
        let selection = select(&pods, NEW, repository(NEW));
        let chosen: Vec<_> = selection.targets.iter().map(|target| target.pod.as_str()).collect();
        assert_eq!((chosen.as_slice(), selection.done), (&["old"][..], 1));
        assert_eq!(selection.classic, ["app/classic"]);
        assert_eq!(selection.others, [("app/enterprise jfs-mount".to_owned(), "juicedata/ee:1".to_owned())]);
        assert_eq!(selection.impaired, [("app/sick jfs-mount".to_owned(), "starting".to_owned())]);
    }

    /// The pod with its client in this state.
    fn stored(restarts: i32, started: bool, state: &Value, last: &Value) -> api::Pod {
        let status = json!({"version": 1, "mode": "resilient", "profile": "node", "native": true, "undo": {},
            "volumes": [{"container": "jfs-mount", "volume": "v", "source": "persistentVolumeClaim", "shared": "emptyDir"}]});
        let container = json!({"name": "jfs-mount", "image": "", "imageID": "", "ready": started, "started": started,
            "restartCount": restarts, "state": state, "lastState": last});
        let pod = json!({
            "metadata": {"name": "web", "annotations": {STATUS: status.to_string()}},
            "spec": {"containers": [], "initContainers": [{"name": "other"}, {"name": "jfs-mount", "image": OLD}]},
            "status": {"phase": "Running", "initContainerStatuses": [container]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn target() -> Target {
        let [namespace, pod, container, from] = ["app", "web", "jfs-mount", OLD].map(str::to_owned);
        Target { namespace, pod, container, from, restarts: 1 }
    }

    #[test]
    fn progress_is_told_from_the_pod() {
        let running = json!({"running": {}});
        let ended =
            |code: i32| json!({"terminated": {"exitCode": code, "reason": "Error", "message": "why"}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let progress = |restarts, started, state: &Value, last: &Value| {
            target().progress(Some(&stored(restarts, started, state, last)))
        };
        // The last client still serves; it has ended; the next one has started; and serves.
        assert_eq!(progress(1, true, &running, &json!({})), Progress::Waiting);
        assert_eq!(progress(1, false, &ended(0), &json!({})), Progress::Waiting);
        assert_eq!(progress(2, false, &running, &ended(0)), Progress::Waiting);
        assert_eq!(progress(2, true, &running, &ended(0)), Progress::Upgraded);
        assert_eq!(
            progress(2, true, &running, &ended(1)),
            Progress::NotHandedOver("exit code 1 (Error): why".to_owned())
        );
        assert_eq!(
            progress(1, false, &waiting("ErrImagePull"), &ended(0)),
            Progress::Failed("ErrImagePull".to_owned())
        );
        assert_eq!(
            progress(2, false, &waiting("CrashLoopBackOff"), &ended(71)),
            Progress::Failed("CrashLoopBackOff; last exit code 71 (Error): why".to_owned())
        );
        assert_eq!(target().progress(None), Progress::Failed("the pod is gone".to_owned()));
    }

    #[test]
    fn the_patch_changes_that_image_and_no_other() {
        let pod = stored(1, true, &json!({}), &json!({}));
        let patch = serde_json::to_value(target().patch(&pod, NEW).unwrap()).unwrap();
        let path = "/spec/initContainers/1/image";
        assert_eq!(patch[1], json!({"op": "test", "path": path, "value": OLD}));
        assert_eq!(patch[2], json!({"op": "replace", "path": path, "value": NEW}));
        let gone = Target { container: "gone".to_owned(), ..target() };
        assert!(gone.patch(&pod, NEW).unwrap_err().contains("no container gone"));
    }
}
