//! What is mounted into a client's container, and the volumes made for that.

use k8s_openapi::api::core::v1 as api;

use crate::{
    client::SecretSource,
    config::CacheSource,
    inject::{
        classic::{WORD, WORD_DIRECTORY, word_field},
        names::Names,
        plan::{Client, Plan},
        profile::Shared,
        resilient,
    },
};

/// Where the shared directory is mounted in the client, if not at the mount point itself.
pub(super) const SHARED_DIRECTORY: &str = "/jfs";
/// Read by the client, which keeps `updatedb` of the node out of its mounts.
pub(super) const UPDATEDB: &str = "/etc/updatedb.conf";
/// Where the admission plugin `ServiceAccount` mounts a pod's token, in every container (Kubernetes 1.22 and newer).
pub(super) const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The mounts of one client, collected with the volumes behind them.
pub(super) struct Attachments<'a> {
    plan: &'a Plan,
    client: &'a Client,
    names: &'a mut Names,
    warnings: &'a mut Vec<String>,
    pub(super) volumes: Vec<api::Volume>,
    pub(super) volume_mounts: Vec<api::VolumeMount>,
    pub(super) devices: Vec<api::VolumeDevice>,
    /// How many cache volumes of each kind there are so far.
    caches: [usize; 4],
    /// Mounts of directories that are root's and have to become the client's.
    pub(super) foreign: Vec<api::VolumeMount>,
}

impl<'a> Attachments<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        client: &'a Client,
        names: &'a mut Names,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        Self {
            plan,
            client,
            names,
            warnings,
            volumes: Vec::new(),
            volume_mounts: Vec::new(),
            devices: Vec::new(),
            caches: [0; 4],
            foreign: Vec::new(),
        }
    }

    fn add(&mut self, wanted: &str, path: &str, source: api::Volume) -> &mut api::VolumeMount {
        let name = self.names.volume(wanted, &self.client.container);
        self.volumes.push(api::Volume { name: name.clone(), ..source });
        self.mount(&name, path)
    }

    /// Whether something is mounted at a path, or is to be by the ConfigMap, whose mounts are the user's own.
    pub(super) fn is_taken(&self, path: &str) -> bool {
        let patched = self.client.settings.volume_mounts.iter();
        self.volume_mounts.iter().chain(patched).any(|mount| is_same_path(&mount.mount_path, path))
    }

    fn mount(&mut self, name: &str, path: &str) -> &mut api::VolumeMount {
        let mount = api::VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            ..api::VolumeMount::default()
        };
        self.volume_mounts.push_mut(mount)
    }

    /// What the client and the application share.
    pub(super) fn shared(&mut self) {
        let propagation = self.plan.profile.client_propagation.map(str::to_owned);
        let client = self.client;
        if self.plan.profile.child.is_some() {
            // NB: never the mount itself, which the container runtime looks at before anybody serves it.
            self.mount(&client.shared, SHARED_DIRECTORY).mount_propagation = propagation;
            return;
        }
        match (&client.host_directory, self.plan.profile.shared) {
            (Some(directory), _) => {
                let source = host_path(directory, Some("DirectoryOrCreate"));
                self.add("jfs-dir", SHARED_DIRECTORY, source).mount_propagation = propagation;
            }
            (None, Shared::Platform) => {}
            (None, _) => {
                self.mount(&client.shared, &client.mount_point).mount_propagation = propagation;
            }
        }
    }

    /// Files from secrets: the RSA key, the enterprise client's configuration, and whatever `configs` names.
    pub(super) fn credentials(&mut self) {
        let client = self.client;
        for files in &client.needs.files {
            let source = match &files.source {
                SecretSource::Injected { key, file } => secret_item(&client.credentials, key, file),
                SecretSource::Named(name) => secret(name),
            };
            let name = self.add(&files.volume, &files.mount_path, source).name.clone();
            for (file, place) in files.over {
                self.mount(&name, place).sub_path = Some((*file).to_owned());
            }
        }
    }

    /// What the agent shares with the client, and a home for a user who has none in the image.
    pub(super) fn resilient(&mut self, run_volume: &str) {
        self.mount(run_volume, resilient::RUN_DIRECTORY);
        if self.is_taken(resilient::HOME) {
            return;
        }
        let home = self.add("jfs-home", resilient::HOME, empty_dir()).name.clone();
        if !self.is_taken(resilient::CONFIGURATION) {
            self.mount(&home, resilient::CONFIGURATION).sub_path = Some(".juicefs".to_owned());
        }
    }

    /// All clients of a pod share one mount of this file.
    pub(super) fn updatedb(&mut self, shared: Option<String>) -> String {
        match shared {
            Some(name) => {
                self.mount(&name, UPDATEDB);
                name
            }
            None => self.add("updatedb", UPDATEDB, host_path(UPDATEDB, Some("FileOrCreate"))).name.clone(),
        }
    }

    /// The word that ends all clients of a pod.
    pub(super) fn word(&mut self, shared: Option<String>) -> String {
        match shared {
            Some(name) => {
                self.mount(&name, WORD_DIRECTORY);
                name
            }
            None => self.add("jfs-word", WORD_DIRECTORY, word()).name.clone(),
        }
    }

    pub(super) fn caches(&mut self) {
        let client = self.client;
        for cache in &client.settings.cache {
            let mut volume = api::Volume::default();
            let (kind, stem) = match &cache.source {
                CacheSource::Claim(claim) => {
                    volume.persistent_volume_claim = Some(api::PersistentVolumeClaimVolumeSource {
                        claim_name: claim.clone(),
                        ..api::PersistentVolumeClaimVolumeSource::default()
                    });
                    (0, "cachedir-pvc")
                }
                CacheSource::Ephemeral(source) => {
                    volume.ephemeral = Some((**source).clone());
                    (1, "cachedir-ephemeral")
                }
                CacheSource::Inline(source) => {
                    volume.csi = Some(source.clone());
                    (2, "cachedir-inline-volume")
                }
                CacheSource::HostPath => {
                    volume = match self.plan.own_cache() {
                        Some(own) => host_path(
                            &format!("{}/{own}", cache.path.trim_end_matches('/')),
                            Some("DirectoryOrCreate"),
                        ),
                        None => host_path(&cache.path, Some("DirectoryOrCreate")),
                    };
                    (3, "cachedir")
                }
                CacheSource::EmptyDir(source) => {
                    volume.empty_dir = Some(source.clone());
                    self.add("cachedir-empty-dir", &cache.path, volume);
                    continue;
                }
            };
            let name = format!("{stem}-{}", self.caches[kind]);
            self.caches[kind] += 1;
            // Others may have filled the claim before, as root.
            let own = self.plan.own_cache().filter(|_| matches!(cache.source, CacheSource::Claim(_)));
            let mount = self.add(&name, &cache.path, volume);
            mount.sub_path = own.map(str::to_owned);
            let mount = mount.clone();
            if self.plan.own_cache().is_some() {
                self.foreign.push(mount);
            }
        }
    }

    pub(super) fn host_paths(&mut self) {
        let client = self.client;
        for (number, path) in client.settings.host_paths.iter().enumerate() {
            if self.is_taken(path) {
                continue;
            }
            self.add(&format!("hostpath-{number}"), path, host_path(path, None));
        }
    }

    /// What the API server would mount into any container that has nothing there, for which it would ask every webhook
    /// about the pod once more.
    pub(super) fn token(&mut self, volume: &str) {
        if self.volume_mounts.iter().any(|mount| mount.mount_path == TOKEN_DIRECTORY) {
            return;
        }
        self.volume_mounts.push(token_mount(volume));
    }

    /// The volumes of the ConfigMap's patches; a name that is taken is changed in every mount and device.
    pub(super) fn patched(&mut self) {
        let settings = &self.client.settings;
        for volume in &settings.volumes {
            let name = self.names.volume(&volume.name, &self.client.container);
            for mount in settings.volume_mounts.iter().filter(|mount| mount.name == volume.name) {
                if self.volume_mounts.iter().any(|other| is_same_path(&other.mount_path, &mount.mount_path)) {
                    self.warnings.push(format!(
                        "configmap mountPodPatch volumeMounts: {:?} is left out, the client has something mounted at {}",
                        mount.name, mount.mount_path
                    ));
                    continue;
                }
                self.volume_mounts.push(api::VolumeMount { name: name.clone(), ..mount.clone() });
            }
            for device in settings.volume_devices.iter().filter(|device| device.name == volume.name) {
                self.devices.push(api::VolumeDevice { name: name.clone(), ..device.clone() });
            }
            self.volumes.push(api::Volume { name, ..volume.clone() });
        }
    }
}

fn is_same_path(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// The mount of a service account's token.
pub(super) fn token_mount(volume: &str) -> api::VolumeMount {
    api::VolumeMount {
        name: volume.to_owned(),
        mount_path: TOKEN_DIRECTORY.to_owned(),
        read_only: Some(true),
        ..api::VolumeMount::default()
    }
}

pub(super) fn empty_dir() -> api::Volume {
    api::Volume { empty_dir: Some(api::EmptyDirVolumeSource::default()), ..api::Volume::default() }
}

fn word() -> api::Volume {
    let file = api::DownwardAPIVolumeFile {
        path: WORD.to_owned(),
        field_ref: Some(api::ObjectFieldSelector {
            field_path: word_field(),
            ..api::ObjectFieldSelector::default()
        }),
        ..api::DownwardAPIVolumeFile::default()
    };
    api::Volume {
        downward_api: Some(api::DownwardAPIVolumeSource {
            items: Some(vec![file]),
            ..api::DownwardAPIVolumeSource::default()
        }),
        ..api::Volume::default()
    }
}

fn host_path(path: &str, kind: Option<&str>) -> api::Volume {
    api::Volume {
        host_path: Some(api::HostPathVolumeSource { path: path.to_owned(), type_: kind.map(str::to_owned) }),
        ..api::Volume::default()
    }
}

fn secret(name: &str) -> api::Volume {
    api::Volume {
        secret: Some(api::SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            ..api::SecretVolumeSource::default()
        }),
        ..api::Volume::default()
    }
}

fn secret_item(name: &str, key: &str, file: &str) -> api::Volume {
    let item = api::KeyToPath { key: key.to_owned(), path: file.to_owned(), ..api::KeyToPath::default() };
    let mut volume = secret(name);
    if let Some(source) = &mut volume.secret {
        source.items = Some(vec![item]);
    }
    volume
}
