//! Namespaces, pods, and one that was tried.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};

use super::{Facts, Finding, few, storage::title};
use crate::{
    controller::watchdog::{
        judge::judge,
        pod::{Spec, Status},
    },
    inject::status::STATUS,
    pod::labels::{self, POD_SECURITY},
    running,
};

/// Labels that ask for injection.
const LABELS: [&str; 2] = [labels::ENABLE, labels::ENABLE_SERVERLESS];
/// Seconds beyond its grace period that a pod may take to go.
const LONG: u64 = 60;

/// Whether pods of a namespace are injected.
#[must_use]
pub fn is_labelled(namespace: &Namespace) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    LABELS
        .iter()
        .any(|label| labels.and_then(|labels| labels.get(*label)).is_some_and(|value| value == "true"))
}

pub(super) fn namespaces(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "namespaces";
    let namespaces = match &facts.namespaces {
        Ok(namespaces) => namespaces,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let name = |namespace: &Namespace| namespace.metadata.name.clone().unwrap_or_default();
    let labelled: Vec<String> = namespaces.iter().filter(|one| is_labelled(one)).map(name).collect();
    let mut findings = vec![if labelled.is_empty() {
        Finding::bad(
            AREA,
            "no namespace has the label, so no pod is injected",
            format!("kubectl label namespace NAME {}=true", LABELS[0]),
        )
    } else {
        Finding::good(AREA, format!("pods are injected in {}", few(&labelled)))
    }];
    findings.extend(namespaces.iter().flat_map(slips));
    for namespace in namespaces.iter().filter(|one| is_labelled(one)) {
        let level = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(POD_SECURITY));
        if let Some(level) = level.filter(|level| ["baseline", "restricted"].contains(&level.as_str())) {
            findings.push(Finding::bad(
                AREA,
                format!("{}: its label {POD_SECURITY}={level} keeps out pods with a client or an agent, which are privileged", name(namespace)),
                format!("kubectl label --overwrite namespace {} {POD_SECURITY}=privileged", name(namespace)),
            ));
        }
    }
    findings
}

/// Labels that are meant to ask for injection and do not.
fn slips(namespace: &Namespace) -> Vec<Finding> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let labels: &BTreeMap<String, String> = match &namespace.metadata.labels {
        Some(labels) => labels,
        None => return Vec::new(),
    };
    let slip = |(key, value): (&String, &String)| {
        let meant = if LABELS.contains(&key.as_str()) {
            (value != "true" && value != "false").then_some(key.as_str())
        } else {
            crate::slip::meant(key, &LABELS, crate::slip::CLOSE)
        };
        meant.map(|meant| {
            Finding::bad(
                "namespaces",
                format!("{name}: the label {key}={value} asks for nothing"),
                format!("kubectl label --overwrite namespace {name} {meant}=true"),
            )
        })
    };
    labels.iter().filter_map(slip).collect()
}

pub(super) fn trial(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "trial";
    let Some(trial) = &facts.trial else {
        return vec![Finding::note(
            AREA,
            "no labelled namespace has a claim of ours that a pod could be tried with",
            "create a claim, and check again",
        )];
    };
    let claim = &trial.claim;
    vec![match &trial.outcome {
        Ok(pod) if pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(STATUS)) => {
            Finding::good(AREA, format!("a pod with the claim {claim} gets its client (dry run)"))
        }
        Ok(_) => Finding::bad(
            AREA,
            format!("a pod with the claim {claim} gets no client (dry run)"),
            "see the findings above; juicefs-sidecar explain says what is decided about a pod",
        ),
        Err(error) => Finding::bad(
            AREA,
            format!("a pod with the claim {claim} is refused (dry run): {error}"),
            remedy(error),
        ),
    }]
}

/// What helps, by what an API server says of a webhook that it cannot ask.
fn remedy(error: &str) -> &'static str {
    let has = |text: &str| error.contains(text);
    if has("x509") || has("certificate") {
        "the API server does not trust the webhook: see the certificate above, and docs/certificates.md"
    } else if has("no endpoints") || has("connection refused") || has("no route") {
        "the API server finds no webhook behind the Service: see programs and service above"
    } else if has("deadline") || has("timeout") || has("timed out") {
        "the API server does not reach the webhook: network policies, firewalls between control plane and nodes"
    } else if has("failed calling webhook") {
        "the API server could not ask the webhook; docs/install.md says how to let pods through meanwhile"
    } else {
        "the message says what is wrong, where, and what to do"
    }
}

pub(super) fn pods(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "pods";
    let pods = match &facts.pods {
        Ok(pods) => pods,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let read: Vec<running::Pod> =
        pods.iter().filter_map(|pod| running::Pod::read(pod).ok().flatten()).collect();
    let impaired: Vec<String> =
        read.iter().filter(|pod| pod.is_impaired()).map(running::Pod::title).collect();
    let without: Vec<String> = without_client(facts, pods);
    let stuck: Vec<String> =
        pods.iter().filter(|pod| is_stuck(pod, facts.now)).map(|pod| title(&pod.metadata)).collect();
    let mut findings = Vec::new();
    let mut bad = |names: &[String], what: &str, remedy: &str| {
        if !names.is_empty() {
            findings.push(Finding::bad(AREA, format!("{what}: {}", few(names)), remedy));
        }
    };
    bad(&impaired, "a client does not serve", "juicefs-sidecar status -A -o wide shows why");
    bad(
        &without,
        "they have a JuiceFS claim and no client, so their volume is missing",
        "delete them, so that they are made again: they came while the webhook was away, or before the label",
    );
    bad(
        &stuck,
        "they should be gone and are not",
        "their events say why, and docs/install.md (\"Pods that cannot go\") what sets them free",
    );
    if findings.is_empty() {
        findings.push(Finding::good(AREA, format!("{} injected, all clients serve", read.len())));
    }
    findings
}

/// Living pods with a claim of one of our classes and no client, as the controller's watchdog judges them.
fn without_client(facts: &Facts, pods: &[Pod]) -> Vec<String> {
    let classes = facts.classes.iter().flatten().filter(|class| class.provisioner == facts.driver);
    let classes: BTreeSet<&str> = classes.filter_map(|class| class.metadata.name.as_deref()).collect();
    let is_ours = |claim: &&PersistentVolumeClaim| {
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        class.is_some_and(|class| classes.contains(class))
    };
    let claims: BTreeSet<String> =
        facts.claims.iter().flatten().filter(is_ours).map(|claim| title(&claim.metadata)).collect();
    let lacks = |pod: &&Pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        slim(pod).is_some_and(|(spec, status)| {
            let found = judge(&pod.metadata, &spec, status.as_ref());
            found.iter().any(|finding| claims.contains(&format!("{namespace}/{}", finding.claim)))
        })
    };
    pods.iter().filter(lacks).map(|pod| title(&pod.metadata)).collect()
}

/// A pod as far as the watchdog reads it.
fn slim(pod: &Pod) -> Option<(Spec, Option<Status>)> {
    let spec = serde_json::to_value(pod.spec.as_ref()?).and_then(serde_json::from_value).ok()?;
    let status =
        pod.status.as_ref().map(|status| serde_json::to_value(status).and_then(serde_json::from_value));
    Some((spec, status.transpose().ok()?))
}

/// Whether an injected pod should have been gone for a while. The timestamp of a deletion is when its grace ends.
fn is_stuck(pod: &Pod, now: u64) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let end =
        pod.metadata.deletion_timestamp.as_ref().and_then(|time| u64::try_from(time.0.as_second()).ok());
    annotations.is_some_and(|annotations| annotations.contains_key(STATUS))
        && end.is_some_and(|end| now.saturating_sub(end) > LONG)
}
