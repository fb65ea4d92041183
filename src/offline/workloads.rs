//! Workloads: where the pod is in them, and what is decided about it.

use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::Value;

use super::{Document, InputError, Manifests, Object, objects::objects};
use crate::{
    inject::{Decision, Engine, Family, Subject},
    outcome::{Code, Refusal},
    pod::{ClaimTemplate, Pod},
};

/// An object with a pod in it.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// The Pod, Deployment, …
    pub object: Object<'a>,
    /// JSON pointer from the object's root to the pod or its template.
    pub pod_path: &'static str,
    /// The pod, or the pod template.
    pub pod: &'a Value,
}

/// What the user said that counts for every workload.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Namespace of objects that say none.
    pub namespace: String,
    /// Whether every namespace is taken for a serverless one.
    pub serverless: bool,
}

/// The workloads of a document; a Deployment without a template (a kustomize patch, say) is none.
pub fn workloads(document: &Document) -> Vec<Workload<'_>> {
    objects(document)
        .into_iter()
        .filter_map(|object| {
            let pod_path = pod_path(&object)?;
            let pod = object.value.pointer(pod_path).filter(|pod| !pod.is_null())?;
            Some(Workload { object, pod_path, pod })
        })
        .collect()
}

/// Where the pod is; the group is looked at because others have a `Job` too.
fn pod_path(object: &Object<'_>) -> Option<&'static str> {
    match (object.group(), &*object.kind) {
        ("", "Pod") => Some(""),
        ("", "ReplicationController")
        | ("apps" | "extensions", "Deployment" | "ReplicaSet" | "DaemonSet")
        | ("apps", "StatefulSet")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

impl Workload<'_> {
    /// The namespace the pods are (to be) in.
    pub fn namespace<'b>(&'b self, scope: &'b Scope) -> &'b str {
        if self.object.namespace().is_empty() { &scope.namespace } else { self.object.namespace() }
    }

    /// Decides on the workload's pod. Paths of the decision's patch are from the pod's root.
    pub fn decide(
        &self,
        engine: &Engine<'_>,
        manifests: &Manifests,
        scope: &Scope,
    ) -> Result<Decision, InputError> {
        let namespace = self.namespace(scope);
        let family = match manifests.family(namespace) {
            Some(None) if !scope.serverless => return Ok(not_enabled(namespace)),
            Some(Some(Family::Serverless)) => Family::Serverless,
            _ if scope.serverless => Family::Serverless,
            _ => Family::Node,
        };
        let pod: Pod<'_> = self.object.read(self.pod_path)?;
        let opted_out =
            pod.metadata.labels.as_ref().is_some_and(|labels| labels.disable.as_deref() == Some("true"));
        if !opted_out && let Some(refusal) = self.claim_templates(engine)? {
            return Ok(refused(&refusal));
        }
        // A template's pods are many; a pod that was created has an identity of its own.
        let identity = match self.pod_path {
            "" => pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty()),
            _ => None,
        };
        let object = || self.pod.clone();
        Ok(engine.decide(&Subject { pod: &pod, object: &object, namespace, identity, family }))
    }

    /// A StatefulSet whose own claims are JuiceFS ones cannot be injected ahead of its pods.
    fn claim_templates(&self, engine: &Engine<'_>) -> Result<Option<Refusal>, InputError> {
        const PATH: &str = "/spec/volumeClaimTemplates";
        if self.object.kind != "StatefulSet" || self.object.value.pointer(PATH).is_none_or(Value::is_null) {
            return Ok(None);
        }
        let templates: Vec<ClaimTemplate<'_>> = self.object.read(PATH)?;
        for (index, template) in templates.iter().enumerate() {
            let class = match template.spec.storage_class_name.as_deref() {
                Some(name) => engine.lookup.class(name),
                None => engine.lookup.default_class(),
            };
            if let Some(class) = class.filter(|class| class.provisioner == engine.process.driver) {
                let name = template.metadata.name.as_deref().unwrap_or_default();
                return Ok(Some(Refusal::new(
                    Code::ClaimUnusable,
                    format!("statefulset {:?}: spec.volumeClaimTemplates[{index}]", self.object.name()),
                    format!(
                        "claim template {name:?} is of the JuiceFS class {:?}, and each pod gets a claim of its own",
                        class.metadata.name
                    ),
                    "apply it as it is: the webhook injects each pod when it is created",
                )));
            }
        }
        Ok(None)
    }

    /// The decision's operations with paths from the document's root.
    pub fn from_document_root(&self, patch: &Patch) -> Patch {
        let base = format!("{}{}", self.object.pointer, self.pod_path);
        Patch(patch.0.iter().map(|operation| under(&base, operation)).collect())
    }
}

fn not_enabled(namespace: &str) -> Decision {
    let message =
        format!("namespace {namespace:?} is not labelled juicefs.com/enable-injection=true: left alone");
    Decision {
        code: Code::NamespaceNotEnabled,
        message: message.clone(),
        warnings: vec![message],
        patch: Patch(Vec::new()),
        volumes: Vec::new(),
    }
}

/// A decision that says no more than a refusal does.
fn refused(refusal: &Refusal) -> Decision {
    Decision {
        code: refusal.code,
        message: refusal.to_string(),
        warnings: Vec::new(),
        patch: Patch(Vec::new()),
        volumes: Vec::new(),
    }
}

/// The same operation below a prefix.
fn under(base: &str, operation: &PatchOperation) -> PatchOperation {
    let mut operation = operation.clone();
    let move_down = |path: &mut PointerBuf| {
        if let Ok(moved) = PointerBuf::parse(format!("{base}{path}")) {
            *path = moved;
        }
    };
    match &mut operation {
        PatchOperation::Add(add) => move_down(&mut add.path),
        PatchOperation::Remove(remove) => move_down(&mut remove.path),
        PatchOperation::Replace(replace) => move_down(&mut replace.path),
        PatchOperation::Test(test) => move_down(&mut test.path),
        PatchOperation::Move(move_) => {
            move_down(&mut move_.from);
            move_down(&mut move_.path);
        }
        PatchOperation::Copy(copy) => {
            move_down(&mut copy.from);
            move_down(&mut copy.path);
        }
    }
    operation
}
