//! Workloads: where the pod is in them, and what is decided about it.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    Document, InputError, Manifests, Notice, Object,
    objects::objects,
    templates::{self, TemplatePath},
};
use crate::{
    inject::{Decision, Engine, Family, STATUS, Subject},
    outcome::{Code, Refusal},
    pod::{ClaimTemplate, Pod},
};

/// An object with a pod in it.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// The Pod, Deployment, …
    pub object: Object<'a>,
    /// JSON pointer from the object's root to the pod or its template.
    pub pod_path: String,
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
pub fn workloads<'a>(document: &'a Document, configured: &[TemplatePath]) -> Vec<Workload<'a>> {
    let pods_of = |object: Object<'a>| {
        let paths = templates::pods(&object, configured);
        paths.into_iter().filter_map(move |pod_path| {
            let pod = object.value.pointer(&pod_path)?;
            Some(Workload { object: object.clone(), pod_path, pod })
        })
    };
    objects(document).into_iter().flat_map(pods_of).collect()
}

/// What there is to say of a document's objects that are no workloads and might be taken for some.
pub fn remarks(document: &Document, configured: &[TemplatePath], namespace: &str) -> Vec<Notice> {
    let objects = objects(document);
    if objects.is_empty() && !document.value.is_null() && document.value.get("kind").is_none() {
        let what = "no manifest of Kubernetes, it has no kind; printed as it is".to_owned();
        return vec![Notice { place: document.place.to_string(), what }];
    }
    let unknown = objects.into_iter().filter(|object| templates::pods(object, configured).is_empty());
    let remark = |object: Object<'_>| {
        let group = if object.group().is_empty() { String::new() } else { format!("{} ", object.group()) };
        let place = format!("{} {group}{}", object.place(), object.title(namespace));
        Some(Notice { place, what: templates::remark(&object)? })
    };
    unknown.filter_map(remark).collect()
}

impl Workload<'_> {
    /// The namespace the pods are (to be) in.
    pub fn namespace<'b>(&'b self, scope: &'b Scope) -> &'b str {
        if self.object.namespace().is_empty() { &scope.namespace } else { self.object.namespace() }
    }

    /// Decides on the workload's pod. Paths of the decision's patch are from the pod's root.
    pub fn decide(&self, engine: &Engine<'_>, manifests: &Manifests, scope: &Scope) -> Decision {
        let namespace = self.namespace(scope);
        let family = match manifests.family(namespace) {
            Some(None) if !scope.serverless => return not_enabled(namespace),
            Some(Some(Family::Serverless)) => Family::Serverless,
            _ if scope.serverless => Family::Serverless,
            _ => Family::Node,
        };
        self.decide_as(engine, namespace, family).unwrap_or_else(|error| self.unreadable(&error))
    }

    fn decide_as(
        &self,
        engine: &Engine<'_>,
        namespace: &str,
        family: Family,
    ) -> Result<Decision, InputError> {
        let mut pod: Pod<'_> = self.object.read(&self.pod_path)?;
        if !self.pod_path.is_empty() {
            // Kubernetes overrules it with one for each pod.
            pod.metadata.name = None;
        }
        self.check_maps()?;
        let opted_out =
            pod.metadata.labels.as_ref().is_some_and(|labels| labels.disable.as_deref() == Some("true"));
        if !opted_out && let Some(refusal) = self.claim_templates(engine)? {
            return Ok(refusal.into());
        }
        // A template's pods are many; a pod that was created has an identity of its own.
        let identity = match self.pod_path.as_str() {
            "" => pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty()),
            _ => None,
        };
        let object = || Ok(Cow::Owned(self.pod.to_string()));
        Ok(engine.decide(&Subject { pod: &pod, object: &object, namespace, identity, family }))
    }

    /// Of a workload that the API server would not take either: it stops no other, and where none of its volumes
    /// could be JuiceFS it is none of our business.
    fn unreadable(&self, error: &InputError) -> Decision {
        let place = if error.field.is_empty() { self.object.kind.to_string() } else { error.field.clone() };
        if self.could_be_ours() {
            let line = error.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            let remedy = "correct it: the API server would refuse it too";
            return Refusal::new(Code::Unreadable, place + &line, &*error.what, remedy).into();
        }
        let message = format!("{place}: {}; left as it is, no volume of it can be JuiceFS", error.what);
        Decision { warnings: vec![message.clone()], ..Decision::new(Code::NoJuicefsVolume, message) }
    }

    /// Whether the pod has a volume that may be JuiceFS, or says that it was injected.
    fn could_be_ours(&self) -> bool {
        let sources = ["persistentVolumeClaim", "ephemeral", "csi"];
        let is_candidate = |volume: &Value| sources.iter().any(|source| !volume[source].is_null());
        match &self.pod["spec"]["volumes"] {
            Value::Array(volumes) => {
                volumes.iter().any(is_candidate) || !self.pod["metadata"]["annotations"][STATUS].is_null()
            }
            Value::Null => false,
            _ => true,
        }
    }

    /// Lists where there should be maps: a structure is read from either, but a patch knows the difference.
    fn check_maps(&self) -> Result<(), InputError> {
        for field in ["", "/metadata", "/metadata/labels", "/metadata/annotations", "/spec"] {
            if self.pod.pointer(field).is_some_and(Value::is_array) {
                return Err(self.object.error(&format!("{}{field}", self.pod_path), "not a map but a list"));
            }
        }
        Ok(())
    }

    /// A StatefulSet whose own claims are JuiceFS ones cannot be injected ahead of its pods.
    fn claim_templates(&self, engine: &Engine<'_>) -> Result<Option<Refusal>, InputError> {
        const PATH: &str = "/spec/volumeClaimTemplates";
        if self.object.kind != "StatefulSet" || self.object.value.pointer(PATH).is_none_or(Value::is_null) {
            return Ok(None);
        }
        let templates: Vec<ClaimTemplate<'_>> = self.object.read(PATH)?;
        for (index, template) in templates.iter().enumerate() {
            let class = engine.catalog.class_or_default(template.spec.storage_class_name.as_deref());
            if let Some(class) = class.filter(|class| *class.provisioner == *engine.process.driver) {
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
}

fn not_enabled(namespace: &str) -> Decision {
    let message =
        format!("namespace {namespace:?} is not labelled juicefs.com/enable-injection=true: left alone");
    Decision { warnings: vec![message.clone()], ..Decision::new(Code::NamespaceNotEnabled, message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Process},
        offline::{changes::Changes, documents},
    };

    const MANIFESTS: &str = concat!(
        include_str!("../../examples/quickstart/1-namespace.yaml"),
        "---\n",
        include_str!("../../examples/quickstart/2-secret.yaml"),
        "---\n",
        include_str!("../../examples/quickstart/3-storageclass.yaml"),
        "---\n",
        include_str!("../../examples/quickstart/4-claim.yaml"),
        "---\n",
        include_str!("../../examples/quickstart/5-deployment.yaml"),
    );

    /// Decides on every workload and applies what is decided.
    fn inject(documents: &[Document]) -> Result<Vec<Code>, InputError> {
        let (manifests, _) = Manifests::gather(documents, "default")?;
        let (config, process) = (Config::default(), Process::default());
        let engine =
            Engine { catalog: &manifests.catalog, config: &config, process: &process, explain: true };
        let scope = Scope { namespace: "default".to_owned(), serverless: false };
        let mut changes = Changes::new(documents);
        let mut codes = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            for workload in workloads(document, &[]) {
                let decision = workload.decide(&engine, &manifests, &scope);
                changes.apply(index, &workload, "default", &decision.patch).expect("the patch applies");
                codes.push(decision.code);
            }
        }
        Ok(codes)
    }

    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| {
                    pointers(value, &format!("{at}/{}", crate::offline::objects::escape(key)), found);
                });
            }
            Value::Array(list) => {
                list.iter()
                    .enumerate()
                    .for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), found));
            }
            _ => {}
        }
    }

    #[test]
    fn any_field_may_be_anything_without_a_panic_or_a_failure_of_ours() {
        let documents = documents::parse("x.yaml", MANIFESTS).expect("readable");
        assert_eq!(inject(&documents), Ok(vec![Code::Injected]));
        let mut tried = 0;
        for (index, document) in documents.iter().enumerate() {
            let mut places = Vec::new();
            pointers(&document.value, "", &mut places);
            for place in places {
                for odd in [
                    "null",
                    "-5",
                    "\"\"",
                    "\"../x y\\u0000\"",
                    "[]",
                    "{}",
                    "[null]",
                    "[{\"name\": {}}]",
                    "1e300",
                ] {
                    let mut changed = documents.clone();
                    let field =
                        changed.get_mut(index).and_then(|document| document.value.pointer_mut(&place));
                    *field.expect("the field") = serde_json::from_str(odd).expect("JSON");
                    match inject(&changed) {
                        Ok(codes) => assert!(!codes.contains(&Code::Internal), "{place} = {odd}"),
                        Err(error) => {
                            assert!(error.line.is_some() && !error.what.is_empty(), "{place} = {odd}");
                        }
                    }
                    tried += 1;
                }
            }
        }
        assert!(tried > 500, "{tried}");
    }
}
