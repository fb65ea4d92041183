//! `explain pod/NAME`: what was decided about a pod of a cluster, and what would be decided now.

use std::{borrow::Cow, fmt::Write as _};

use anyhow::{Context as _, anyhow, bail};
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod as ApiPod},
};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{super::output::Output, Explained, text, value};
use crate::{
    cli::process::ProcessArguments,
    cluster::{Snapshot, client::ClientArguments},
    config::{Config, Process},
    controller::{MANAGER, registration::NAME},
    inject::{Decision, Engine, Family, STATUS, Subject},
    offline::configuration::CONFIG_MAP,
    outcome::Code,
    pod::{
        Pod as Lean,
        labels::{ENABLE, ENABLE_SERVERLESS},
    },
    running::{
        Pod,
        decided::{configuration, differences, identity, original},
    },
    telemetry::ApiCalls,
};

/// The webhook, as both ways to install it call its Deployment; and the one program in place of it.
const DEPLOYMENT: &str = "juicefs-sidecar-webhook";
/// Each round reads what the last one lacked: a claim, its volume, its class, its secret.
const MOST_ROUNDS: usize = 8;

/// Flags about a pod of a cluster.
#[derive(Args, Debug)]
#[command(next_help_heading = "A pod of a cluster")]
pub(super) struct RunningArguments {
    /// Namespace of juicefs-sidecar, where its configuration is
    #[arg(long, value_name = "NAME", default_value = MANAGER)]
    sidecar_namespace: String,

    #[command(flatten)]
    client: ClientArguments,
}

/// Everything there is to say.
pub(super) struct Found {
    pod: Value,
    /// What runs, if anything of ours does.
    running: Option<Pod>,
    /// Why nothing of ours can be told, if that is so.
    unreadable: Option<String>,
    now: Explained,
    differences: Vec<String>,
    /// The revision of the configuration now.
    config: String,
    /// When the webhook was registered.
    registered: Option<String>,
}

impl RunningArguments {
    pub(super) async fn find(
        &self,
        name: &str,
        namespace: Option<&str>,
        process: &ProcessArguments,
        output: &mut Output,
    ) -> anyhow::Result<Found> {
        let name = pod_name(name)?;
        let client = self.client.client("explain", ApiCalls::default()).await?;
        let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
        let pod = Api::<ApiPod>::namespaced(client.clone(), &namespace).get(name).await;
        let pod = pod.with_context(|| format!("cannot read pod \"{namespace}/{name}\""))?;
        let (running, unreadable) = match Pod::read(&pod) {
            Ok(running) => (running, None),
            Err(error) => (None, Some(error)),
        };
        let pod = serde_json::to_value(pod)?;
        let config = self.config(&client, output).await;
        let process = self.process(&client, process, output).await;
        let (decision, decided) = decide(&client, &pod, &namespace, (&config, &process), output).await?;
        let differences = match (&running, decided) {
            (Some(_), Some(decided)) => differences(&pod, &decided),
            _ => Vec::new(),
        };
        let registration = Api::<MutatingWebhookConfiguration>::all(client).get_metadata_opt(NAME).await;
        let registered = registration.ok().flatten().and_then(|found| found.metadata.creation_timestamp);
        let title = format!("Pod/{namespace}/{name}");
        let now = Explained { place: "as it would be created now".to_owned(), title, decision };
        let registered = registered.map(|time| time.0.to_string());
        Ok(Found { pod, running, unreadable, now, differences, config: config.revision, registered })
    }

    /// The configuration, or the default where there is none that can be read.
    async fn config(&self, client: &Client, output: &mut Output) -> Config {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), &self.sidecar_namespace);
        let text = match maps.get_opt(CONFIG_MAP).await {
            Ok(map) => map.and_then(|map| map.data?.remove(Config::KEY)),
            Err(error) => {
                output.tell(&format!("warning: the ConfigMap {CONFIG_MAP} cannot be read: {error}"));
                None
            }
        };
        let Some(text) = text else { return Config::default() };
        match Config::parse(&text) {
            Ok((config, _)) => config,
            Err(error) => {
                output.tell(&format!("warning: the ConfigMap {CONFIG_MAP} cannot be used: {error}"));
                Config::default()
            }
        }
    }

    /// What the webhook was told by flags and variables; this program's own where its Deployment cannot be read.
    async fn process(&self, client: &Client, own: &ProcessArguments, output: &mut Output) -> Process {
        let deployments = Api::<Deployment>::namespaced(client.clone(), &self.sidecar_namespace);
        let mut process = match deployments.get_opt(DEPLOYMENT).await {
            Ok(Some(deployment)) => told(&deployment).process(),
            Ok(None) => {
                output.tell(&format!(
                    "warning: there is no Deployment {DEPLOYMENT} in namespace {:?}: its flags are taken from this \
                     command line (--sidecar-namespace says where it is)",
                    self.sidecar_namespace
                ));
                own.process()
            }
            Err(error) => {
                output.tell(&format!("warning: the Deployment {DEPLOYMENT} cannot be read: {error}"));
                own.process()
            }
        };
        if let Ok(info) = client.apiserver_version().await {
            process.kubernetes = process.kubernetes.or_else(|| info.git_version.parse().ok());
        }
        process
    }
}

/// `pod/NAME`, or the name alone.
fn pod_name(text: &str) -> anyhow::Result<&str> {
    let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
    if !["pod", "pods", "po"].contains(&kind) || name.is_empty() || name.contains('/') {
        bail!("{text:?}: give a pod, like pod/web-0; what owns pods is explained from its manifest, with -f");
    }
    Ok(name)
}

/// The arguments of a program that decides.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Told {
    #[command(flatten)]
    process: ProcessArguments,
}

/// The flags of the webhook's container that decide, and the variables in place of others.
fn told(deployment: &Deployment) -> ProcessArguments {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let Some(container) = pod.and_then(|pod| pod.containers.first()) else {
        return ProcessArguments::default();
    };
    let variable = |name: &str| {
        let all = container.env.iter().flatten();
        all.filter(|one| one.name == name).find_map(|one| one.value.clone()).filter(|value| !value.is_empty())
    };
    let mut words = Vec::new();
    for argument in Told::command().get_arguments() {
        let Some(flag) = argument.get_long().map(|long| format!("--{long}")) else { continue };
        let mut given = container.args.iter().flatten().filter(|word| {
            word.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        });
        let of_variable = || variable(argument.get_env()?.to_str()?).map(|value| format!("{flag}={value}"));
        words.extend(given.next().cloned().or_else(of_variable));
    }
    let read = |matches: ArgMatches| Told::from_arg_matches(&matches).ok();
    let told = Told::command().try_get_matches_from(words).ok().and_then(read);
    told.map(|told| told.process).unwrap_or_default().run_from(container.image.clone())
}

/// What would be decided about the pod if it were created now, and the pod that it would be.
async fn decide(
    client: &Client,
    pod: &Value,
    namespace: &str,
    (config, process): (&Config, &Process),
    output: &mut Output,
) -> anyhow::Result<(Decision, Option<Value>)> {
    let mut original = match original(pod) {
        Ok(original) => original,
        Err(refusal) => return Ok((refusal.into(), None)),
    };
    let object = original.to_string();
    let lean: Lean<'_> = serde_json::from_str(&object)?;
    let identity = identity(pod);
    let mut snapshot = Snapshot::read(client, namespace).await;
    for sentence in &snapshot.unread {
        output.tell(&format!("warning: {sentence}; taken as if it were not there"));
    }
    let labels = snapshot.catalog.namespace(namespace).map(|namespace| namespace.metadata.labels.clone());
    let has = |label: &str| {
        labels.as_ref().is_some_and(|labels| labels.get(label).is_some_and(|value| &**value == "true"))
    };
    let family = match (has(ENABLE_SERVERLESS), has(ENABLE)) {
        (true, _) => Family::Serverless,
        (false, true) => Family::Node,
        (false, false) => {
            let message = format!("namespace {namespace:?} is not labelled {ENABLE}=true: left alone");
            return Ok((Decision::new(Code::NamespaceNotEnabled, message), None));
        }
    };
    let text = || Ok(Cow::Borrowed(object.as_str()));
    let subject = Subject { pod: &lean, object: &text, namespace, identity: identity.as_deref(), family };
    let mut rounds = 0;
    let decision = loop {
        let engine = Engine { catalog: &snapshot.catalog, config, process, explain: true };
        let decision = engine.decide(&subject);
        rounds += 1;
        if decision.misses.is_empty() || rounds == MOST_ROUNDS || !snapshot.complete(&decision.misses).await {
            break decision;
        }
    };
    decision.patch.apply(&mut original).map_err(|error| anyhow!("the patch does not apply: {error}"))?;
    Ok((decision, Some(original)))
}

impl Found {
    /// 1 if the pod lacks clients that it would get, or would not be taken.
    pub(super) fn exit_code(&self) -> u8 {
        let lacks = self.running.is_none() && self.now.decision.code == Code::Injected;
        u8::from(lacks).max(self.now.decision.code.kind().exit_code())
    }

    /// Why a pod has no clients, as far as that can be told afterwards.
    fn why_none(&self) -> String {
        if let Some(error) = &self.unreadable {
            return format!("what was injected cannot be told: {error}");
        }
        if self.now.decision.code != Code::Injected {
            return "it has no client, and would not get one now either".to_owned();
        }
        let created = self.pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
        match &self.registered {
            None => format!(
                "it has no client, because no webhook is registered (MutatingWebhookConfiguration {NAME}): \
                 `juicefs-sidecar check` says why"
            ),
            // Both are RFC 3339 in UTC, to the second.
            Some(registered) if created < registered.as_str() => format!(
                "it has no client, because it was created ({created}) before the webhook was registered \
                 ({registered}); delete it, so that its owner makes another"
            ),
            Some(_) => format!(
                "it has no client: when it was created ({created}) the namespace had no label yet, its claim was not \
                 there, or no webhook answered and failurePolicy is Ignore; delete it, so that its owner makes another"
            ),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut said = String::new();
        let Explained { title, .. } = &self.now;
        match &self.running {
            None => _ = writeln!(said, "{title}: {}", self.why_none()),
            Some(running) => {
                let native = if running.native { "native sidecars" } else { "ordinary containers" };
                let node = if running.node.is_empty() {
                    "no node yet".to_owned()
                } else {
                    format!("node {}", running.node)
                };
                _ = writeln!(said, "{title}: injected, {} mode, {native}, on {node}", running.mode.as_str());
                for client in &running.clients {
                    let container = &client.container;
                    let behind = match client.persistent_volume.as_str() {
                        "" => String::new(),
                        volume => format!(", volume {volume}"),
                    };
                    _ = writeln!(said, "  {}: claim {}{behind}", client.volume, client.claim);
                    _ = writeln!(
                        said,
                        "    container {}: {}, {}",
                        container.name, container.state, container.image
                    );
                    if let Some(end) = &container.last_end {
                        _ = writeln!(
                            said,
                            "    it ended last with {end}, and was started {} times again",
                            container.restarts
                        );
                    }
                }
                for agent in &running.agents {
                    _ = writeln!(said, "  container {}: {}, {}", agent.name, agent.state, agent.image);
                }
            }
        }
        _ = writeln!(said, "\n{}", text(&self.now).trim_end());
        if self.running.is_some() {
            let config = configuration(&self.pod).unwrap_or_default();
            if config != self.config {
                let shown = |revision: &str| {
                    if revision.is_empty() { "none".to_owned() } else { revision.to_owned() }
                };
                _ = writeln!(
                    said,
                    "\nThe ConfigMap has changed since: {}, now {}.",
                    shown(&config),
                    shown(&self.config)
                );
            }
            match self.differences.as_slice() {
                [] if self.now.decision.code == Code::Injected => said.push_str("\nIt would be as it is.\n"),
                [] => {}
                differences => {
                    said.push_str("\nIt would be another now:\n");
                    for difference in differences {
                        _ = writeln!(said, "  {difference}");
                    }
                }
            }
        }
        said
    }

    pub(super) fn value(&self) -> anyhow::Result<Value> {
        let why = self.running.is_none().then(|| self.why_none());
        Ok(json!({
            "injected": self.pod["metadata"]["annotations"][STATUS].is_string(),
            "why": why,
            "running": serde_json::to_value(&self.running)?,
            "configuration": {"then": configuration(&self.pod), "now": self.config},
            "now": value(&self.now),
            "differences": self.differences,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_decides_by_its_flags_and_by_its_variables() {
        let container = json!({"name": "webhook", "image": "mirror/juicefs-sidecar:7",
        "args": ["webhook", "--listen=:9443", "--ce-mount-image=of/flag:ce-1"],
        "env": [
            {"name": "JUICEFS_CE_MOUNT_IMAGE", "value": "of/variable:ce-1"},
            {"name": "JUICEFS_EE_MOUNT_IMAGE", "value": "of/variable:ee-1"},
            {"name": "JUICEFS_IMMUTABLE", "value": "true"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]});
        let deployment = json!({"spec": {"selector": {}, "template": {"spec": {"containers": [container]}}}});
        let process = told(&serde_json::from_value(deployment).unwrap()).process();
        assert_eq!(
            (process.community_image.as_str(), process.enterprise_image.as_str(), process.immutable),
            ("of/flag:ce-1", "of/variable:ee-1", true)
        );
        assert_eq!(process.agent_image, "mirror/juicefs-sidecar:7");
        assert_eq!(told(&Deployment::default()).process().driver, "csi.juicefs.com");
    }

    #[test]
    fn only_pods_are_explained_by_name() {
        for (text, name) in [("pod/web-0", "web-0"), ("web-0", "web-0"), ("pods/a", "a"), ("po/a", "a")] {
            assert_eq!(pod_name(text).unwrap(), name);
        }
        for text in ["deployment/web", "pod/", "pod/a/b", "/a"] {
            assert!(pod_name(text).is_err(), "{text}");
        }
    }
}
