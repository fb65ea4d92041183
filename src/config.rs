//! Behaviour: the ConfigMap (upstream schema) and what the process was told by flags and environment.

/// What flags and environment say; the same for every request.
#[derive(Clone, Debug)]
pub struct Process {
    /// The CSI driver name that makes a volume ours.
    pub driver: String,
    /// Image of the community client.
    pub community_image: String,
    /// Image of the enterprise client.
    pub enterprise_image: String,
    /// Host directory below which the node profile mounts.
    pub mount_directory: String,
    /// The node's `/etc` cannot be written: no `updatedb` mount.
    pub immutable: bool,
    /// `auth` keeps the configuration of the console (`JFS_NO_UPDATE_CONFIG=enabled`).
    pub no_update_config: bool,
    /// Version of the cluster (`major`, `minor`), if told; the nodes may be older.
    pub kubernetes: Option<(u32, u32)>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            driver: "csi.juicefs.com".into(),
            community_image: "juicedata/mount:ce-nightly".into(),
            enterprise_image: "juicedata/mount:ee-nightly".into(),
            mount_directory: "/var/lib/juicefs/volume".into(),
            immutable: false,
            no_update_config: false,
            kubernetes: None,
        }
    }
}

/// The ConfigMap's `config.yaml`. NB: being written.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Overrides the decision by version.
    pub enable_native_sidecar: Option<bool>,
    /// Identifies the contents, for the status annotation; empty without a ConfigMap.
    pub revision: String,
}
