//! Classic mode: the JuiceFS client itself is the sidecar, and mounts by itself.

use k8s_openapi::api::core::v1 as api;

use crate::{
    client::word::Nul,
    inject::{
        order,
        plan::{Client, Plan},
        profile::Shared,
    },
};

/// Holds back what comes after a native sidecar until the mount answers.
pub(super) fn startup_probe(plan: &Plan, client: &Client) -> Result<Option<api::Probe>, Nul> {
    // The mount of a platform's own driver does not show in the client's container.
    let shows = plan.profile.shared != Shared::Platform;
    (plan.native && shows).then(|| order::startup_probe(&client.mount_point)).transpose()
}

/// Native sidecars end after the application by themselves; others are held back by a `preStop`.
pub(super) fn lifecycle(plan: &Plan, client: &Client) -> Result<Option<api::Lifecycle>, Nul> {
    let own = client.settings.lifecycle.clone();
    if plan.native {
        return Ok(own);
    }
    let mut lifecycle = own.unwrap_or_default();
    if plan.profile.shared != Shared::Platform {
        lifecycle.post_start = Some(order::post_start(&client.mount_point)?);
    }
    if let Some(exit) = plan.exit_order(client) {
        let limit = order::longest(exit, plan.patience);
        lifecycle.pre_stop = Some(order::pre_stop(exit, &client.mount_point, limit)?);
    }
    Ok(Some(lifecycle))
}
