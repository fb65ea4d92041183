//! What else is in and around the pod, and has to stay valid and known with a client beside it.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::api::resource::Quantity as ApiQuantity};
use serde_json::Value;

use crate::{
    inject::{
        Engine, Subject, Volumes,
        node::Native,
        profile::{Privilege, Profile},
    },
    notation::Quantity,
    pod::{Amount, Annotations, Container, Pod, Text, labels::POD_SECURITY},
    slip,
};

/// What is worth saying before anything is planned.
pub(crate) fn warnings(
    engine: &Engine<'_>,
    subject: &Subject<'_>,
    profile: &Profile,
    native: &Native,
) -> Vec<String> {
    let old_node = match native {
        Native::OldNode(why) => Some(format!(
            "{why}, older than 1.29, and the pod may run there: its clients are ordinary containers and no native sidecars"
        )),
        Native::Yes | Native::No(_) => None,
    };
    let security = pod_security(engine, subject.namespace, profile);
    security.into_iter().chain(old_node).chain(slips(subject.pod)).collect()
}

/// Annotations of the pod that were meant to be others.
fn slips(pod: &Pod<'_>) -> impl Iterator<Item = String> {
    let unknown = pod.metadata.annotations.iter().flat_map(|annotations| &annotations.unknown);
    unknown.filter_map(|key| {
        let meant = slip::meant(key, Annotations::KEYS, slip::CLOSE)?;
        Some(format!("metadata.annotations[\"{key}\"]: is not known, ignored; did you mean {meant}?"))
    })
}

/// The API server will judge the pod itself, where nobody looks: at the creation of a Deployment's pods.
fn pod_security(engine: &Engine<'_>, namespace: &str, profile: &Profile) -> Option<String> {
    let level = engine.catalog.namespace(namespace)?.metadata.labels.get(POD_SECURITY)?;
    let refuses = match (&**level, profile.privilege) {
        // Beside a client without privilege is the agent, which has it.
        ("restricted", _) | ("baseline", Privilege::Privileged | Privilege::Nothing) => true,
        ("baseline", Privilege::Capabilities(added)) => !added.is_empty(),
        _ => false,
    };
    refuses.then(|| {
        format!(
            "namespace {namespace:?} has the label {POD_SECURITY}={level}, by which the API server will refuse the pod with \
             its client; set it to privileged"
        )
    })
}

/// Says which mounts do without what the profile would have given them.
pub(crate) fn without_propagation(pod: &Pod<'_>, volumes: &Volumes<'_>, profile: &Profile) -> Option<String> {
    profile.application_propagation.filter(|forced| *forced != "None")?;
    let mounts = |container: &Container<'_>| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.is_read_only_all_the_way() && volumes.get(&mount.name).is_some())
    };
    let container = pod.spec.all_containers().find(|container| mounts(container))?;
    Some(format!(
        "container {:?} mounts with recursiveReadOnly, which excludes mountPropagation: when its JuiceFS client starts \
         anew, the container has to be started anew too",
        container.name.0
    ))
}

/// One entry of `spec.resources`, raised by what the clients ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodResource {
    /// `requests` or `limits`.
    pub(crate) field: &'static str,
    /// `cpu`, `memory` or huge pages.
    pub(crate) resource: String,
    /// What stands there, if anything does.
    pub(crate) before: Option<Value>,
    /// What the clients add.
    pub(crate) added: Quantity,
    /// What is to stand there.
    pub(crate) after: Quantity,
}

/// The resources of a pod as a whole, where it has some, with those of the clients added: the application keeps what
/// it had, and the API server refuses pods whose containers ask for more than they do.
pub(crate) fn pod_resources(pod: &Pod<'_>, clients: &[&api::ResourceRequirements]) -> Vec<PodResource> {
    let Some(whole) = &pod.spec.resources else { return Vec::new() };
    let total = |of: fn(&api::ResourceRequirements, &str) -> Option<Quantity>, resource: &str| {
        clients.iter().filter_map(|client| of(client, resource)).reduce(Quantity::plus)
    };
    let mut changes = Vec::new();
    let mut raise = |field,
                     resource: &str,
                     before: Option<&Amount<'_>>,
                     base: Option<Quantity>,
                     added: Option<Quantity>| {
        let Some((base, added)) = base.zip(added.filter(|added| added.is_positive())) else { return };
        let before = before.map(Amount::to_value);
        changes.push(PodResource {
            field,
            resource: resource.to_owned(),
            before,
            added,
            after: base.plus(added),
        });
    };
    for (resource, limit) in whole.limits.iter().flatten().filter(|(resource, _)| is_of_pods(resource)) {
        let quantity = limit.parse().ok();
        // Without a limit of its own a client takes what it requests, at least.
        raise("limits", resource, Some(limit), quantity, total(limit_of, resource));
        if !has(whole.requests.as_ref(), resource) && !any_container_requests(pod, resource) {
            // The API server would take the limit for the request; with a client it would take the client's.
            raise("requests", resource, None, quantity, total(request_of, resource));
        }
    }
    for (resource, request) in whole.requests.iter().flatten().filter(|(resource, _)| is_of_pods(resource)) {
        raise("requests", resource, Some(request), request.parse().ok(), total(request_of, resource));
    }
    changes
}

/// Says by how much.
pub(crate) fn raised(changes: &[PodResource]) -> Option<String> {
    let each =
        changes.iter().map(|change| format!("{}.{} by {}", change.field, change.resource, change.added));
    let each = each.collect::<Vec<_>>().join(", ");
    (!each.is_empty()).then(|| format!("spec.resources of the pod is raised for the JuiceFS client: {each}"))
}

/// What a pod as a whole may have resources of.
fn is_of_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

fn has(amounts: Option<&BTreeMap<Text<'_>, Amount<'_>>>, resource: &str) -> bool {
    amounts.and_then(|amounts| amounts.get(&Text::from(resource))).is_some_and(|amount| !amount.is_empty())
}

/// Whether the API server finds a request of this resource in a container, its limit standing in for a missing one.
fn any_container_requests(pod: &Pod<'_>, resource: &str) -> bool {
    pod.spec.all_containers().filter_map(|container| container.resources.as_ref()).any(|resources| {
        has(resources.requests.as_ref(), resource) || has(resources.limits.as_ref(), resource)
    })
}

fn quantity(amounts: Option<&BTreeMap<String, ApiQuantity>>, resource: &str) -> Option<Quantity> {
    amounts?.get(resource)?.0.parse().ok()
}

/// What a client requests; Kubernetes takes its limit for a missing request.
fn request_of(client: &api::ResourceRequirements, resource: &str) -> Option<Quantity> {
    quantity(client.requests.as_ref(), resource).or_else(|| quantity(client.limits.as_ref(), resource))
}

/// What a client may take.
fn limit_of(client: &api::ResourceRequirements, resource: &str) -> Option<Quantity> {
    quantity(client.limits.as_ref(), resource).or_else(|| request_of(client, resource))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(spec: &Value) -> Vec<String> {
        let text = json!({ "spec": spec }).to_string();
        let client: api::ResourceRequirements = serde_json::from_value(
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}}),
        )
        .unwrap();
        let changes = pod_resources(&serde_json::from_str(&text).unwrap(), &[&client]);
        let text = |change: &PodResource| format!("{}.{}={}", change.field, change.resource, change.after);
        changes.iter().map(text).collect()
    }

    #[test]
    fn the_application_keeps_what_the_pod_gave_it() {
        for (spec, expected) in [
            (json!({}), &[][..]),
            (
                json!({"resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "500m", "memory": "512Mi"}}}),
                &["limits.cpu=3", "limits.memory=3Gi", "requests.cpu=1500m", "requests.memory=1536Mi"],
            ),
            (json!({"resources": {"requests": {"cpu": 1}}}), &["requests.cpu=2"]),
            // Without a request the API server takes the limit for it, but for what containers request.
            (
                json!({"resources": {"limits": {"memory": "4Gi"}}}),
                &["limits.memory=5Gi", "requests.memory=5Gi"],
            ),
            (
                json!({"resources": {"limits": {"memory": "4Gi"}}, "containers": [{"resources": {"limits": {"memory": "1Gi"}}}]}),
                &["limits.memory=5Gi"],
            ),
            (json!({"resources": {"limits": {"memory": "x", "nvidia.com/gpu": "1"}}}), &[]),
        ] {
            assert_eq!(changes(&spec), expected, "{spec}");
        }
    }
}
