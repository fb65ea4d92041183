//! The ConfigMap: a good one is taken at once, a bad one never.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::{caches::Settings, follow};
use crate::{admission::state::App, config::Config};

/// Follows the ConfigMap for ever.
pub(super) async fn follow(client: Client, settings: Settings, app: Arc<App>) {
    let Settings { namespace, config_map: name, .. } = settings;
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut in_use: Option<String> = None;
    let tell = |found: Option<ConfigMap>| {
        let data = found.and_then(|found| found.data).unwrap_or_default();
        match Config::from_data(&data) {
            // A watch that begins again tells what is known already.
            Ok((config, _)) if in_use.as_ref() == Some(&config.revision) => {}
            Ok((config, warnings)) => {
                for warning in warnings {
                    tracing::warn!(namespace, name, "{warning}");
                }
                tracing::info!(namespace, name, revision = config.revision, "configuration in use");
                in_use = Some(config.revision.clone());
                app.metrics.reloaded(true);
                app.replace_config(&Arc::new(config));
            }
            Err(error) => {
                app.metrics.reloaded(false);
                tracing::error!(
                    namespace,
                    name,
                    error = error.to_string(),
                    "the configuration cannot be used: the last good one stays in use"
                );
            }
        }
        std::future::ready(())
    };
    follow::follow(api, "the configuration", &name, tell).await;
}
