//! Resilient mode: `jfs-agent hold` mounts and keeps the descriptors, and a client without privilege serves each mount
//! under `jfs-agent run`. `docs/agent.md` has the life of such a mount.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::api::resource::Quantity};

use crate::{
    client::{
        POD_UID, Script,
        word::{Nul, Part, Word},
    },
    config::{self, Process},
    inject::{
        attachments::{empty_dir, token_mount},
        names::Names,
        plan::{Client, Plan},
        profile::{MOUNT, Privilege},
        shell::shield_from_kubelet,
        sidecar::{Sidecar, security_context},
    },
    notation::OnCrash,
    pod::PodSecurity,
};

/// The user that clients run as: above what the system, directories of people and `OpenShift` give away, so that no
/// application has it. Whoever has it may read the special files of the mount, with keys in them.
pub(super) const CLIENT_USER: i64 = 2_104_124_019;
/// What agent and clients share.
pub(super) const RUN_DIRECTORY: &str = "/run/jfs-agent";
/// Where the client finds keys and its configuration: root's home in classic mode, a volume here.
pub(super) const HOME: &str = "/root";
/// A directory there that has to exist.
pub(super) const CONFIGURATION: &str = "/root/.juicefs";
/// The part of a cache that belongs to [`CLIENT_USER`]. What root's clients have cached, others cannot read.
pub(super) const OWN_CACHE: &str = "unprivileged";

/// The agent in its own image.
const PROGRAM: &str = "/jfs-agent";
/// Where it puts itself for the clients, whose images do not have it.
const INSTALLED: &str = "/run/jfs-agent/.bin/jfs-agent";
/// Where the agent has what each volume shares.
const SHARED_DIRECTORY: &str = "/jfs";
/// Where it has caches.
const CACHE_DIRECTORY: &str = "/cache";
/// What the agent calls the place of the mount, among its environment's names.
const MOUNTPOINT: &str = "mountpoint";
/// Seconds that the holder may take to answer, which it does whether it could mount or not.
const HOLDER_WAIT: i32 = 30;
/// Seconds that one try of a client's probe waits.
const CLIENT_WAIT: i32 = 3;
/// Seconds after which the kubelet gives a try up: on a busy node it may take long to start.
const PROBE_LIMIT: i32 = 10;
/// Seconds until people are told of a crash: each look starts a process in the container.
const CRASH_PERIOD: i32 = 60;
/// Periods with a crash in each after which the kubelet starts the container again.
const CRASHES_IN_A_ROW: i32 = 100;
/// Seconds after which a client that does not serve is started again.
const START_LIMIT: i32 = 120;

/// The agent's container, as far as it is decided before the volumes are.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Its name.
    pub(crate) container: String,
    /// Name of the volume behind [`RUN_DIRECTORY`].
    pub(crate) run_volume: String,
    image: String,
    image_pull_policy: Option<String>,
    /// Names of the Secrets with which its image is pulled.
    pub(crate) image_pull_secrets: Vec<String>,
    /// Requests and limits.
    pub(crate) resources: api::ResourceRequirements,
}

impl Agent {
    /// The agent of a pod.
    pub(crate) fn new(names: &mut Names, config: &config::Agent, process: &Process) -> Self {
        let container = names.container("jfs-agent", 0);
        let not_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self {
            run_volume: names.volume("jfs-run", &container),
            container,
            image: not_empty(&config.image).unwrap_or_else(|| process.agent_image.clone()),
            image_pull_policy: not_empty(&config.image_pull_policy),
            image_pull_secrets: config.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
            resources: config.resources.clone().unwrap_or_else(resources),
        }
    }
}

/// What three megabytes of memory and next to no processor time need, with room to copy the program; far from where the
/// kernel would have to end it.
fn resources() -> api::ResourceRequirements {
    let amounts = |cpu: &str, memory: &str| {
        let amounts = [("cpu", cpu), ("memory", memory)];
        let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
        Some(BTreeMap::from(amounts))
    };
    api::ResourceRequirements {
        requests: amounts("10m", "16Mi"),
        limits: amounts("1", "64Mi"),
        ..api::ResourceRequirements::default()
    }
}

/// The agent's container; `foreign` are mounts of directories that have to become the client's.
pub(super) fn sidecar(
    plan: &Plan,
    agent: &Agent,
    foreign: Vec<api::VolumeMount>,
    token: Option<&str>,
    pod_security: Option<PodSecurity>,
) -> Sidecar {
    let mut command = vec![
        PROGRAM.to_owned(),
        "hold".to_owned(),
        format!("--run-dir={RUN_DIRECTORY}"),
        format!("--client-uid={CLIENT_USER}"),
    ];
    let mount = |name: &str, path: String| api::VolumeMount {
        name: name.to_owned(),
        mount_path: path,
        ..api::VolumeMount::default()
    };
    let mut mounts = vec![mount(&agent.run_volume, RUN_DIRECTORY.to_owned())];
    for client in &plan.clients {
        let volume = client.shared.as_str();
        let path = format!("{SHARED_DIRECTORY}/{volume}");
        command.push(format!("--volume={volume}={path}/{MOUNT}"));
        if let Some(flags) = flags(&client.settings.options) {
            command.push(format!("--flags={volume}={flags}"));
        }
        let propagation = Some("Bidirectional".to_owned());
        mounts.push(api::VolumeMount { mount_propagation: propagation, ..mount(volume, path) });
    }
    for (number, cache) in foreign.into_iter().enumerate() {
        let path = format!("{CACHE_DIRECTORY}/{number}");
        command.push(format!("--own={path}"));
        mounts.push(api::VolumeMount { mount_path: path, ..cache });
    }
    mounts.extend(token.map(token_mount));
    let security = security_context(Privilege::Privileged, pod_security);
    let container = api::Container {
        name: agent.container.clone(),
        image: Some(agent.image.clone()),
        image_pull_policy: agent.image_pull_policy.clone(),
        command: Some(command),
        resources: Some(agent.resources.clone()),
        volume_mounts: Some(mounts),
        security_context: Some(api::SecurityContext { read_only_root_filesystem: Some(true), ..security }),
        restart_policy: Some("Always".to_owned()),
        // No probe, which would be tried once a second: the kubelet starts what comes next when this has succeeded.
        lifecycle: Some(api::Lifecycle {
            post_start: Some(api::LifecycleHandler {
                exec: Some(ready(PROGRAM, None, HOLDER_WAIT)),
                ..api::LifecycleHandler::default()
            }),
            ..api::Lifecycle::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..api::Container::default()
    };
    let run_volume = api::Volume { name: agent.run_volume.clone(), ..empty_dir() };
    Sidecar { container, volumes: vec![run_volume] }
}

/// Mount options that only who mounts can give.
const FLAGS: [&str; 7] = ["noexec", "suid", "dev", "noatime", "nodiratime", "sync", "dirsync"];

/// Those that are among a client's options, as the agent reads them.
fn flags(options: &[String]) -> Option<String> {
    let given: Vec<_> =
        FLAGS.into_iter().filter(|flag| options.iter().any(|option| option == flag)).collect();
    (!given.is_empty()).then(|| given.join(","))
}

/// Succeeds once a client's mount answers, and waits for that, so that nobody waits for the next try.
pub(super) fn startup_probe(client: &Client) -> api::Probe {
    api::Probe {
        exec: Some(ready(INSTALLED, Some(&client.shared), CLIENT_WAIT)),
        period_seconds: Some(1),
        timeout_seconds: Some(PROBE_LIMIT),
        failure_threshold: Some(START_LIMIT / CLIENT_WAIT),
        ..api::Probe::default()
    }
}

/// Fails once after each crash of the client, of which the kubelet makes an event on the pod; it is not there to have the
/// client started again, which its runner does.
pub(super) fn liveness_probe(client: &Client) -> api::Probe {
    let command = ["crashed", &format!("--run-dir={RUN_DIRECTORY}"), &format!("--volume={}", client.shared)];
    let command = [INSTALLED].into_iter().chain(command).map(str::to_owned).collect();
    api::Probe {
        exec: Some(api::ExecAction { command: Some(command) }),
        period_seconds: Some(CRASH_PERIOD),
        timeout_seconds: Some(PROBE_LIMIT),
        failure_threshold: Some(CRASHES_IN_A_ROW),
        ..api::Probe::default()
    }
}

/// The kubelet expands nothing in a probe or hook.
fn ready(program: &str, volume: Option<&str>, wait: i32) -> api::ExecAction {
    let mut command = vec![program.to_owned(), "ready".to_owned(), format!("--run-dir={RUN_DIRECTORY}")];
    command.extend(volume.map(|name| format!("--volume={name}")));
    command.push(format!("--wait={wait}"));
    api::ExecAction { command: Some(command) }
}

/// Where the client is to mount, as [`command`] says it.
pub fn mount_point() -> Word<'static> {
    Word::variable(MOUNTPOINT)
}

/// The end of a client's `command`, which is the agent's: no shell reads it.
pub fn command(script: &Script<'_>) -> Result<Vec<String>, Nul> {
    let mut command = Vec::with_capacity(script.preparation.len() + script.mount.len() + 1);
    for words in &script.preparation {
        let words = words.iter().map(argument).collect::<Result<Vec<_>, _>>()?;
        command.push(format!("--first={}", serde_json::Value::from(words)));
    }
    command.push("--".to_owned());
    for word in &script.mount {
        command.push(argument(word)?);
    }
    Ok(command.iter().map(|word| shield_from_kubelet(word)).collect())
}

/// The whole `command` of a client, whose end is known already.
pub(super) fn whole_command(plan: &Plan, client: &Client, end: Vec<String>) -> Vec<String> {
    // Less than the pod has, so that what is handed over is written before the end.
    let grace = plan.grace.unwrap_or(plan.patience).max(0);
    let grace = (grace - grace / 6).max(1);
    let volume = client.shared.as_str();
    let mut command = vec![
        INSTALLED.to_owned(),
        "run".to_owned(),
        format!("--run-dir={RUN_DIRECTORY}"),
        format!("--volume={volume}"),
        format!("--grace={grace}"),
    ];
    if client.settings.on_crash == OnCrash::Fail {
        command.push("--on-crash=fail".to_owned());
    }
    command.extend(end);
    command
}

/// A word as `jfs-agent run` reads it: `{NAME}` is the value of a variable, `{{` a brace.
///
/// The agent fills values in, not the kubelet: in the container's own command others could read them.
fn argument(word: &Word<'_>) -> Result<String, Nul> {
    let mut text = String::new();
    for part in word.parts() {
        match part {
            Part::Literal(literal) if literal.contains('\0') => return Err(Nul),
            Part::Literal(literal) => text.push_str(&literal.replace('{', "{{")),
            Part::Variable(name) => text.extend(["{", name, "}"]),
            Part::PodUid => text.extend(["{", POD_UID, "}"]),
        }
    }
    Ok(text)
}

/// Takes a hook away that would unmount; the warning says so. There is nothing for it to unmount, and no right to.
pub(super) fn drop_unmounting_hook(lifecycle: &mut Option<api::Lifecycle>) -> Option<String> {
    let hook = &mut lifecycle.as_mut()?.pre_stop;
    let words = hook.as_ref()?.exec.as_ref()?.command.as_ref()?;
    if !words.iter().any(|word| word.contains("umount")) {
        return None;
    }
    *hook = None;
    Some(
        "configmap lifecycle.preStop unmounts, which is the agent's business in resilient mode: it is left out"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_doubled_and_variables_are_named() {
        let word = Word::literal("a{b}").and_variable("secretkey").and("}{").and_pod_uid();
        assert_eq!(argument(&word).as_deref(), Ok("a{{b}{secretkey}}{{{JFS_POD_UID}"));
        assert_eq!(argument(&mount_point()).as_deref(), Ok("{mountpoint}"));
        assert_eq!(argument(&Word::literal("a\0")), Err(Nul));
    }

    #[test]
    fn flags_of_the_mount_are_found_among_the_options() {
        let options = |list: &[&str]| list.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        assert_eq!(flags(&options(&["cache-size=1", "noexec", "sync"])).as_deref(), Some("noexec,sync"));
        assert_eq!(flags(&options(&["cache-size=noexec", "ro"])), None);
    }

    #[test]
    fn only_a_hook_that_unmounts_is_left_out() {
        let hook = |text: &str| api::Lifecycle {
            pre_stop: Some(api::LifecycleHandler {
                exec: Some(api::ExecAction { command: Some(vec!["sh".into(), "-c".into(), text.into()]) }),
                ..api::LifecycleHandler::default()
            }),
            ..api::Lifecycle::default()
        };
        let mut unmounts = Some(hook("umount -l /jfs/mnt"));
        assert!(drop_unmounting_hook(&mut unmounts).is_some());
        assert_eq!(unmounts, Some(api::Lifecycle::default()));
        let mut sleeps = Some(hook("sleep 3"));
        assert!(drop_unmounting_hook(&mut sleeps).is_none());
        assert_eq!(sleeps, Some(hook("sleep 3")));
        assert!(drop_unmounting_hook(&mut None).is_none());
    }
}
