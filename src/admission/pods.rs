//! Pods: the engine's decision.

use super::{
    Answer, answer_with,
    review::{Request, text, whole_object},
};
use crate::{
    inject::{Decision, Engine, Family, Subject},
    outcome::{Code, Refusal},
    pod::Pod,
};

/// Answers a review sent to one of the two injection paths.
pub(super) fn answer(body: &[u8], family: Family, engine: &Engine<'_>) -> Answer {
    answer_with::<Pod<'_>>(body, unwanted, |request| {
        let name = request.object.as_ref().map_or("", |pod| {
            let metadata = &pod.metadata;
            text(metadata.name.as_ref().or(metadata.generate_name.as_ref()))
        });
        let name = if name.is_empty() { text(request.name.as_ref()) } else { name };
        (name.to_owned(), unwanted(request).unwrap_or_else(|| decide(body, request, family, engine)))
    })
}

/// Only creations of pods are mutated: sidecars cannot be added later, and subresources are not pods.
fn unwanted<O>(request: &Request<'_, O>) -> Option<Decision> {
    if !request.is_core("Pod") {
        return Some(Decision::new(Code::NotAPod, "only pods themselves are injected"));
    }
    if request.operation() != "CREATE" {
        return Some(Decision::new(Code::NotACreation, "only creations of pods are injected"));
    }
    None
}

fn decide(body: &[u8], request: &Request<'_, Pod<'_>>, family: Family, engine: &Engine<'_>) -> Decision {
    let Some(pod) = &request.object else {
        return Refusal::new(
            Code::Unreadable,
            "request.object",
            "is missing",
            "send the pod that is to be created",
        )
        .into();
    };
    // The request's word: the pod's own namespace is often empty at admission.
    let namespace = match text(request.namespace.as_ref()) {
        "" => text(pod.metadata.namespace.as_ref()),
        namespace => namespace,
    };
    let object = || whole_object(body);
    let subject = Subject { pod, object: &object, namespace, identity: Some(request.uid()), family };
    engine.decide(&subject)
}
