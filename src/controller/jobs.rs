//! Ends the clients of pods whose application has ended for good, where they are ordinary containers: Kubernetes ends
//! native sidecars by itself, and those go on for ever.
//!
//! The word is an annotation of the pod, which its clients read from a file (`application-ended`), so that nobody needs
//! a way into their containers. It is written through the pod's status: whoever may patch pods themselves may change
//! their images.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
    core::ApiResource,
    runtime::events::EventType,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    Task,
    events::{Events, Reason},
    problem::Problem,
    watchdog::pod::{Container, ContainerStatus, SlimPod, Spec, Status},
};
use crate::{
    inject::{
        classic::{APPLICATION_ENDED, word_field},
        status::{self, STATUS},
    },
    notation::Mode,
    telemetry::ControllerMetrics,
};

/// Pauses before what failed is tried again; afterwards it waits for news of the pod.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// The clients that are to end, if the pod's application has ended for good and they have not been told yet.
pub fn to_be_ended(metadata: &ObjectMeta, spec: &Spec, status: Option<&Status>) -> Option<BTreeSet<String>> {
    let annotations = metadata.annotations.as_ref()?;
    let status = status.filter(|status| status.phase == "Running")?;
    if metadata.deletion_timestamp.is_some() || annotations.contains_key(APPLICATION_ENDED) || !listens(spec)
    {
        return None;
    }
    let injected = status::Status::parse(annotations.get(STATUS)?).ok()?;
    if injected.native || injected.mode != Mode::Classic {
        return None;
    }
    let clients: BTreeSet<_> = injected.containers().map(str::to_owned).collect();
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let of = |container: &Container| statuses.iter().find(|status| status.name == container.name);
    let mut running = BTreeSet::new();
    let mut ended = false;
    for container in spec.containers.iter().flatten() {
        if !clients.contains(&container.name) {
            if !ended_for_good(container, of(container)?, spec.restart_policy.as_deref()) {
                return None;
            }
            ended = true;
        } else if of(container)
            .and_then(|status| status.state.as_ref())
            .is_some_and(|state| state.running.is_some())
        {
            running.insert(container.name.clone());
        }
    }
    (ended && !running.is_empty()).then_some(running)
}

/// Whether the pod's clients have been given the file that the word comes in.
fn listens(spec: &Spec) -> bool {
    let field = word_field();
    let items =
        spec.volumes.iter().flatten().filter_map(|volume| volume.downward_api.as_ref()?.items.as_ref());
    let mut fields = items.flatten().filter_map(|item| item.field_ref.as_ref());
    fields.any(|reference| reference.field_path == field)
}

/// Whether the kubelet will not start a container again.
fn ended_for_good(container: &Container, status: &ContainerStatus, policy_of_pod: Option<&str>) -> bool {
    let Some(terminated) = status.state.as_ref().and_then(|state| state.terminated.as_ref()) else {
        return false;
    };
    let code = terminated.exit_code;
    for rule in container.restart_policy_rules.iter().flatten() {
        let applies = rule.exit_codes.as_ref().is_none_or(|codes| {
            let listed = codes.values.iter().flatten().any(|value| *value == code);
            // One that is not known may mean any.
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => true,
            }
        });
        if applies {
            return false;
        }
    }
    match container.restart_policy.as_deref().or(policy_of_pod) {
        Some("Never") => true,
        Some("OnFailure") => code == 0,
        _ => false,
    }
}

/// What ends them.
pub struct Jobs {
    client: Client,
    events: Events,
    metrics: ControllerMetrics,
}

impl Jobs {
    /// Nothing is ended yet.
    pub fn new(client: Client, events: Events, metrics: ControllerMetrics) -> Self {
        Self { client, events, metrics }
    }

    /// Ends the clients of a pod if it is time.
    pub async fn look(&self, pod: &SlimPod) {
        let Some(clients) = to_be_ended(&pod.metadata, &pod.spec, pod.status.as_ref()) else { return };
        let mut pauses = PAUSES.iter();
        loop {
            let started = Instant::now();
            let done = self.say(pod).await;
            let outcome = done.as_ref().map_or_else(Problem::outcome, |()| "ok");
            self.metrics.reconciled(Task::Jobs, outcome, started.elapsed());
            match (done, pauses.next()) {
                (Ok(()), _) => return self.tell(pod, &clients).await,
                (Err(problem), Some(pause)) => {
                    tracing::warn!(outcome, "jobs: {problem}");
                    sleep(*pause).await;
                }
                (Err(problem), None) => return tracing::warn!(outcome, "jobs: {problem}; tried again later"),
            }
        }
    }

    async fn say(&self, pod: &SlimPod) -> Result<(), Problem> {
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
        let patch =
            json!({"metadata": {"uid": pod.metadata.uid, "annotations": {APPLICATION_ENDED: "true"}}});
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        match pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            // It is gone, and its clients with it.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Problem::api(format!("pod \"{namespace}/{name}\""))(error)),
            Ok(_) => Ok(()),
        }
    }

    async fn tell(&self, pod: &SlimPod, clients: &BTreeSet<String>) {
        let about = pod.object_ref(&ApiResource::erase::<Pod>(&()));
        let names = clients.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (namespace, name) = (about.namespace.as_deref(), about.name.as_deref());
        tracing::info!(
            namespace,
            pod = name,
            clients = names,
            "the application has ended, and its clients end"
        );
        let note = format!("the application has ended for good; its JuiceFS clients flush and end: {names}");
        self.events.send(EventType::Normal, Reason::ClientsEnded, &note, &about).await;
    }
}

#[cfg(test)]
mod tests;
