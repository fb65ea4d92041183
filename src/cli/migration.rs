//! `juicefs-sidecar migration`: reads what there is of the JuiceFS CSI driver and prints what comes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use clap::{Args, ValueEnum};
use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::{
    output::{Output, plain},
    process::ProcessArguments,
    program,
    reading::{get, list},
};
use crate::{
    check::few,
    cluster::client::ClientArguments,
    config::Process,
    controller::MANAGER,
    inject::DONE,
    migration::{
        self, CONTROLLER, Change, Effect, Kind, NODE_PLUGIN, Read, Report, Scope, State, Step,
        USUAL_NAMESPACE,
    },
    offline::{
        Configuration, Document, Manifests,
        configuration::CONFIG_MAP,
        files::{self, Source},
        render,
    },
    telemetry::ApiCalls,
};

/// Objects without a namespace in manifests are in this one.
const DEFAULT_NAMESPACE: &str = "default";

/// `migration`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Manifests instead of a cluster: files, directories, or `-` for the standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1..)]
    filename: Vec<Source>,

    /// The configuration to be judged: its ConfigMap, or the bare config.yaml [default: that of the namespace of
    /// juicefs-sidecar, else the driver's]
    #[arg(long, value_name = "FILE")]
    config: Option<Source>,

    /// Namespace where juicefs-sidecar is, or is to be
    #[arg(short, long, value_name = "NAME", default_value = MANAGER)]
    namespace: String,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,

    #[command(flatten)]
    process: ProcessArguments,

    #[command(flatten)]
    client: ClientArguments,
}

const EXAMPLES: &str = "\
Nothing is changed. docs/migration.md has the whole way, and the way back.

Examples:
  juicefs-sidecar migration
  juicefs-sidecar migration -o json | jq '.changes[] | select(.effect == \"blocks\")'
  juicefs-sidecar migration -f manifests/ -f cluster.yaml

Exit code:
  0  nothing stands in the way
  1  something is to be mended first
  2  arguments, manifests, kubeconfig or API server cannot be used";

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        let process = self.process.process();
        let read = if self.filename.is_empty() {
            program::wait_for(async {
                let client = self.client.client("migration", ApiCalls::default()).await?;
                Ok(Cluster { client, namespace: &self.namespace, unseen: BTreeMap::new() }
                    .read(&process)
                    .await)
            })?
        } else {
            Read { documents: files::read(&self.filename)?, ..Read::default() }
        };
        let given = match &self.config {
            Some(file) => Some(Configuration::of_file(&file.to_string(), &files::read_text(file)?)?),
            None => None,
        };
        let (report, notes) = migration::of(
            &read,
            &Scope {
                namespace: &self.namespace,
                default_namespace: DEFAULT_NAMESPACE,
                process: &process,
                config: given.as_ref().map(Configuration::text),
            },
        )?;
        for note in notes {
            output.tell(&note.to_string());
        }
        let text = match self.output {
            Form::Json => render::json(&serde_json::to_value(&report)?),
            Form::Text => plain(&text(&report)),
        };
        output.write(text.as_bytes())?;
        Ok(u8::from(report.is_blocked()))
    }
}

/// A cluster that is read.
struct Cluster<'a> {
    client: Client,
    namespace: &'a str,
    unseen: BTreeMap<Kind, String>,
}

impl Cluster<'_> {
    async fn read(mut self, process: &Process) -> Read {
        let all = ListParams::default();
        let drivers = ListParams::default().labels(&format!("app in ({CONTROLLER},{NODE_PLUGIN})"));
        let mut found = Vec::new();
        found.extend(self.all::<Namespace>(Some(Kind::Namespaces), &all).await);
        found.extend(self.all::<StorageClass>(Some(Kind::Classes), &all).await);
        found.extend(self.all::<PersistentVolume>(Some(Kind::Volumes), &all).await);
        found.extend(self.all::<PersistentVolumeClaim>(Some(Kind::Claims), &all).await);
        // Nodes only decide between native sidecars and ordinary containers.
        found.extend(self.all::<Node>(None, &all).await);
        let registrations = self.all::<MutatingWebhookConfiguration>(Some(Kind::Registrations), &all).await;
        found.extend(registrations);
        let sets = self.all::<StatefulSet>(Some(Kind::StatefulSets), &drivers).await;
        let deployments = self.all::<Deployment>(Some(Kind::Deployments), &drivers).await;
        let theirs = sets.iter().chain(&deployments).find_map(|one| one["metadata"]["namespace"].as_str());
        let theirs = theirs.unwrap_or(USUAL_NAMESPACE).to_owned();
        found.extend(sets);
        found.extend(deployments);
        found.extend(self.all::<DaemonSet>(Some(Kind::DaemonSets), &drivers).await);
        found.extend(self.ours().await);
        found.extend(self.pods().await);
        let lease = ApiResource::erase::<Lease>(&());
        found.extend(self.one(Kind::Leases, &lease, &theirs, &process.driver).await);
        let mut config_maps = Vec::new();
        for namespace in [self.namespace, &theirs] {
            let resource = ApiResource::erase::<ConfigMap>(&());
            config_maps.extend(self.one(Kind::ConfigMaps, &resource, namespace, CONFIG_MAP).await);
        }
        let (secrets, unread_secrets) = self.secrets(&found, process).await;
        found.extend(secrets);
        let document = |objects| Document::of_objects("the cluster", objects);
        Read {
            documents: vec![document(found)],
            config_maps: vec![document(config_maps)],
            unseen: Some(self.unseen),
            unread_secrets,
        }
    }

    /// All objects of a kind; where they cannot be read, that is kept in mind.
    async fn all<K>(&mut self, kind: Option<Kind>, parameters: &ListParams) -> Vec<Value>
    where
        K: k8s_openapi::Resource + Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        self.listed(kind, &api, &resource, parameters).await
    }

    async fn ours(&mut self) -> Vec<Value> {
        let resource = ApiResource::erase::<Deployment>(&());
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), self.namespace, &resource);
        let labels = ListParams::default().labels(&format!("app.kubernetes.io/name={MANAGER}"));
        self.listed(Some(Kind::Deployments), &api, &resource, &labels).await
    }

    async fn listed(
        &mut self,
        kind: Option<Kind>,
        api: &Api<DynamicObject>,
        resource: &ApiResource,
        parameters: &ListParams,
    ) -> Vec<Value> {
        match list(api, parameters).await {
            Ok(objects) => objects.into_iter().filter_map(|object| value(object, resource)).collect(),
            Err(error) => {
                self.unseen.extend(kind.map(|kind| (kind, error)));
                Vec::new()
            }
        }
    }

    /// Pods that have, or should have, a client.
    async fn pods(&mut self) -> Vec<Value> {
        let mut pods = self.all::<Pod>(Some(Kind::Pods), &ListParams::default()).await;
        let has_claim = |pod: &Value| {
            let volumes = pod["spec"]["volumes"].as_array();
            volumes.into_iter().flatten().any(|volume| volume.get("persistentVolumeClaim").is_some())
        };
        pods.retain(|pod| pod["metadata"]["labels"].get(DONE).is_some() || has_claim(pod));
        pods
    }

    async fn one(
        &mut self,
        kind: Kind,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource);
        match get(&api, name).await {
            Ok(object) => value(object?, resource),
            Err(error) => {
                self.unseen.insert(kind, error);
                None
            }
        }
    }

    /// The user secrets that volumes and classes name, and the names of those that could not be read.
    async fn secrets(&self, found: &[Value], process: &Process) -> (Vec<Value>, BTreeSet<String>) {
        let document = Document::of_objects("the cluster", found.to_vec());
        let Ok((manifests, _)) = Manifests::gather([&document], DEFAULT_NAMESPACE) else {
            return Default::default();
        };
        let resource = ApiResource::erase::<Secret>(&());
        let (mut read, mut unread) = (Vec::new(), BTreeSet::new());
        for (namespace, name) in manifests.catalog.referenced_secrets(&process.driver) {
            let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &resource);
            match get(&api, &name).await {
                Ok(object) => read.extend(object.and_then(|object| value(object, &resource))),
                Err(_) => _ = unread.insert(format!("{namespace}/{name}")),
            }
        }
        (read, unread)
    }
}

/// An object as a manifest has it.
fn value(mut object: DynamicObject, resource: &ApiResource) -> Option<Value> {
    object.metadata = ObjectMeta { managed_fields: None, ..object.metadata };
    let mut value = serde_json::to_value(object).ok()?;
    // Items of lists do not say it.
    value["apiVersion"] = json!(resource.api_version);
    value["kind"] = json!(resource.kind);
    Some(value)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for (effect, heading) in [
        (Effect::Blocks, "Stands in the way"),
        (Effect::Changed, "Changes"),
        (Effect::Unseen, "Could not be looked at"),
        (Effect::Same, "Stays"),
    ] {
        let changes: Vec<&Change> = report.changes.iter().filter(|change| change.effect == effect).collect();
        if changes.is_empty() {
            continue;
        }
        _ = writeln!(text, "{heading}:");
        for change in changes {
            text.push_str(&line(change));
        }
        text.push('\n');
    }
    text.push_str("Steps:\n");
    for (index, step) in report.steps.iter().enumerate() {
        text.push_str(&step_lines(index + 1, step));
    }
    let blocks = report.changes.iter().filter(|change| change.effect == Effect::Blocks).count();
    _ = match blocks {
        0 => writeln!(text, "\nnothing stands in the way"),
        blocks => writeln!(text, "\n{blocks} to be mended first"),
    };
    text
}

fn line(change: &Change) -> String {
    let Change { effect, area, objects, what, remedy } = change;
    let mark = match effect {
        Effect::Blocks => '✘',
        Effect::Changed => '!',
        Effect::Unseen => '?',
        Effect::Same => '✔',
    };
    let mut line = format!("{mark} {area}");
    if !objects.is_empty() {
        _ = write!(line, " {}", few(objects));
    }
    _ = writeln!(line, ": {what}");
    if !remedy.is_empty() {
        _ = writeln!(line, "    {remedy}");
    }
    line
}

fn step_lines(number: usize, step: &Step) -> String {
    let mark = match step.state {
        State::Done => '✔',
        State::Next => '▶',
        State::Open => ' ',
        State::Unseen => '?',
    };
    let seen = match (step.state, step.seen.as_str()) {
        (State::Unseen, "") => "it cannot be told from what was seen",
        (_, seen) => seen,
    };
    let mut lines = format!("{mark} {number}. {}: {seen}\n", step.title);
    for command in &step.commands {
        _ = writeln!(lines, "       {command}");
    }
    lines
}
