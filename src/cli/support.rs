//! `juicefs-sidecar support`: reads what a maintainer asks for and packs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::SystemTime,
};

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    },
    apps::v1::ReplicaSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret},
    events::v1::Event,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, LogParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    check,
    output::Output,
    process::DriverArguments,
    program,
    reading::{list, said},
};
use crate::{
    check::{Facts, findings, is_labelled, secrets},
    cluster::client::ClientArguments,
    controller::{MANAGER, certificates},
    inject::status::DONE,
    redact::Redaction,
    running,
    support::{self, Archive, MOST_OBJECTS},
    telemetry::ApiCalls,
    tls::inspect::seconds,
    volume::secret::injected_secret_name,
};

/// The longest log that is asked for.
const LOG_BYTES: i64 = 1 << 20;
/// Its lines.
const LOG_LINES: i64 = 5000;
/// Pods of ours, and pods with clients, whose logs are read.
const MOST_LOGGED: usize = 20;
/// Secrets that are read, for the names of their keys and to know what must not be seen.
const MOST_SECRETS: usize = 500;
/// Namespaces whose events are read, beside ours.
const MOST_NAMESPACES: usize = 50;

/// `support`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Namespace of juicefs-sidecar
    #[arg(short, long, value_name = "NAME", default_value = MANAGER)]
    namespace: String,

    /// A pod whose clients' logs are to be in it; may be given several times [default: pods whose clients do not serve]
    #[arg(long = "pod", value_name = "NAMESPACE/NAME", value_parser = check::namespaced)]
    pods: Vec<(String, String)>,

    /// The archive, which must not be there yet
    #[arg(short, long, value_name = "FILE", default_value = "juicefs-sidecar-support.tar.gz")]
    output: PathBuf,

    #[command(flatten)]
    driver: DriverArguments,

    #[command(flatten)]
    client: ClientArguments,
}

const EXAMPLES: &str = "\
In it are versions, kubelets, our Deployments and pods with their logs, the ConfigMap, classes, volumes, claims, pods
with clients, events, registrations, and what check and status say. Of Secrets there are the names of their keys.
Credentials are taken out wherever they stand; of applications' containers words and variables are left out. Look
into it before you give it away: `tar -xzf FILE`. What could not be read is in left-out.txt.

Examples:
  juicefs-sidecar support
  juicefs-sidecar support --pod app/web-0 -o /tmp/web-0.tar.gz

Exit code:
  0  done
  2  arguments, kubeconfig, API server or file cannot be used";

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        let archive = program::wait_for(async {
            let client = self.client.client("support", ApiCalls::default()).await?;
            client.apiserver_version().await.context("cannot reach the API server")?;
            Ok(Box::pin(self.gather(&client)).await)
        })?;
        for name in archive.names() {
            output.tell(name);
        }
        let left_out = archive.left_out().len();
        let now = seconds(SystemTime::now());
        let bytes = archive.finish(now).context("cannot pack")?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.output);
        let written = file.as_mut().map_err(|error| std::io::Error::new(error.kind(), error.to_string()));
        written
            .and_then(|file| file.write_all(&bytes))
            .with_context(|| format!("cannot write {}", self.output.display()))?;
        output.write(format!("{}\n", self.output.display()).as_bytes())?;
        if left_out > 0 {
            output.tell(&format!("{left_out} things are not in it; left-out.txt says which"));
        }
        Ok(0)
    }

    async fn gather(&self, client: &Client) -> Archive {
        let facts = check::read(client, &self.namespace, self.driver.name(), None).await;
        let volumes = self.volumes(client).await;
        let secrets = self.secrets(client, &facts, volumes.as_deref().unwrap_or_default()).await;
        let data: Vec<BTreeMap<String, Vec<u8>>> = secrets.0.iter().map(data).collect();
        let mut archive = Archive::new(Redaction::knowing(&data));
        for sentence in &secrets.1 {
            archive.leaves_out(sentence);
        }
        archive.value("check", json!(findings(&facts)));
        archive.value("versions", self.versions(client, &facts).await);
        archive.objects("secrets", values(Ok(secrets.0)), support::secret);
        archive.objects("volumes", values(volumes), support::described);
        self.cluster(client, &facts, &mut archive).await;
        self.ours(client, &facts, &mut archive).await;
        self.applications(client, &facts, &mut archive).await;
        archive
    }

    async fn versions(&self, client: &Client, facts: &Facts) -> Value {
        let server = client.apiserver_version().await.ok().map(|info| info.git_version);
        json!({
            "juicefs-sidecar": env!("CARGO_PKG_VERSION"), "kubernetes": server, "namespace": self.namespace,
            "driver": facts.driver, "seconds": facts.now,
        })
    }

    async fn volumes(&self, client: &Client) -> Result<Vec<PersistentVolume>, String> {
        let volumes: Vec<PersistentVolume> = list(&Api::all(client.clone()), &ListParams::default()).await?;
        let driver = self.driver.name();
        let is_ours = |volume: &PersistentVolume| {
            let source = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            source.is_some_and(|source| source.driver == driver)
        };
        Ok(volumes.into_iter().filter(is_ours).collect())
    }

    /// The secrets that are known to be about file systems, clients and certificates, and which could not be read.
    async fn secrets(
        &self,
        client: &Client,
        facts: &Facts,
        volumes: &[PersistentVolume],
    ) -> (Vec<Secret>, Vec<String>) {
        let mut names: BTreeSet<(String, String)> = BTreeSet::new();
        let ours = facts.classes.iter().flatten().filter(|class| class.provisioner == facts.driver);
        names.extend(ours.flat_map(secrets));
        for source in volumes.iter().filter_map(|volume| volume.spec.as_ref()?.csi.as_ref()) {
            let references = [
                &source.node_publish_secret_ref,
                &source.node_stage_secret_ref,
                &source.controller_expand_secret_ref,
                &source.controller_publish_secret_ref,
                &source.node_expand_secret_ref,
            ];
            for reference in references.into_iter().flatten() {
                names.extend(reference.namespace.clone().zip(reference.name.clone()));
            }
        }
        for claim in facts.claims.iter().flatten() {
            names.insert((claim.namespace().unwrap_or_default(), injected_secret_name(&claim.name_any())));
        }
        for name in [certificates::AUTHORITY, certificates::SERVING] {
            names.insert((self.namespace.clone(), name.to_owned()));
        }
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        if names.len() > MOST_SECRETS {
            unread.push(format!("secrets: {} beyond the first {MOST_SECRETS}", names.len() - MOST_SECRETS));
        }
        for (namespace, name) in names.into_iter().take(MOST_SECRETS) {
            match Api::<Secret>::namespaced(client.clone(), &namespace).get_opt(&name).await {
                Ok(secret) => found.extend(secret),
                Err(error) => unread.push(format!("secret {namespace}/{name}: {}", said(&error))),
            }
        }
        (found, unread)
    }

    /// What is the cluster's.
    async fn cluster(&self, client: &Client, facts: &Facts, archive: &mut Archive) {
        archive.objects("nodes", values(facts.nodes.clone()), support::node);
        let classes = facts.classes.clone().map(|classes| {
            classes
                .into_iter()
                .filter(|class| class.provisioner == facts.driver)
                .collect::<Vec<StorageClass>>()
        });
        archive.objects("classes", values(classes), support::described);
        let everything = ListParams::default();
        archive.objects(
            "mutating-webhooks",
            read::<MutatingWebhookConfiguration>(&Api::all(client.clone()), &everything).await,
            support::registration,
        );
        archive.objects(
            "validating-webhooks",
            read::<ValidatingWebhookConfiguration>(&Api::all(client.clone()), &everything).await,
            support::registration,
        );
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={MANAGER}"));
        archive.objects(
            "policies",
            read::<ValidatingAdmissionPolicy>(&Api::all(client.clone()), &ours).await,
            support::described,
        );
        archive.objects(
            "policy-bindings",
            read::<ValidatingAdmissionPolicyBinding>(&Api::all(client.clone()), &ours).await,
            support::described,
        );
    }

    /// What is in our namespace.
    async fn ours(&self, client: &Client, facts: &Facts, archive: &mut Archive) {
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={MANAGER}"));
        let namespace = self.namespace.as_str();
        archive.objects("deployments", values(facts.deployments.clone()), support::described);
        archive.objects(
            "replica-sets",
            read::<ReplicaSet>(&Api::namespaced(client.clone(), namespace), &ours).await,
            support::described,
        );
        archive.objects("endpoints", values(facts.endpoints.clone()), support::whole);
        archive.objects(
            "leases",
            read::<Lease>(&Api::namespaced(client.clone(), namespace), &ListParams::default()).await,
            support::whole,
        );
        let map = facts.config_map.clone().map(|map: Option<ConfigMap>| map.into_iter().collect::<Vec<_>>());
        archive.objects("configuration", values(map), support::configuration);
        let pods: Result<Vec<Pod>, String> = list(&Api::namespaced(client.clone(), namespace), &ours).await;
        for pod in pods.iter().flatten().take(MOST_LOGGED) {
            logs(client, pod, |_| true, archive).await;
        }
        archive.objects("pods", values(pods), support::described);
        events(client, namespace, archive).await;
    }

    /// What is in labelled namespaces.
    async fn applications(&self, client: &Client, facts: &Facts, archive: &mut Archive) {
        archive.objects("claims", values::<PersistentVolumeClaim>(facts.claims.clone()), support::described);
        let done = ListParams::default().labels(DONE);
        let pods: Result<Vec<Pod>, String> = list(&Api::all(client.clone()), &done).await;
        let running = |pod: &Pod| running::Pod::read(pod).ok().flatten();
        let status: Vec<running::Pod> =
            pods.iter().flatten().filter_map(running).take(MOST_OBJECTS).collect();
        archive.value("status", json!(status));
        let is_called = |pod: &Pod, (namespace, name): &(String, String)| {
            pod.namespace().unwrap_or_default() == *namespace && pod.name_any() == *name
        };
        for asked in &self.pods {
            if pods.as_ref().is_ok_and(|pods| !pods.iter().any(|pod| is_called(pod, asked))) {
                let (namespace, name) = asked;
                archive
                    .leaves_out(&format!("logs of {namespace}/{name}: no pod with clients is called that"));
            }
        }
        let asked_for = |pod: &Pod| self.pods.iter().any(|asked| is_called(pod, asked));
        let is_impaired =
            |pod: &Pod| self.pods.is_empty() && running(pod).is_some_and(|pod| pod.is_impaired());
        let logged = pods.iter().flatten().filter(|pod| asked_for(pod) || is_impaired(pod));
        for pod in logged.take(MOST_LOGGED) {
            let ours = serde_json::to_value(pod).map(|pod| running::decided::containers(&pod));
            let ours = ours.unwrap_or_default();
            logs(client, pod, |name| ours.iter().any(|our| our == name), archive).await;
        }
        archive.objects("pods-with-clients", values(pods), support::injected_pod);
        let labelled = facts.namespaces.iter().flatten().filter(|namespace| is_labelled(namespace));
        for namespace in labelled.take(MOST_NAMESPACES) {
            events(client, &namespace.name_any(), archive).await;
        }
    }
}

fn data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn values<K: Serialize>(objects: Result<Vec<K>, String>) -> Result<Vec<Value>, String> {
    let value = |object: K| serde_json::to_value(object).map_err(|error| error.to_string());
    objects?.into_iter().map(value).collect()
}

async fn read<K>(api: &Api<K>, parameters: &ListParams) -> Result<Vec<Value>, String>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    values(list(api, parameters).await)
}

/// The newest events of a namespace.
async fn events(client: &Client, namespace: &str, archive: &mut Archive) {
    let parameters = ListParams::default();
    let found = read::<Event>(&Api::namespaced(client.clone(), namespace), &parameters).await;
    archive.objects(&format!("events/{namespace}"), found, support::whole);
}

/// The logs of some containers of a pod, and those of before they were started again.
async fn logs(client: &Client, pod: &Pod, wanted: impl Fn(&str) -> bool, archive: &mut Archive) {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let status = pod.status.as_ref();
    let statuses = status.into_iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    for container in statuses.filter(|container| wanted(&container.name)) {
        for previous in [false, true] {
            if previous && container.restart_count == 0 {
                continue;
            }
            let parameters = LogParams {
                container: Some(container.name.clone()),
                previous,
                limit_bytes: Some(LOG_BYTES),
                tail_lines: Some(LOG_LINES),
                timestamps: true,
                ..LogParams::default()
            };
            let suffix = if previous { ".previous" } else { "" };
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            let file = format!("logs/{namespace}/{name}/{}{suffix}.log", container.name);
            match api.logs(&name, &parameters).await {
                Ok(text) => archive.text(&file, &text),
                Err(error) => archive.leaves_out(&format!("{file}: {}", said(&error))),
            }
        }
    }
}
