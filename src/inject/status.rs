//! The status annotation: what was injected, so that it can be recognised, mended and taken away.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{identifier::is_uid, notation::Mode, pod::Metadata, volume::claim_of_ephemeral};

/// The annotation's key.
pub const STATUS: &str = "sidecar.juicefs.com/status";
/// The label that marks an injected pod for the dashboard and for selectors. Never trusted on its own.
pub const DONE: &str = "done.sidecar.juicefs.com/inject";
/// The annotation that says for which pod, by [`pod_of`], clients of the Go driver's have directories of their own.
pub(crate) const MOVED: &str = "sidecar.juicefs.com/directories-of";
/// The annotation that names the container `kubectl` talks to.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The annotation that names the local volumes which do not keep the cluster autoscaler from moving the pod.
pub(crate) const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

/// The schema this release writes and reads.
const VERSION: u32 = 1;
/// All annotations of an object together, by the rules of Kubernetes.
pub(crate) const LONGEST: usize = 256 << 10;

/// What was injected into a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Schema of this annotation.
    pub(crate) version: u32,
    /// What kind of sidecars they are.
    pub(crate) mode: Mode,
    /// Kind of node planned for.
    pub(crate) profile: String,
    /// Whether the clients are native sidecars.
    pub(crate) native: bool,
    /// What tells this pod's directories on the node from those of others; absent for templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// The pod the identity was given to, see [`pod_of`]: a copy of it must not share its directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
    /// Revision of the ConfigMap, empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) config: String,
    /// Containers that serve the whole pod and not one volume, in their order, before those of the volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) containers: Vec<String>,
    /// One entry per client.
    pub(crate) volumes: Vec<StatusVolume>,
    /// Names of the volumes that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added_volumes: Vec<String>,
    /// What else was changed.
    pub(crate) undo: Undo,
}

/// One client and its volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusVolume {
    /// The client's container.
    pub(crate) container: String,
    /// The pod's volume that is shared.
    pub(crate) volume: String,
    /// The user's volume, where that is another: it was left as it is, and the shared one was added.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) pod_volume: String,
    /// The volume that keeps the claim; empty if the claim left the pod, or stayed where it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reference: String,
    /// The field of the user's volume that holds the claim: `persistentVolumeClaim` or `ephemeral`.
    pub(crate) source: String,
    /// The field that took its place: `hostPath`, `emptyDir` or `csi`.
    pub(crate) shared: String,
    /// The claim's name; empty for a generic ephemeral volume.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) claim: String,
    /// The PersistentVolume's name, as far as known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) persistent_volume: String,
    /// Whether the volume was read-only by its claim, if the claim left the pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    /// The directory of the file system; empty for its root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) directory: String,
}

/// What to put back when the sidecars are taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Undo {
    /// Parts of the pod that were absent: `metadata`, `labels`, `annotations`, `initContainers`, `imagePullSecrets`, and `requests` of its
    /// own resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) absent: Vec<String>,
    /// Annotations that were added beside this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) annotations: Vec<String>,
    /// Annotations that were replaced, with their old values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) replaced_annotations: Vec<(String, String)>,
    /// The value the `done` label had; absent if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<String>,
    /// How the grace period was, if it was raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grace: Option<Before<i64>>,
    /// Secrets with which images are pulled that were added, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) image_pull_secrets: Vec<String>,
    /// Mounts of the application that were changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<MountBefore>,
    /// Resources of the pod as a whole that were raised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<ResourceBefore>,
}

/// An entry of the pod's own resources before it was raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceBefore {
    /// `requests` or `limits`.
    pub(crate) field: String,
    /// `cpu` or its like.
    pub(crate) resource: String,
    /// What stood there, word for word.
    pub(crate) before: Before<Value>,
    /// What was added; others may have changed the sum since.
    pub(crate) added: String,
    /// The sum.
    pub(crate) after: String,
}

/// A value before it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Before<T> {
    /// It was not there.
    Absent,
    /// It was this.
    Was(T),
}

/// A mount of the application before it was changed; found again by container and path, of which Kubernetes lets
/// neither be there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountBefore {
    /// The container.
    pub(crate) container: String,
    /// Its `mountPath`.
    pub(crate) path: String,
    /// The volume it named, if it names another now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume: Option<String>,
    /// Its `readOnly`, if changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read_only: Option<Before<bool>>,
    /// Its `mountPropagation`, if changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) propagation: Option<Before<String>>,
    /// Its `subPath`, if changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sub_path: Option<Before<String>>,
    /// Its `subPathExpr`, if changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sub_path_expr: Option<Before<String>>,
}

impl Undo {
    /// Whether a part of the pod was not there before.
    pub(crate) fn was_absent(&self, part: &str) -> bool {
        self.absent.iter().any(|absent| absent == part)
    }
}

impl StatusVolume {
    /// The volume as its user calls it.
    pub(crate) fn of_user(&self) -> &str {
        if self.pod_volume.is_empty() { &self.volume } else { &self.pod_volume }
    }

    /// The claim in a pod of this name: that of an ephemeral volume is called after the pod and the volume that holds it.
    pub(crate) fn claim_in(&self, pod: &str) -> String {
        let holder = if self.pod_volume.is_empty() { &self.reference } else { &self.pod_volume };
        if self.claim.is_empty() { claim_of_ephemeral(pod, holder) } else { self.claim.clone() }
    }
}

impl Status {
    /// A status of this release's schema.
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            version: VERSION,
            mode,
            profile: String::new(),
            native: false,
            identity: None,
            pod: None,
            config: String::new(),
            containers: Vec::new(),
            volumes: Vec::new(),
            added_volumes: Vec::new(),
            undo: Undo::default(),
        }
    }

    /// Reads the annotation; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!(
                "it is longer than {LONGEST} bytes, which is all that Kubernetes lets annotations be"
            ));
        }
        let status: Self =
            serde_json::from_str(text).map_err(|error| format!("it does not parse: {error}"))?;
        if status.version != VERSION {
            return Err(format!(
                "its version is {}, and this release reads version {VERSION}",
                status.version
            ));
        }
        // It becomes part of a path on the node.
        if let Some(identity) = &status.identity
            && !is_uid(identity)
        {
            return Err("its identity is not one that this injector gives".to_owned());
        }
        Ok(status)
    }

    /// The annotation's text; nothing in it could fail.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The names of the containers that were added, in their order.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &str> {
        let of_volumes = self.volumes.iter().map(|volume| &volume.container);
        self.containers.iter().chain(of_volumes).map(String::as_str)
    }
}

/// What tells a pod from its copies, as far as admission knows: `namespace/name`, or `namespace/prefix*` while the
/// API server has not made up the name yet.
pub(crate) fn pod_of(namespace: &str, metadata: &Metadata<'_>) -> String {
    let (name, prefix) = (metadata.name.as_deref(), metadata.generate_name.as_deref());
    match (name.filter(|name| !name.is_empty()), prefix) {
        (None, Some(prefix)) => format!("{namespace}/{prefix}*"),
        (name, _) => format!("{namespace}/{}", name.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_as_it_was_written() {
        let mut status = Status::new(Mode::Classic);
        status.identity = Some("15a9c4cc-ad55-412b-b2d1-a430f77e12f2".to_owned());
        status.undo.grace = Some(Before::Absent);
        status
            .undo
            .mounts
            .push(MountBefore { read_only: Some(Before::Was(false)), ..MountBefore::default() });
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(Status::parse(&text), Ok(status));
    }

    #[test]
    fn a_mode_of_the_future_and_a_text_without_end_are_refused() {
        let text = |mode: &str, container: &str| {
            format!(
                r#"{{"version":1,"mode":"{mode}","profile":"node","native":true,"volumes":[{{"container":"{container}","volume":"v","source":"ephemeral","shared":"csi"}}],"undo":{{}}}}"#
            )
        };
        assert!(Status::parse(&text("classic", "a")).is_ok());
        let error = Status::parse(&text("holographic", "a")).unwrap_err();
        assert!(error.contains("holographic") && error.contains("classic"), "{error}");
        assert!(Status::parse(&text("classic", &"a".repeat(LONGEST))).unwrap_err().contains("longer than"));
    }

    #[test]
    fn an_identity_that_leaves_its_directory_is_refused() {
        let text = r#"{"version":1,"mode":"classic","profile":"node","native":true,"identity":"../x","volumes":[],"undo":{}}"#;
        assert!(Status::parse(text).unwrap_err().contains("identity"));
        assert!(Status::parse("{}").is_err());
        assert!(
            Status::parse(r#"{"version":9,"mode":"","profile":"","native":true,"volumes":[],"undo":{}}"#)
                .is_err()
        );
    }
}
