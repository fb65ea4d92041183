//! Watches the `ConfigMap`, so that who breaks it is told where they look: in an event on it.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource as _,
    runtime::{WatchStreamExt as _, events::EventType, watcher::watch_object},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Task,
    events::{Events, Reason},
};
use crate::{config::Config, telemetry::ControllerMetrics};

/// Reads the `ConfigMap` whenever it changes, for ever; `told` has the last one that could be used.
pub async fn watch(
    client: Client,
    namespace: &str,
    name: &str,
    told: watch::Sender<Option<Arc<Config>>>,
    events: &Events,
    metrics: &ControllerMetrics,
) {
    let changes = watch_object(Api::<ConfigMap>::namespaced(client, namespace), name)
        .default_backoff()
        .inspect_err(|error| tracing::debug!("configuration: watch: {error}"));
    let mut changes = std::pin::pin!(changes);
    // The last thing that was said about it.
    let mut said: Option<String> = None;
    while let Some(change) = changes.next().await {
        let Ok(found) = change else { continue };
        let started = Instant::now();
        let data = found.as_ref().and_then(|object| object.data.clone()).unwrap_or_default();
        let problem = match Config::from_data(&data) {
            Ok((config, _)) => {
                told.send_replace(Some(Arc::new(config)));
                None
            }
            Err(error) => Some(error.to_string()),
        };
        metrics.configuration(problem.is_none());
        metrics.reconciled(Task::Configuration, "ok", started.elapsed());
        if problem == said {
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
        said = problem;
    }
}
