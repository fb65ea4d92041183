//! Classic mode: the JuiceFS client itself is the sidecar, and mounts by itself.

use k8s_openapi::api::core::v1 as api;

use crate::{
    client::{Script, word::Nul},
    inject::{
        order,
        plan::{Client, Plan},
        profile::Shared,
        shell,
    },
    pod::Pod,
};

/// Annotation of a pod, with any value: its application has ended for good, and its clients are to end as well.
pub(crate) const APPLICATION_ENDED: &str = "sidecar.juicefs.com/application-ended";
/// Where clients read it.
pub(super) const WORD_DIRECTORY: &str = "/run/juicefs-sidecar";
/// Its file there.
pub(super) const WORD: &str = "application-ended";

/// The field of a pod that such a file is made of.
pub(crate) fn word_field() -> String {
    format!("metadata.annotations['{APPLICATION_ENDED}']")
}

/// Whether the clients of a pod would go on for ever after its application: ordinary containers in a pod that is to
/// end.
pub(super) fn outlives_application(pod: &Pod<'_>, native: bool) -> bool {
    !native && pod.spec.restart_policy.as_deref().is_some_and(|policy| policy != "Always")
}

/// The client's command; one that could outlive its application ends by a word.
pub(super) fn command(script: &Script<'_>, ends_by_word: bool) -> Result<Vec<String>, Nul> {
    let file = ends_by_word.then(|| format!("{WORD_DIRECTORY}/{WORD}"));
    shell::command(script, file.as_deref())
}

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
