//! What becomes of classes, claims and volumes: by the engine's own judgement of a pod that mounts each.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::api::storage::v1 as api;
use serde_json::{Value, json};

use super::{Change, Effect, Facts, driver, objects::Kind};
use crate::{
    controller::provision::{
        candidates::waits_for_a_volume,
        removal::{Verdict, judge},
        volume::check,
    },
    inject::{Decision, Engine, Family, Subject},
    notation::Mode,
    outcome::{Code, Miss},
    pod::{
        Pod,
        labels::{ENABLE, ENABLE_SERVERLESS},
    },
    volume::{
        Claim, StorageClass,
        attributes::{PATH_PATTERN, SECRET_FINALIZER},
        backing::Search,
        catalog::Writer,
        settings::Source,
    },
};

/// What is not as it was in resilient mode, which the driver does not have.
const RESILIENT: &str = "it has no privilege, and its caches on nodes begin empty; mode: classic in the ConfigMap has both \
                         as before";

/// Helm's mark on what belongs to a release.
const RELEASE: &str = "meta.helm.sh/release-name";

/// How the pods of a namespace are injected; `None` if they are not. One that is not known is taken for a labelled one.
pub(super) fn family(facts: &Facts<'_>, namespace: &str) -> Option<Family> {
    let Some(namespace) = facts.engine.catalog.namespace(namespace) else { return Some(Family::Node) };
    let set = |label: &str| namespace.metadata.labels.get(label).is_some_and(|value| &**value == "true");
    if set(ENABLE_SERVERLESS) {
        return Some(Family::Serverless);
    }
    set(ENABLE).then_some(Family::Node)
}

pub(super) fn classes(facts: &Facts<'_>) -> Vec<Change> {
    let driver = &facts.engine.process.driver;
    let ours = facts.engine.catalog.classes().filter(|class| *class.provisioner == **driver);
    ours.flat_map(|class| of_class(facts, class)).collect()
}

fn of_class(facts: &Facts<'_>, class: &Arc<StorageClass>) -> Vec<Change> {
    const AREA: &str = "class";
    let name = &*class.metadata.name;
    let mut changes = Vec::new();
    let mut note = |effect, what: String, remedy: &str| {
        changes.push(Change::new(effect, AREA, name, what).remedy(remedy));
    };
    let namespaces = facts.engine.catalog.namespaces();
    let labelled = namespaces.map(|one| &*one.metadata.name).find(|name| family(facts, name).is_some());
    let namespace = labelled.unwrap_or("default");
    // A claim as plain as can be: what a class says against it, it says against all.
    let claim = json!({"metadata": {"namespace": namespace, "name": "any-claim", "uid": "any"}, "spec": {
        "storageClassName": name, "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}});
    let Ok(claim) = serde_json::from_value::<Claim>(claim) else { return changes };
    let mut writer = Writer::over(facts.engine.catalog);
    if let Err(refusal) = check(&claim, class) {
        note(Effect::Blocks, format!("claims get no volume: {refusal}"), "");
    }
    writer.apply(claim);
    let engine = Engine { catalog: writer.catalog(), ..facts.engine };
    let decision = tried(&engine, namespace, "any-claim", Family::Node);
    match decision.code {
        Code::Injected => {
            note(Effect::Same, "parameters and mount options mean what they meant".to_owned(), "");
        }
        _ if is_unread(facts, &decision) => {
            note(
                Effect::Unseen,
                decision.message.clone(),
                "give the rights to read the secret, and ask again",
            );
        }
        // Templates may be right for claims that have what they ask for.
        Code::ClaimUnusable => note(
            Effect::Changed,
            format!("a claim without labels and annotations is refused: {}", decision.message),
            "",
        ),
        _ => note(Effect::Blocks, decision.message.clone(), ""),
    }
    let place = format!("storageclass {name:?}: ");
    for warning in decision.warnings.iter().filter_map(|warning| warning.strip_prefix(&place)) {
        note(Effect::Changed, warning.to_owned(), "");
    }
    if class.waits_for_consumer() {
        note(
            Effect::Changed,
            "WaitForFirstConsumer: pods with its claims start; the driver refuses them for ever, not bound"
                .to_owned(),
            "",
        );
    }
    if class.parameters.get(PATH_PATTERN).is_some_and(|pattern| !pattern.is_empty()) {
        let (effect, what) = if driver::has_standard_provisioner(facts) {
            (
                Effect::Changed,
                "pathPattern: new volumes are in the directory it says; csi-provisioner does not read it",
            )
        } else {
            (Effect::Same, "pathPattern: new volumes are in the directory it says")
        };
        note(effect, what.to_owned(), "");
    }
    if class.parameters.get(SECRET_FINALIZER).is_some_and(|value| &**value == "true") {
        let what = "secretFinalizer: the user secret is kept for as long as a volume may need it";
        note(Effect::Same, what.to_owned(), "");
    }
    changes.extend(of_release(facts, name));
    changes
}

/// A class that goes when somebody else's release goes.
fn of_release(facts: &Facts<'_>, name: &str) -> Option<Change> {
    let is_named = |class: &&api::StorageClass| class.metadata.name.as_deref() == Some(name);
    let class = facts.objects.classes.iter().find(is_named)?;
    let release = class.metadata.annotations.as_ref()?.get(RELEASE)?;
    let what = format!("belongs to the Helm release {release:?} and goes with it, and so does its secret");
    let remedy =
        "keep a copy before that release is removed (docs/migration.md), or give its values to our chart";
    (!facts.objects.drivers.is_empty())
        .then(|| Change::new(Effect::Changed, "class", name, what).remedy(remedy))
}

/// The user secrets that classes and volumes name.
pub(super) fn secrets(facts: &Facts<'_>) -> Vec<Change> {
    const AREA: &str = "secret";
    let catalog = facts.engine.catalog;
    let named = catalog.referenced_secrets(&facts.engine.process.driver);
    let of_one = |(namespace, name): &(Arc<str>, Arc<str>)| {
        let title = format!("{namespace}/{name}");
        match catalog.user_secret(namespace, name) {
            None => Vec::new(),
            Some(Err(error)) => {
                vec![Change::new(Effect::Blocks, AREA, title, error.to_string()).remedy("correct it")]
            }
            Some(Ok(secret)) if secret.warnings.is_empty() => {
                vec![Change::new(Effect::Same, AREA, title, "every key means what it meant")]
            }
            Some(Ok(secret)) => {
                let warnings = secret.warnings.iter();
                warnings.map(|warning| Change::new(Effect::Changed, AREA, &title, warning.as_str())).collect()
            }
        }
    };
    named.iter().flat_map(of_one).collect()
}

pub(super) fn claims(facts: &Facts<'_>) -> Vec<Change> {
    let mut claims: Vec<&Arc<Claim>> = facts.engine.catalog.claims().collect();
    claims.sort_by_key(|claim| (&claim.metadata.namespace, &claim.metadata.name));
    claims.into_iter().flat_map(|claim| of_claim(facts, claim)).collect()
}

fn of_claim(facts: &Facts<'_>, claim: &Claim) -> Vec<Change> {
    const AREA: &str = "claim";
    let (catalog, driver) = (facts.engine.catalog, &facts.engine.process.driver);
    if let Ok(None) = Search::new(catalog, driver).behind(claim) {
        return Vec::new();
    }
    let (namespace, name) = (&*claim.metadata.namespace, &*claim.metadata.name);
    let title = format!("{namespace}/{name}");
    let mut changes = Vec::new();
    let mut note = |effect, what: String| changes.push(Change::new(effect, AREA, &title, what));
    if waits_for_a_volume(claim, catalog, driver)
        && let Some(class) = catalog.class_or_default(claim.spec.storage_class_name.as_deref())
        && let Err(refusal) = check(claim, class)
    {
        note(Effect::Blocks, format!("it gets no volume: {refusal}"));
    }
    let Some(family) = family(facts, namespace) else {
        note(Effect::Same, "its namespace is not labelled, and its pods mount it as they do".to_owned());
        return changes;
    };
    let decision = tried(&facts.engine, namespace, name, family);
    match decision.code {
        Code::Injected => {
            for volume in &decision.volumes {
                let kind = if volume.native { "native sidecar" } else { "ordinary container" };
                let (mode, profile) = (volume.mode, volume.profile);
                let client = format!("pods get a client: {kind}, {mode} mode, {profile} profile");
                if mode == Mode::Resilient.as_str() {
                    note(Effect::Changed, format!("{client}: {RESILIENT}"));
                } else {
                    note(Effect::Same, client);
                }
                let of_default = |name| {
                    let mut settings = volume.settings.iter();
                    settings.any(|one| one.setting == name && one.source == Source::Default)
                };
                if of_default("limits.cpu") {
                    let what = "a client may use 2 CPUs where nothing says how many; the driver's may use 5";
                    note(Effect::Changed, what.to_owned());
                }
            }
        }
        _ if is_unread(facts, &decision) => note(Effect::Unseen, decision.message.clone()),
        _ => note(Effect::Blocks, format!("a pod with it is refused: {}", decision.message)),
    }
    for warning in told(&decision, name) {
        note(Effect::Changed, warning);
    }
    changes
}

/// Volumes whose data will be kept although the driver would remove it.
pub(super) fn volumes(facts: &Facts<'_>) -> Vec<Change> {
    let driver = &facts.engine.process.driver;
    let kept = |volume: &crate::volume::PersistentVolume| {
        let is_ours = volume.spec.csi.as_ref().is_some_and(|csi| *csi.driver == **driver);
        if !is_ours || !volume.spec.is_deleted_with_claim {
            return None;
        }
        let name = &*volume.metadata.name;
        Some(match judge(volume, facts.engine.catalog, facts.engine.config, driver) {
            Verdict::Keep(reason) => Change::new(
                Effect::Changed,
                "volume",
                name,
                format!("its data is kept when its claim is deleted: {reason}"),
            ),
            Verdict::Remove { .. } => {
                Change::new(Effect::Same, "volume", name, "its data is removed when its claim is deleted")
            }
        })
    };
    facts.objects.volumes.iter().filter_map(kept).collect()
}

/// What is decided about a pod that mounts a claim and does nothing else.
fn tried(engine: &Engine<'_>, namespace: &str, claim: &str, family: Family) -> Decision {
    let pod: Value = json!({
        "metadata": {"name": "any-pod", "namespace": namespace},
        "spec": {
            "containers": [{"name": "app", "image": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        },
    });
    let text = pod.to_string();
    match serde_json::from_str::<Pod<'_>>(&text) {
        Ok(pod) => {
            let object = || Ok(Cow::Borrowed(text.as_str()));
            engine.decide(&Subject { pod: &pod, object: &object, namespace, identity: Some("any"), family })
        }
        Err(error) => Decision::new(Code::Internal, error.to_string()),
    }
}

/// Whether a decision wants nothing but a secret that may well be there.
fn is_unread(facts: &Facts<'_>, decision: &Decision) -> bool {
    let unread = |miss: &Miss| match miss {
        Miss::Secret { namespace, name } => {
            !facts.objects.is_seen(Kind::Secrets)
                || facts.objects.unread_secrets.contains(&format!("{namespace}/{name}"))
        }
        _ => false,
    };
    decision.code == Code::SecretMissing && decision.misses.iter().any(unread)
}

/// Warnings, without the name of the object that the change is about: what is alike is told once.
fn told(decision: &Decision, claim: &str) -> Vec<String> {
    let place = |volume: &str| format!("persistentvolume {volume:?}: ");
    let volumes: Vec<String> = decision.volumes.iter().map(|volume| place(&volume.volume)).collect();
    let strip = |warning: &String| {
        let found = volumes.iter().find_map(|place| warning.strip_prefix(place.as_str()));
        let rest = found.unwrap_or(warning);
        match rest.strip_prefix("persistentvolumeclaim \"").and_then(|rest| rest.split_once("\": ")) {
            Some((name, rest)) if name.ends_with(&format!("/{claim}")) => rest.to_owned(),
            _ => rest.to_owned(),
        }
    };
    decision.warnings.iter().map(strip).collect()
}
