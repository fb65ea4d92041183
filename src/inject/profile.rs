//! What differs between the places a pod can run: data, so that the planner has one path.

use crate::{
    inject::Family,
    notation::Mode,
    pod::{Annotations, Pod},
};

/// How the client's mount reaches the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    /// A directory of the node for each volume; the client mounts at its child `mnt`.
    HostPath,
    /// An `emptyDir`; the client mounts at its root, the one shape that works on virtual nodes.
    EmptyDir,
    /// The platform's own CSI driver brings the mount to the application.
    Platform,
}

/// What the client's container may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// `privileged: true`.
    Privileged,
    /// Root with a few added capabilities, none if the list is empty.
    Capabilities(&'static [&'static str]),
    /// Nothing at all, as a user of its own.
    Nothing,
}

/// A kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Its name in `explain` and in the status annotation.
    pub(crate) name: &'static str,
    /// The mode of pods that nobody chose one for.
    pub(crate) mode: Mode,
    /// How the mount is shared.
    pub(crate) shared: Shared,
    /// Where below the root of an `emptyDir` the mount is, which the application's mounts then name.
    pub(crate) child: Option<&'static str>,
    /// The client's privilege.
    pub(crate) privilege: Privilege,
    /// Propagation of the client's own mount of the shared volume.
    pub(crate) client_propagation: Option<&'static str>,
    /// Propagation forced on the application's mounts.
    pub(crate) application_propagation: Option<&'static str>,
    /// Whether directories of the node may be mounted: caches, `juicefs/host-path`, patch volumes.
    pub(crate) host_directories: bool,
    /// Whether `imagePullPolicy` is passed on.
    pub(crate) pull_policy: bool,
    /// Whether the container is named after the claim.
    pub(crate) named_after_claim: bool,
    /// Environment that goes last.
    pub(crate) environment: &'static [(&'static str, &'static str)],
}

/// Ordinary nodes.
const NODE: Profile = Profile {
    name: "node",
    mode: Mode::Resilient,
    shared: Shared::HostPath,
    child: None,
    privilege: Privilege::Privileged,
    client_propagation: Some("Bidirectional"),
    application_propagation: None,
    host_directories: true,
    pull_policy: true,
    named_after_claim: false,
    environment: &[("JFS_FOREGROUND", "1")],
};

/// Serverless Kubernetes that allows privileged containers (Alibaba ACS, Tencent TKE).
const SERVERLESS: Profile = Profile {
    name: "serverless",
    // The one shape known to work on virtual nodes.
    mode: Mode::Classic,
    shared: Shared::EmptyDir,
    application_propagation: Some("HostToContainer"),
    host_directories: false,
    environment: &[("JFS_NO_UMOUNT", "1"), ("JFS_FOREGROUND", "1")],
    ..NODE
};

/// Volcengine VCI: propagation is asked for by annotation.
const VCI: Profile = Profile {
    name: "vci",
    privilege: Privilege::Capabilities(&[]),
    client_propagation: None,
    pull_policy: false,
    named_after_claim: true,
    ..SERVERLESS
};

/// Huawei CCI: its own CSI driver shares the mount.
const CCI: Profile = Profile {
    name: "cci",
    shared: Shared::Platform,
    privilege: Privilege::Capabilities(&["SYS_ADMIN", "MKNOD"]),
    client_propagation: None,
    application_propagation: Some("None"),
    pull_policy: false,
    environment: &[
        ("JFS_NO_UMOUNT", "1"),
        ("JFS_FOREGROUND", "1"),
        // The platform's spelling.
        ("JUICEFS_CLIENT_SIDERCAR_CONTAINER", "true"),
        ("JUICEFS_CLIENT_PATH", "/jfs"),
    ],
    ..SERVERLESS
};

/// The name of the directory that is mounted at, below a directory that is shared. A mount at its root would keep a
/// container from starting, and a pod from going, once nobody serves it any more.
pub(crate) const MOUNT: &str = "mnt";

/// The annotation that allows propagation on VCI, equal to its own value.
pub(crate) const VCI_PROPAGATION: &str = "vke.al.vci-enable-bidirectional-mount-propagation";
/// The annotation that lists VCI's propagating mounts.
pub(crate) const VCI_PROPAGATION_MOUNTS: &str =
    "vci.vke.volcengine.com/config-bidirectional-mount-propagation";

impl Profile {
    /// The profile of a pod: the family of the webhook path, refined by the marks of the serverless platforms.
    ///
    /// Marks count on the serverless path only, and only with the exact value `enforce`; VCI is looked at first.
    /// A pod of ordinary nodes that has no identity of its own cannot have a directory of its own on the node,
    /// so it gets the shared volume of serverless pods.
    pub(crate) fn of(pod: &Pod<'_>, family: Family, has_identity: bool) -> Self {
        let enforced = |mark: Option<&crate::pod::Text<'_>>| mark.is_some_and(|value| &**value == "enforce");
        let vci = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|Annotations { burst_to_vci, .. }| burst_to_vci.as_ref());
        let cci = pod.metadata.labels.as_ref().and_then(|labels| labels.burst_to_cci.as_ref());
        match family {
            Family::Serverless if enforced(vci) => VCI,
            Family::Serverless if enforced(cci) => CCI,
            Family::Serverless => SERVERLESS,
            Family::Node if has_identity => NODE,
            Family::Node => {
                Self { shared: Shared::EmptyDir, application_propagation: Some("HostToContainer"), ..NODE }
            }
        }
    }

    /// The same in resilient mode: an agent mounts, below what it shares, and the client only looks.
    pub(crate) fn resilient(self) -> Self {
        Self {
            shared: Shared::EmptyDir,
            child: Some(MOUNT),
            privilege: Privilege::Nothing,
            client_propagation: Some("HostToContainer"),
            application_propagation: None,
            ..self
        }
    }

    /// Whether its nodes take what resilient mode needs: a privileged agent whose mounts propagate.
    pub(crate) fn takes_an_agent(&self) -> bool {
        self.privilege == Privilege::Privileged && self.client_propagation == Some("Bidirectional")
    }

    /// Whether this is the VCI profile, which needs annotations on the pod.
    pub(crate) fn is_vci(&self) -> bool {
        self.name == VCI.name
    }

    /// Whether patch annotations reach the pod: VCI and CCI read them there.
    pub(crate) fn annotates_pod(&self) -> bool {
        self.is_vci() || self.shared == Shared::Platform
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str, family: Family, has_identity: bool) -> Profile {
        Profile::of(&serde_json::from_str(text).unwrap(), family, has_identity)
    }

    #[test]
    fn marks_choose_the_platform_on_the_serverless_path_only() {
        let vci = r#"{"metadata":{"annotations":{"vke.volcengine.com/burst-to-vci":"enforce"}}}"#;
        let cci = r#"{"metadata":{"labels":{"virtual-kubelet.io/burst-to-cci":"enforce"}}}"#;
        assert_eq!(profile(vci, Family::Serverless, true).name, "vci");
        assert_eq!(profile(cci, Family::Serverless, true).name, "cci");
        assert_eq!(profile(vci, Family::Node, true).name, "node");
        let auto = r#"{"metadata":{"labels":{"virtual-kubelet.io/burst-to-cci":"auto"}}}"#;
        assert_eq!(profile(auto, Family::Serverless, true).name, "serverless");
    }

    #[test]
    fn a_template_never_shares_a_directory_of_the_node() {
        assert_eq!(profile("{}", Family::Node, true).shared, Shared::HostPath);
        assert_eq!(profile("{}", Family::Node, false).shared, Shared::EmptyDir);
    }
}
