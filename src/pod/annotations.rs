//! Annotations of a pod.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::Text;

/// As many unknown keys as are worth a word.
const MOST_UNKNOWN: usize = 8;

macro_rules! annotations {
    ($($(#[$doc:meta])* $field:ident = $key:literal,)+) => {
        /// Pod annotations with a meaning here.
        #[derive(Clone, Debug, Default)]
        pub struct Annotations<'a> {
            $($(#[$doc])* pub $field: Option<Text<'a>>,)+
            /// Keys with our name in them that have no meaning; they may be slips.
            pub unknown: Vec<Text<'a>>,
        }

        impl Annotations<'_> {
            /// The keys with a meaning.
            pub const KEYS: &'static [&'static str] = &[$($key,)+];
        }

        impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Annotated;

                impl<'de> Visitor<'de> for Annotated {
                    type Value = Annotations<'de>;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("a map of texts")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                        let mut found = Annotations::default();
                        while let Some(key) = access.next_key::<Text<'de>>()? {
                            match &*key {
                                $($key => found.$field = access.next_value()?,)+
                                other => {
                                    access.next_value::<IgnoredAny>()?;
                                    if other.contains("juicefs") && found.unknown.len() < MOST_UNKNOWN {
                                        found.unknown.push(key);
                                    }
                                }
                            }
                        }
                        Ok(found)
                    }
                }

                deserializer.deserialize_map(Annotated)
            }
        }
    };
}

annotations! {
    /// What was injected: JSON, see `inject::status`.
    status = "sidecar.juicefs.com/status",
    /// For which pod the Go driver's clients in it have directories of their own, see `inject::go_driver`.
    moved = "sidecar.juicefs.com/directories-of",
    /// Which kind of sidecars the pod wants.
    mode = "sidecar.juicefs.com/mode",
    /// How the client's exit is ordered after the application's in classic, non-native pods.
    exit_order = "sidecar.juicefs.com/exit-order",
    /// What becomes of the pod's mounts when their client crashes, in resilient mode.
    on_crash = "sidecar.juicefs.com/on-crash",
    /// Which container `kubectl exec` and `logs` choose.
    default_container = "kubectl.kubernetes.io/default-container",
    /// Local volumes that do not keep the cluster autoscaler from moving the pod, separated by commas.
    safe_to_evict = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes",
    /// Volumes that Velero reads through the pod, separated by commas.
    velero_volumes = "backup.velero.io/backup-volumes",
    /// Volcengine VCI's burst mark.
    burst_to_vci = "vke.volcengine.com/burst-to-vci",
    /// Volcengine VCI: allows bidirectional propagation.
    vci_propagation = "vke.al.vci-enable-bidirectional-mount-propagation",
    /// Volcengine VCI: which mounts propagate, a JSON array of `{container, mountPath}`.
    vci_propagation_mounts = "vci.vke.volcengine.com/config-bidirectional-mount-propagation",
}
