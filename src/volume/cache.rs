//! Cache directories (contract section 4).

use k8s_openapi::api::core::v1 as api;

/// One directory of the client's `cache-dir` option and the volume behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheDirectory {
    /// Path in the client's container.
    pub path: String,
    /// What is mounted there.
    pub source: CacheSource,
}

/// What is behind a cache directory.
#[derive(Clone, Debug, PartialEq)]
pub enum CacheSource {
    /// A claim in the pod's namespace.
    Claim(String),
    /// An `emptyDir`.
    EmptyDir(api::EmptyDirVolumeSource),
    /// A generic ephemeral volume.
    Ephemeral(api::EphemeralVolumeSource),
    /// An inline CSI volume.
    Inline(api::CSIVolumeSource),
    /// A directory of the node, at the same path (node profile only).
    HostPath,
}
