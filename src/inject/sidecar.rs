//! The container of a JuiceFS client, one for each volume, and what comes beside it.

use k8s_openapi::api::core::v1 as api;

use crate::{
    client::{POD_UID, word::Nul},
    inject::{
        attachments::{Attachments, TOKEN_DIRECTORY, UPDATEDB},
        classic,
        names::Names,
        plan::{Client, Plan},
        profile::Privilege,
        resilient,
    },
    notation::{Mode, Quantity},
    pod::{Pod, PodSecurity},
};

/// What the admission plugin `ServiceAccount` begins the name of the token's volume with.
const TOKEN_VOLUME: &str = "kube-api-access-";
/// How much of its memory limit the client's garbage collector may fill before it works harder, in tenths.
const HEAP_TENTHS: i128 = 9;
/// The variable that tells it.
const HEAP_LIMIT: &str = "GOMEMLIMIT";

/// A container and the volumes made for it.
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
    let (mut updatedb, mut word): (Option<String>, Option<String>) = (None, None);
    // Nobody but root could write it.
    let host = plan.profile.host_directories && !immutable && plan.mode == Mode::Classic;
    let moved = plan
        .clients
        .iter_mut()
        .map(|client| (std::mem::take(&mut client.command), std::mem::take(&mut client.settings.resources)));
    let moved: Vec<_> = moved.collect();
    let (mut warnings, mut foreign) = (Vec::new(), Vec::new());
    let planned = &*plan;
    let clients = planned.clients.iter().zip(moved);
    let clients: Result<Vec<_>, Nul> = clients
        .map(|(client, (command, resources))| {
            let mut mounts = Attachments::new(planned, client, names, &mut warnings);
            mounts.shared();
            mounts.credentials();
            if host && !mounts.is_taken(UPDATEDB) {
                updatedb = Some(mounts.updatedb(updatedb.take()));
            }
            if planned.ends_by_word {
                word = Some(mounts.word(word.take()));
            }
            mounts.caches();
            if let Some(agent) = &planned.agent {
                mounts.resilient(&agent.run_volume);
            }
            if planned.profile.host_directories {
                mounts.host_paths();
                mounts.patched();
            }
            if let Some(volume) = token {
                mounts.token(volume);
            }
            foreign.append(&mut mounts.foreign);
            let Attachments { volumes, volume_mounts, devices, .. } = mounts;
            let mut container = container(planned, client, &resources, pod.spec.security_context)?;
            container.command = Some(match planned.mode {
                Mode::Classic => command,
                Mode::Resilient => resilient::whole_command(planned, client, command),
            });
            container.resources = Some(resources);
            container.volume_mounts = Some(volume_mounts);
            container.volume_devices = (!devices.is_empty()).then_some(devices);
            Ok(Sidecar { container, volumes })
        })
        .collect();
    let agent = planned.agent.as_ref();
    let agent =
        agent.map(|agent| resilient::sidecar(planned, agent, foreign, token, pod.spec.security_context));
    plan.warnings.append(&mut warnings);
    Ok(agent.into_iter().chain(clients?).collect())
}

fn container(
    plan: &Plan,
    client: &Client,
    resources: &api::ResourceRequirements,
    pod_security: Option<PodSecurity>,
) -> Result<api::Container, Nul> {
    let settings = &client.settings;
    let startup_probe = match (&settings.startup_probe, plan.mode) {
        (Some(own), _) => Some(own.clone()),
        (None, Mode::Classic) => classic::startup_probe(plan, client)?,
        (None, Mode::Resilient) => Some(resilient::startup_probe(client)),
    };
    Ok(api::Container {
        name: client.container.clone(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone().filter(|_| plan.profile.pull_policy),
        env: Some(environment(plan, client, resources)),
        ports: client.needs.metrics_port.map(|port| {
            vec![api::ContainerPort {
                name: Some(plan.metrics_port_name.to_owned()),
                container_port: port.into(),
                ..api::ContainerPort::default()
            }]
        }),
        security_context: Some(security_context(plan.profile.privilege, pod_security)),
        restart_policy: plan.native.then(|| "Always".to_owned()),
        startup_probe,
        liveness_probe: match plan.mode {
            Mode::Classic => settings.liveness_probe.clone(),
            Mode::Resilient => {
                settings.liveness_probe.clone().or_else(|| Some(resilient::liveness_probe(client)))
            }
        },
        readiness_probe: settings.readiness_probe.clone(),
        lifecycle: match plan.mode {
            Mode::Classic => classic::lifecycle(plan, client)?,
            Mode::Resilient => settings.lifecycle.clone(),
        },
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
fn environment(plan: &Plan, client: &Client, resources: &api::ResourceRequirements) -> Vec<api::EnvVar> {
    let fixed = |name: &str, value: &str| api::EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..api::EnvVar::default()
    };
    let mut environment = vec![fixed("JFS_INSIDE_CONTAINER", "1")];
    if plan.mode == Mode::Resilient {
        environment.push(fixed("HOME", resilient::HOME));
    }
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
    let own = |variable: &api::EnvVar| variable.name == HEAP_LIMIT;
    if !environment.iter().chain(&client.settings.env).any(own) {
        environment.extend(heap_limit(resources).map(|limit| fixed(HEAP_LIMIT, &limit)));
    }
    environment.extend(client.settings.env.iter().cloned());
    environment.extend(plan.profile.environment.iter().map(|(name, value)| fixed(name, value)));
    environment
}

/// What the client's heap should stay below, so that its garbage collector comes before the kernel's killer.
fn heap_limit(resources: &api::ResourceRequirements) -> Option<String> {
    let limit: Quantity = resources.limits.as_ref()?.get("memory")?.0.parse().ok()?;
    let heap = limit.mebi() * HEAP_TENTHS / 10;
    (heap > 0).then(|| format!("{heap}MiB"))
}

/// Complete, so that no setting of the pod reaches through to the client.
pub(super) fn security_context(privilege: Privilege, pod: Option<PodSecurity>) -> api::SecurityContext {
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
        Privilege::Nothing => api::SecurityContext {
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            run_as_user: Some(resilient::CLIENT_USER),
            run_as_group: Some(resilient::CLIENT_USER),
            run_as_non_root: Some(true),
            capabilities: Some(api::Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..api::Capabilities::default()
            }),
            seccomp_profile: Some(api::SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..api::SeccompProfile::default()
            }),
            app_armor_profile: pod.app_armor_profile.then(|| api::AppArmorProfile {
                type_: "RuntimeDefault".to_owned(),
                ..api::AppArmorProfile::default()
            }),
            ..base
        },
    }
}
