//! Watches the `ConfigMap`, so that who breaks it is told where they look: in an event on it.

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource as _,
    runtime::{WatchStreamExt as _, events::EventType, watcher::watch_object},
};
use tokio::time::Instant;

use super::{
    Task,
    events::{Events, Reason},
};
use crate::{config::Config, telemetry::ControllerMetrics};

/// Reads the `ConfigMap` whenever it changes, for ever.
pub async fn watch(
    client: Client,
    namespace: &str,
    name: &str,
    events: &Events,
    metrics: &ControllerMetrics,
) {
    let changes = watch_object(Api::<ConfigMap>::namespaced(client, namespace), name)
        .default_backoff()
        .inspect_err(|error| tracing::debug!("configuration: watch: {error}"));
    let mut changes = std::pin::pin!(changes);
    // The last thing that was said about it.
    let mut told: Option<String> = None;
    while let Some(change) = changes.next().await {
        let Ok(found) = change else { continue };
        let started = Instant::now();
        let problem = found.as_ref().and_then(|object| {
            Config::from_data(&object.data.clone().unwrap_or_default()).err().map(|error| error.to_string())
        });
        metrics.configuration(problem.is_none());
        metrics.reconciled(Task::Configuration, "ok", started.elapsed());
        if problem == told {
            continue;
        }
        if let Some(object) = &found {
            let about = object.object_ref(&());
            if let Some(problem) = &problem {
                tracing::error!("configmap \"{namespace}/{name}\" cannot be used: {problem}");
                let note = format!("{problem}; the last good configuration stays in use");
                events.send(EventType::Warning, Reason::ConfigurationInvalid, &note, &about).await;
            } else {
                tracing::info!("configmap \"{namespace}/{name}\" can be used again");
                let note = "the configuration can be used again, and is in use";
                events.send(EventType::Normal, Reason::ConfigurationAccepted, note, &about).await;
            }
        }
        told = problem;
    }
}
