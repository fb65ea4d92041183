//! Classes, their secrets, and claims that wait.

use k8s_openapi::api::{
    core::v1::{Event, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

use super::{Facts, Finding, few};
use crate::{controller::events::Reason, volume::UserSecret};

/// Secrets of a class that a client or the provisioner reads.
const SECRETS: [&str; 2] = ["node-publish", "provisioner"];
/// The namespaced name of a secret that a class names, as parameters.
const PREFIX: &str = "csi.storage.k8s.io/";
/// A claim that waits for longer has not been forgotten by chance.
const LONG: u64 = 60;
/// Claims that are named with why they wait.
const MOST: usize = 5;

/// The secrets that a class names, without those whose name is a template.
#[must_use]
pub fn secrets(class: &StorageClass) -> Vec<(String, String)> {
    let parameters = class.parameters.as_ref();
    let parameter = |which: &str, what: &str| {
        parameters.and_then(|all| all.get(&format!("{PREFIX}{which}-secret-{what}"))).cloned()
    };
    let mut found: Vec<(String, String)> = SECRETS
        .iter()
        .filter_map(|which| parameter(which, "namespace").zip(parameter(which, "name")))
        .filter(|(namespace, name)| !namespace.contains("${") && !name.contains("${"))
        .collect();
    found.dedup();
    found
}

pub(super) fn classes(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "class";
    let classes = match &facts.classes {
        Ok(classes) => classes,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let ours: Vec<&StorageClass> = classes.iter().filter(|class| class.provisioner == facts.driver).collect();
    if ours.is_empty() {
        return vec![Finding::note(
            AREA,
            format!("no StorageClass has the provisioner {}", facts.driver),
            "only volumes made by hand can be mounted; examples/quickstart has a class",
        )];
    }
    ours.into_iter().flat_map(|class| of_class(facts, class)).collect()
}

fn of_class(facts: &Facts, class: &StorageClass) -> Vec<Finding> {
    const AREA: &str = "class";
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let named = secrets(class);
    if named.is_empty()
        && class.parameters.as_ref().is_none_or(|all| !all.keys().any(|key| key.starts_with(PREFIX)))
    {
        return vec![Finding::bad(
            AREA,
            format!("{name} names no secret, so nobody knows its file system"),
            format!("set {PREFIX}node-publish-secret-name and -namespace, and the same with provisioner"),
        )];
    }
    let findings: Vec<Finding> = named
        .iter()
        .flat_map(|(namespace, secret)| of_secret(facts, name, &format!("{namespace}/{secret}")))
        .collect();
    if findings.is_empty() {
        return vec![Finding::good(AREA, format!("{name}, and its secrets"))];
    }
    findings
}

/// What there is to say about a secret that a class names.
fn of_secret(facts: &Facts, class: &str, key: &str) -> Vec<Finding> {
    const AREA: &str = "class";
    let Some((_, seen)) = facts.secrets.iter().find(|(other, _)| other == key) else { return Vec::new() };
    let secret = match seen {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return vec![Finding::bad(
                AREA,
                format!("{class} names the secret {key}, which does not exist"),
                "create the secret, or correct the class's parameters",
            )];
        }
        Err(error) => return vec![Finding::unseen(AREA, &format!("secret {key}: {error}"))],
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    let remedy = "correct the secret; pods created afterwards will use it";
    match UserSecret::parse(&data) {
        Err(error) => vec![Finding::bad(AREA, format!("{class}: secret {key}: {error}"), remedy)],
        Ok(secret) => secret
            .warnings
            .iter()
            .map(|warning| Finding::note(AREA, format!("{class}: secret {key}: {warning}"), remedy))
            .collect(),
    }
}

pub(super) fn claims(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "claims";
    let claims = match &facts.claims {
        Ok(claims) => claims,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let classes: Vec<&StorageClass> =
        facts.classes.iter().flatten().filter(|class| class.provisioner == facts.driver).collect();
    let class_of = |claim: &PersistentVolumeClaim| {
        let name = claim.spec.as_ref()?.storage_class_name.as_deref()?;
        classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)).copied()
    };
    let (mut failed, mut forgotten) = (Vec::new(), Vec::new());
    for claim in claims.iter().filter(|claim| waits(claim)) {
        let Some(class) = class_of(claim) else { continue };
        if let Some(said) = failure(facts, claim) {
            failed.push(format!("{} has no volume: {said}", title(&claim.metadata)));
            continue;
        }
        let created = claim.metadata.creation_timestamp.as_ref();
        let created = created.and_then(|time| u64::try_from(time.0.as_second()).ok()).unwrap_or(facts.now);
        let at_once = class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer");
        if at_once && facts.now.saturating_sub(created) > LONG {
            forgotten.push(title(&claim.metadata));
        }
    }
    let unsaid = failed.len().saturating_sub(MOST);
    failed.truncate(MOST);
    let remedy = "the controller tries again; docs/provisioning.md says what it takes";
    let mut findings: Vec<_> = failed.into_iter().map(|what| Finding::bad(AREA, what, remedy)).collect();
    if unsaid > 0 {
        findings.push(Finding::bad(
            AREA,
            format!("{unsaid} more have no volume"),
            "kubectl get events -A --field-selector reason=ProvisioningFailed shows why",
        ));
    }
    if !forgotten.is_empty() {
        findings.push(Finding::bad(
            AREA,
            format!("not bound for more than a minute: {}", few(&forgotten)),
            "kubectl describe pvc shows the event that says why; see docs/provisioning.md",
        ));
    }
    if let Err(error) = &facts.events {
        findings.push(Finding::unseen(AREA, &format!("why they wait: {error}")));
    }
    if findings.is_empty() {
        let known = claims.iter().filter(|claim| class_of(claim).is_some()).count();
        findings
            .push(Finding::good(AREA, format!("{known} of our classes in labelled namespaces, none waits")));
    }
    findings
}

/// Whether a claim has no volume yet.
#[must_use]
pub fn waits(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")
}

/// What was said last of why a claim has no volume.
fn failure<'a>(facts: &'a Facts, claim: &PersistentVolumeClaim) -> Option<&'a str> {
    let events = facts.events.iter().flatten();
    let of_claim = events.filter(|event| {
        event.reason.as_deref() == Some(Reason::ProvisioningFailed.name())
            && event.involved_object.uid == claim.metadata.uid
    });
    let when = |event: &&Event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        series.or(event.event_time.as_ref()).map(|time| time.0)
    };
    of_claim.max_by_key(when)?.message.as_deref()
}

/// As messages call an object.
pub(super) fn title(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}
