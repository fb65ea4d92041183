//! What becomes of each entry of the `ConfigMap`.

use super::{Change, Effect, Facts, driver};
use crate::config::{Config, Field, PatchItem};

const AREA: &str = "configuration";

pub(super) fn changes(facts: &Facts<'_>) -> Vec<Change> {
    if let Some(error) = &facts.config_error {
        let blocks = Change::new(Effect::Blocks, AREA, "", error.clone());
        return vec![blocks.remedy("correct it: the webhook does not start with it")];
    }
    let mut changes: Vec<Change> =
        facts.config_notes.iter().map(|note| Change::new(Effect::Changed, AREA, "", note.clone())).collect();
    let config = facts.engine.config;
    for (index, item) in config.patches.iter().enumerate() {
        let place = format!("mountPodPatch[{index}]");
        let as_before = item.fields().filter(|field| otherwise(*field, item).is_none());
        let fields: Vec<&str> = as_before.map(Field::as_str).collect();
        if !fields.is_empty() {
            let what = format!("{place}: {}: understood as before", fields.join(", "));
            changes.push(Change::new(Effect::Same, AREA, "", what));
        }
        let others = item.fields().filter_map(|field| Some((field, otherwise(field, item)?)));
        changes.extend(
            others.map(|(field, what)| {
                Change::new(Effect::Changed, AREA, "", format!("{place}.{field}: {what}"))
            }),
        );
    }
    changes.extend(of_the_whole(config, facts));
    changes.extend(driver::config_maps(facts));
    changes
}

/// What a field does here that it did not do before.
fn otherwise(field: Field, item: &PatchItem) -> Option<&'static str> {
    let post_start = || item.lifecycle.as_ref().is_some_and(|hooks| hooks.post_start.is_some());
    match field {
        Field::TerminationGracePeriodSeconds => Some(
            "takes effect: the pod's grace period is raised to it; the driver documents it and does nothing",
        ),
        Field::StartupProbe => Some(
            "takes effect, in the place of our own probe, which waits for the mount; the driver leaves it out",
        ),
        Field::Lifecycle if post_start() => {
            Some("postStart is used with native sidecars; the driver puts its own in its place")
        }
        _ => None,
    }
}

fn of_the_whole(config: &Config, facts: &Facts<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |effect, what: &str| changes.push(Change::new(effect, AREA, "", what));
    if let Some(native) = config.enable_native_sidecar {
        note(Effect::Same, &format!("enableNativeSidecar: {native}: understood as before"));
    }
    if config.enable_set_quota && config.enable_controller_set_quota {
        note(
            Effect::Changed,
            "quotas are set by the controller alone; the driver's clients also set one at each start, the size their pod \
             was made with",
        );
    } else {
        note(Effect::Same, "no quota is set, as enableSetQuota or enableControllerSetQuota says");
    }
    if config.moves_volumes() {
        note(
            Effect::Changed,
            "a subdir among the mount options: nobody knows then where clients put their data, and no volume's data is \
             removed with its claim",
        );
    }
    if !config.allow_unsafe_claim_annotations && !facts.objects.drivers.is_empty() {
        note(
            Effect::Changed,
            "annotations of claims may set resources, an emptyDir cache, mode and exit order; the driver takes every one \
             (allowUnsafePVCAnnotations: true does)",
        );
    }
    changes
}
