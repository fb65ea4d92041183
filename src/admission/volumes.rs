//! Static volumes: what would make every pod that uses one be refused, said when it is made.

use super::{
    Answer, answer_with,
    review::{Request, text},
};
use crate::{
    inject::{Decision, Engine},
    outcome::{Code, Miss, Refusal},
    volume::{PersistentVolume, objects::CsiSource},
};

/// Answers a review sent to the path that validates volumes.
pub(super) fn answer(body: &[u8], engine: &Engine<'_>) -> Answer {
    answer_with::<PersistentVolume>(body, unwanted, |request| {
        let name = match text(request.name.as_ref()) {
            "" => request.object.as_ref().map_or("", |volume| &volume.metadata.name),
            name => name,
        };
        (name.to_owned(), unwanted(request).unwrap_or_else(|| decide(request, engine)))
    })
}

fn unwanted<O>(request: &Request<'_, O>) -> Option<Decision> {
    if !request.is_core("PersistentVolume") {
        return Some(Decision::new(Code::Valid, "only persistentvolumes are validated here"));
    }
    if request.operation() != "CREATE" {
        return Some(Decision::new(Code::Valid, "only creations of persistentvolumes are validated"));
    }
    None
}

fn decide(request: &Request<'_, PersistentVolume>, engine: &Engine<'_>) -> Decision {
    let Some(volume) = &request.object else {
        return Refusal::new(Code::Unreadable, "request.object", "is missing", "send the persistentvolume")
            .into();
    };
    let source = match &volume.spec.csi {
        Some(source) if *source.driver == *engine.process.driver => source,
        _ => return Decision::new(Code::Valid, "the volume belongs to another driver"),
    };
    if !volume.spec.storage_class_name.is_empty() {
        return Decision::new(
            Code::Valid,
            "volumes of a class are made by its provisioner and not validated",
        );
    }
    check(volume, source, engine).unwrap_or_else(Decision::from)
}

/// The first thing that is wrong, else what is worth a warning.
fn check(volume: &PersistentVolume, source: &CsiSource, engine: &Engine<'_>) -> Result<Decision, Refusal> {
    let name = &volume.metadata.name;
    let place = |field: &str| format!("persistentvolume \"{name}\": spec.csi.{field}");
    let handle = &source.volume_handle;
    if handle.is_empty() {
        return Err(Refusal::new(
            Code::SettingInvalid,
            place("volumeHandle"),
            "is empty",
            "give the volume a handle of its own; its name will do",
        ));
    }
    let mut twins = engine.catalog.volumes_with_handle(&source.driver, handle);
    if let Some(other) = twins.find(|other| other.metadata.name != *name) {
        return Err(Refusal::new(
            Code::HandleTaken,
            place("volumeHandle"),
            format!("\"{handle}\" is the handle of persistentvolume \"{}\"", other.metadata.name),
            "give each volume a handle of its own",
        ));
    }
    let Some(reference) = &source.node_publish_secret_ref else {
        return Err(Refusal::new(
            Code::SecretMissing,
            place("nodePublishSecretRef"),
            "is missing",
            "name the secret that holds the file system's name and credentials",
        ));
    };
    for (field, value) in [("name", &reference.name), ("namespace", &reference.namespace)] {
        if value.is_empty() {
            return Err(Refusal::new(
                Code::SecretMissing,
                place(&format!("nodePublishSecretRef.{field}")),
                "is empty",
                "name the secret that holds the file system's name and credentials, and its namespace",
            ));
        }
    }
    let (namespace, name) = (&reference.namespace, &reference.name);
    let mut decision = Decision::new(Code::Valid, "the volume can be used");
    match engine.catalog.user_secret(namespace, name) {
        None => {
            decision.misses.push(Miss::Secret { namespace: namespace.to_string(), name: name.to_string() });
            decision.warnings.push(format!(
                "secret \"{namespace}/{name}\" does not exist yet; pods that use the volume are refused until it does"
            ));
        }
        Some(Err(problem)) => decision.warnings.push(format!(
            "secret \"{namespace}/{name}\": {problem}; pods that use the volume are refused until this is corrected"
        )),
        Some(Ok(_)) => {}
    }
    Ok(decision)
}
