//! The cluster, watched.

use std::{fs, sync::Arc};

use anyhow::Context as _;
use kube::Client;

use super::WebhookArguments;
use crate::{
    admission::state::App,
    cluster::{Caches, Live, Settings},
};

/// Where a pod finds its own namespace.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace of this installation.
pub(super) fn namespace(arguments: &WebhookArguments) -> anyhow::Result<String> {
    let given = arguments.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = given.or_else(|| fs::read_to_string(OWN_NAMESPACE).ok()).context(
        "it is not known in which namespace the configuration is: set --namespace or POD_NAMESPACE",
    )?;
    Ok(namespace.trim().to_owned())
}

/// Begins to watch the cluster.
pub(super) async fn watch(
    arguments: &WebhookArguments,
    client: &Client,
    namespace: String,
    app: &Arc<App>,
) -> anyhow::Result<Caches> {
    let settings = Settings {
        driver: arguments.process.process().driver,
        namespace,
        config_map: arguments.config_map.clone(),
        cached_lists: arguments.cached_lists,
    };
    app.complete_with(Arc::new(Live::new(client.clone())));
    Ok(Caches::start(client, settings, app).await?)
}
