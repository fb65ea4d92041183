//! The objects that the engine has no use for: the driver's programs, ours, registrations, Leases and pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::{Deployment, StatefulSet},
        coordination::v1::Lease,
        core::v1::{Container, Pod, PodSpec},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;

use crate::{
    config::Config,
    controller::MANAGER,
    offline::{Document, Notice, Object, configuration::CONFIG_MAP, objects::objects},
    volume::PersistentVolume,
};

/// The driver's controller, by its label `app`, which its chart and its manifests share.
pub const CONTROLLER: &str = "juicefs-csi-controller";
/// The driver's node plugin, by the same label.
pub const NODE_PLUGIN: &str = "juicefs-csi-node";

macro_rules! kinds {
    ($($kind:ident = $text:literal,)+) => {
        /// A kind of object that the report depends on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the kinds of the API")]
        pub enum Kind { $($kind,)+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// As the API calls them.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $text,)+ }
            }
        }
    };
}

kinds! {
    Namespaces = "Namespace",
    Classes = "StorageClass",
    Volumes = "PersistentVolume",
    Claims = "PersistentVolumeClaim",
    Secrets = "Secret",
    ConfigMaps = "ConfigMap",
    StatefulSets = "StatefulSet",
    Deployments = "Deployment",
    DaemonSets = "DaemonSet",
    Registrations = "MutatingWebhookConfiguration",
    Leases = "Lease",
    Pods = "Pod",
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Kinds of which nothing is known, and why.
    pub(super) unseen: BTreeMap<Kind, String>,
    /// User secrets that exist, perhaps, and could not be read, as `namespace/name`.
    pub(super) unread_secrets: BTreeSet<String>,
    pub(super) drivers: Vec<Program>,
    pub(super) node_plugins: Vec<String>,
    pub(super) ours: Vec<Program>,
    pub(super) registrations: Vec<MutatingWebhookConfiguration>,
    pub(super) leases: Vec<Lease>,
    pub(super) config_maps: Vec<Configuration>,
    pub(super) pods: Vec<Pod>,
    pub(super) classes: Vec<StorageClass>,
    /// With all their annotations.
    pub(super) volumes: Vec<PersistentVolume>,
}

/// A program's workload.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) kind: &'static str,
    pub(super) metadata: ObjectMeta,
    pub(super) replicas: i32,
    pub(super) containers: Vec<Container>,
}

/// A `ConfigMap` of the driver's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) namespace: String,
    pub(super) text: String,
}

impl Program {
    fn new(kind: &'static str, metadata: ObjectMeta, replicas: Option<i32>, pod: Option<PodSpec>) -> Self {
        let containers = pod.map(|pod| pod.containers).unwrap_or_default();
        Self { kind, metadata, replicas: replicas.unwrap_or(1), containers }
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// `statefulset/juicefs-csi-controller`, as kubectl takes it.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.name())
    }

    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    /// What the environment of some container says: `None` if nothing, or nothing that stands in the workload itself.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.containers.iter().flat_map(|container| container.env.iter().flatten());
        let mut found = variables.filter(|variable| variable.name == name);
        found.find_map(|variable| variable.value.as_deref()).filter(|value| !value.is_empty())
    }

    /// What a flag of some container says; a flag without a value says `true`.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        let words = self
            .containers
            .iter()
            .flat_map(|container| container.command.iter().flatten().chain(container.args.iter().flatten()));
        let mut found = words.filter_map(|word| {
            match word.trim_start_matches('-').strip_prefix(name).filter(|_| word.starts_with('-'))? {
                "" => Some("true"),
                rest => rest.strip_prefix('='),
            }
        });
        found.next()
    }

    pub(super) fn has_container(&self, name: &str) -> bool {
        self.containers.iter().any(|container| container.name == name)
    }
}

impl Objects {
    /// Finds them among documents; what is not there at all was not seen. `notes` gets what cannot be read.
    pub(super) fn gather<'a>(
        documents: impl IntoIterator<Item = &'a Document>,
        default_namespace: &str,
        notes: &mut Vec<Notice>,
    ) -> Self {
        let mut gathered = Self::default();
        let mut seen = BTreeSet::new();
        for object in documents.into_iter().flat_map(objects) {
            if let Some(kind) = gathered.take(&object, default_namespace, notes) {
                seen.insert(kind);
            }
        }
        for kind in Kind::ALL.iter().filter(|kind| !seen.contains(kind)) {
            gathered.unseen.insert(*kind, "there is none among the manifests".to_owned());
        }
        gathered
    }

    /// The text of the configuration that counts, or will: that of our namespace, else the driver's.
    pub(super) fn configuration(&self, namespace: &str) -> Option<&str> {
        let ours = self.config_maps.iter().find(|one| one.namespace == namespace);
        let theirs = || self.drivers.first().map(Program::namespace);
        let theirs = || self.config_maps.iter().find(|one| Some(&*one.namespace) == theirs());
        ours.or_else(theirs).or(self.config_maps.first()).map(|one| one.text.as_str())
    }

    pub(super) fn is_seen(&self, kind: Kind) -> bool {
        !self.unseen.contains_key(&kind)
    }

    /// Keeps an object; its kind, if it matters.
    fn take(&mut self, object: &Object<'_>, namespace: &str, notes: &mut Vec<Notice>) -> Option<Kind> {
        let kind = Kind::ALL.iter().copied().find(|kind| kind.as_str() == object.kind)?;
        match (kind, object.group()) {
            (Kind::StatefulSets, "apps") => {
                if let Some(set) = read::<StatefulSet>(object, namespace, notes) {
                    let (replicas, template) =
                        set.spec.map(|spec| (spec.replicas, spec.template.spec)).unwrap_or_default();
                    self.program(object, Program::new("statefulset", set.metadata, replicas, template));
                }
            }
            (Kind::Deployments, "apps") => {
                if let Some(deployment) = read::<Deployment>(object, namespace, notes) {
                    let spec = deployment.spec;
                    let (replicas, template) =
                        spec.map(|spec| (spec.replicas, spec.template.spec)).unwrap_or_default();
                    let program = Program::new("deployment", deployment.metadata, replicas, template);
                    self.program(object, program);
                }
            }
            (Kind::DaemonSets, "apps") if is_called(object, "app", NODE_PLUGIN) => {
                self.node_plugins.push(format!("{}/{}", namespace_of(object, namespace), object.name()));
            }
            (Kind::Registrations, "admissionregistration.k8s.io") => {
                self.registrations.extend(read(object, namespace, notes));
            }
            (Kind::Leases, "coordination.k8s.io") => self.leases.extend(read(object, namespace, notes)),
            // Who cannot read these two hears of it from the engine.
            (Kind::Classes, "storage.k8s.io") => self.classes.extend(object.read("")),
            (Kind::Pods, "") => self.pods.extend(read(object, namespace, notes)),
            (Kind::Volumes, "") => self.volumes.extend(object.read("")),
            (Kind::ConfigMaps, "") if object.name() == CONFIG_MAP => {
                let text = object.value.pointer("/data").and_then(|data| data.get(Config::KEY)?.as_str());
                let namespace = namespace_of(object, namespace).to_owned();
                self.config_maps.push(Configuration { namespace, text: text.unwrap_or_default().to_owned() });
            }
            _ => {}
        }
        Some(kind)
    }

    fn program(&mut self, object: &Object<'_>, program: Program) {
        if is_called(object, "app", CONTROLLER) {
            self.drivers.push(program);
        } else if is_called(object, "app.kubernetes.io/name", MANAGER) {
            self.ours.push(program);
        }
    }
}

fn namespace_of<'a>(object: &Object<'a>, default: &'a str) -> &'a str {
    Some(object.namespace()).filter(|namespace| !namespace.is_empty()).unwrap_or(default)
}

/// Whether an object, or the pods of a workload, have a label.
fn is_called(object: &Object<'_>, label: &str, name: &str) -> bool {
    let has = |place: &str| {
        let labels = object.value.pointer(place).and_then(|labels| labels.get(label));
        labels.and_then(|value| value.as_str()) == Some(name)
    };
    has("/metadata/labels") || has("/spec/template/metadata/labels")
}

/// Reads an object of the API; one that cannot be read is told, and taken as if it were not there.
fn read<T: DeserializeOwned + k8s_openapi::Metadata<Ty = ObjectMeta>>(
    object: &Object<'_>,
    namespace: &str,
    notes: &mut Vec<Notice>,
) -> Option<T> {
    let read: Result<T, _> = object.read("");
    let mut read = read.map_err(|error| notes.push(Notice::unread(error, &object.title(namespace)))).ok()?;
    read.metadata_mut().namespace.get_or_insert_with(|| namespace.to_owned());
    Some(read)
}
