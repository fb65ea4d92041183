//! The classic sidecar: the JuiceFS client itself, one container for each volume.

use k8s_openapi::api::core::v1 as api;

use crate::{
    client::{POD_UID, SecretSource, word::Nul},
    config::CacheSource,
    inject::{
        names::Names,
        order,
        plan::{Client, Plan},
        profile::{Privilege, Shared},
    },
    pod::{Pod, PodSecurity},
};

/// Where the shared directory of the node is mounted in the client; its child `mnt` is the mount point.
const SHARED_DIRECTORY: &str = "/jfs";
/// Read by the client, which keeps `updatedb` of the node out of its mounts.
const UPDATEDB: &str = "/etc/updatedb.conf";
/// Where the admission plugin `ServiceAccount` mounts a pod's token, in every container (Kubernetes 1.22 and newer).
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What it begins the volume's name with.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// A client's container and the volumes made for it.
#[derive(Debug)]
pub(crate) struct Sidecar {
    /// The container.
    pub(crate) container: api::Container,
    /// Volumes to be added to the pod.
    pub(crate) volumes: Vec<api::Volume>,
}

/// The sidecars of a plan, in its order; takes commands and resources out of it.
pub(crate) fn sidecars(
    plan: &mut Plan,
    names: &mut Names,
    immutable: bool,
    pod: &Pod<'_>,
) -> Result<Vec<Sidecar>, Nul> {
    let token = token_volume(pod);
    let mut updatedb: Option<String> = None;
    let host = plan.profile.host_directories && !immutable;
    let moved = plan
        .clients
        .iter_mut()
        .map(|client| (std::mem::take(&mut client.command), std::mem::take(&mut client.settings.resources)));
    let moved: Vec<_> = moved.collect();
    let mut warnings = Vec::new();
    let planned = &*plan;
    let sidecars = planned
        .clients
        .iter()
        .zip(moved)
        .map(|(client, (command, resources))| {
            let mut mounts = Attachments {
                plan: planned,
                client,
                names,
                warnings: &mut warnings,
                volumes: Vec::new(),
                volume_mounts: Vec::new(),
                devices: Vec::new(),
                caches: [0; 4],
            };
            mounts.shared();
            mounts.credentials();
            if host && !mounts.is_taken(UPDATEDB) {
                updatedb = Some(mounts.updatedb(updatedb.take()));
            }
            mounts.caches();
            if planned.profile.host_directories {
                mounts.host_paths();
                mounts.patched();
            }
            if let Some(volume) = token {
                mounts.token(volume);
            }
            let Attachments { volumes, volume_mounts, devices, .. } = mounts;
            let mut container = container(planned, client, pod.spec.security_context)?;
            container.command = Some(command);
            container.resources = Some(resources);
            container.volume_mounts = Some(volume_mounts);
            container.volume_devices = (!devices.is_empty()).then_some(devices);
            Ok(Sidecar { container, volumes })
        })
        .collect();
    plan.warnings.append(&mut warnings);
    sidecars
}

fn container(plan: &Plan, client: &Client, pod_security: Option<PodSecurity>) -> Result<api::Container, Nul> {
    let settings = &client.settings;
    let native = plan.native;
    let own = settings.startup_probe.clone();
    // The mount of a platform's own driver does not show in the client's container.
    let startup_probe = if own.is_none() && native && plan.profile.shared != Shared::Platform {
        Some(order::startup_probe(&client.mount_point)?)
    } else {
        own
    };
    Ok(api::Container {
        name: client.container.clone(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone().filter(|_| plan.profile.pull_policy),
        env: Some(environment(plan, client)),
        ports: client.needs.metrics_port.map(|port| {
            vec![api::ContainerPort {
                name: Some(plan.metrics_port_name.to_owned()),
                container_port: port.into(),
                ..api::ContainerPort::default()
            }]
        }),
        security_context: Some(security_context(plan.profile.privilege, pod_security)),
        restart_policy: native.then(|| "Always".to_owned()),
        startup_probe,
        liveness_probe: settings.liveness_probe.clone(),
        readiness_probe: settings.readiness_probe.clone(),
        lifecycle: lifecycle(plan, client)?,
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..api::Container::default()
    })
}

/// The volume that the API server has put into the pod with the token of its service account.
fn token_volume<'a>(pod: &'a Pod<'_>) -> Option<&'a str> {
    let mut mounts = pod.spec.all_containers().flat_map(|container| container.volume_mounts.iter().flatten());
    let mount =
        mounts.find(|mount| *mount.mount_path == *TOKEN_DIRECTORY && mount.name.starts_with(TOKEN_VOLUME));
    mount.map(|mount| &*mount.name)
}

/// The environment, in the order users know: fixed, from the secret, from patches, from the platform.
fn environment(plan: &Plan, client: &Client) -> Vec<api::EnvVar> {
    let fixed = |name: &str, value: &str| api::EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..api::EnvVar::default()
    };
    let mut environment = vec![fixed("JFS_INSIDE_CONTAINER", "1")];
    environment.extend(client.secret.environment().into_iter().map(|variable| api::EnvVar {
        name: variable.name,
        value_from: Some(api::EnvVarSource {
            secret_key_ref: Some(api::SecretKeySelector {
                name: client.credentials.clone(),
                key: variable.key,
                ..api::SecretKeySelector::default()
            }),
            ..api::EnvVarSource::default()
        }),
        ..api::EnvVar::default()
    }));
    if client.needs.pod_uid {
        environment.push(api::EnvVar {
            name: POD_UID.to_owned(),
            value_from: Some(api::EnvVarSource {
                field_ref: Some(api::ObjectFieldSelector {
                    field_path: "metadata.uid".to_owned(),
                    ..api::ObjectFieldSelector::default()
                }),
                ..api::EnvVarSource::default()
            }),
            ..api::EnvVar::default()
        });
    }
    environment.extend(client.settings.env.iter().cloned());
    environment.extend(plan.profile.environment.iter().map(|(name, value)| fixed(name, value)));
    environment
}

/// Complete, so that no setting of the pod reaches through to the client.
fn security_context(privilege: Privilege, pod: Option<PodSecurity>) -> api::SecurityContext {
    let pod = pod.unwrap_or_default();
    let base = api::SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        read_only_root_filesystem: Some(false),
        allow_privilege_escalation: Some(true),
        // Profiles are not known to every release, so they are only named to undo the pod's.
        seccomp_profile: pod.seccomp_profile.then(|| api::SeccompProfile {
            type_: "Unconfined".to_owned(),
            ..api::SeccompProfile::default()
        }),
        app_armor_profile: pod.app_armor_profile.then(|| api::AppArmorProfile {
            type_: "Unconfined".to_owned(),
            ..api::AppArmorProfile::default()
        }),
        ..api::SecurityContext::default()
    };
    match privilege {
        Privilege::Privileged => api::SecurityContext { privileged: Some(true), ..base },
        Privilege::Capabilities(add) => api::SecurityContext {
            privileged: Some(false),
            capabilities: (!add.is_empty()).then(|| api::Capabilities {
                add: Some(add.iter().map(|&name| name.to_owned()).collect()),
                ..api::Capabilities::default()
            }),
            ..base
        },
    }
}

/// Native sidecars end after the application by themselves; others are held back by a `preStop`.
fn lifecycle(plan: &Plan, client: &Client) -> Result<Option<api::Lifecycle>, Nul> {
    let own = client.settings.lifecycle.clone();
    if plan.native {
        return Ok(own);
    }
    let mut lifecycle = own.unwrap_or_default();
    if plan.profile.shared != Shared::Platform {
        lifecycle.post_start = Some(order::post_start(&client.mount_point)?);
    }
    if let Some(exit) = plan.exit_order(client) {
        let limit = order::longest(exit, plan.patience);
        lifecycle.pre_stop = Some(order::pre_stop(exit, &client.mount_point, limit)?);
    }
    Ok(Some(lifecycle))
}

/// The mounts of one client, collected with the volumes behind them.
struct Attachments<'a> {
    plan: &'a Plan,
    client: &'a Client,
    names: &'a mut Names,
    warnings: &'a mut Vec<String>,
    volumes: Vec<api::Volume>,
    volume_mounts: Vec<api::VolumeMount>,
    devices: Vec<api::VolumeDevice>,
    /// How many cache volumes of each kind there are so far.
    caches: [usize; 4],
}

impl Attachments<'_> {
    fn add(&mut self, wanted: &str, path: &str, source: api::Volume) -> &mut api::VolumeMount {
        let name = self.names.volume(wanted, &self.client.container);
        self.volumes.push(api::Volume { name: name.clone(), ..source });
        self.mount(&name, path)
    }

    /// Whether something is mounted at a path, or is to be by the ConfigMap, whose mounts are the user's own.
    fn is_taken(&self, path: &str) -> bool {
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
    fn shared(&mut self) {
        let propagation = self.plan.profile.client_propagation.map(str::to_owned);
        let client = self.client;
        match (&client.host_directory, self.plan.profile.shared) {
            (Some(directory), _) => {
                let source = host_path(directory, Some("DirectoryOrCreate"));
                self.add("jfs-dir", SHARED_DIRECTORY, source).mount_propagation = propagation;
            }
            (None, Shared::Platform) => {}
            (None, _) => {
                self.mount(client.shared_volume(), &client.mount_point).mount_propagation = propagation;
            }
        }
    }

    /// Files from secrets: the RSA key, the enterprise client's configuration, and whatever `configs` names.
    fn credentials(&mut self) {
        let client = self.client;
        for files in &client.needs.files {
            let source = match &files.source {
                SecretSource::Injected { key, file } => secret_item(&client.credentials, key, file),
                SecretSource::Named(name) => secret(name),
            };
            self.add(&files.volume, &files.mount_path, source);
        }
    }

    /// All clients of a pod share one mount of this file.
    fn updatedb(&mut self, shared: Option<String>) -> String {
        match shared {
            Some(name) => {
                self.mount(&name, UPDATEDB);
                name
            }
            None => self.add("updatedb", UPDATEDB, host_path(UPDATEDB, Some("FileOrCreate"))).name.clone(),
        }
    }

    fn caches(&mut self) {
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
                    volume = host_path(&cache.path, Some("DirectoryOrCreate"));
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
            self.add(&name, &cache.path, volume);
        }
    }

    fn host_paths(&mut self) {
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
    fn token(&mut self, volume: &str) {
        if self.volume_mounts.iter().any(|mount| mount.mount_path == TOKEN_DIRECTORY) {
            return;
        }
        self.volume_mounts.push(api::VolumeMount {
            name: volume.to_owned(),
            mount_path: TOKEN_DIRECTORY.to_owned(),
            read_only: Some(true),
            ..api::VolumeMount::default()
        });
    }

    /// The volumes of the ConfigMap's patches; a name that is taken is changed in every mount and device.
    fn patched(&mut self) {
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
