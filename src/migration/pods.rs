//! Running pods, by what mounts their volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;

use super::{Change, Effect, Facts, objects::Kind};
use crate::{
    inject::{DONE, STATUS},
    volume::backing::Search,
};

/// How the driver and we call the containers of clients.
const CLIENT: &str = "jfs-mount";

/// See the module; each list has `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Pods with a client of the driver, by namespace.
    pub(super) of_driver: BTreeMap<String, Vec<String>>,
    /// Of those, the ones whose clients only the driver's controller ends: an ordinary container beside an application that
    /// ends.
    pub(super) ended_by_driver: Vec<String>,
    /// Pods with clients of ours.
    pub(super) of_ours: usize,
    /// Pods with a JuiceFS claim and no client: the node plugin mounts it.
    pub(super) of_plugin: Vec<String>,
    is_known: bool,
}

impl Seen {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let mut seen = Self { is_known: facts.objects.is_seen(Kind::Pods), ..Self::default() };
        for pod in facts.objects.pods.iter().filter(|pod| lives(pod)) {
            let has = |map: Option<&BTreeMap<String, String>>, key: &str| {
                map.is_some_and(|map| map.contains_key(key))
            };
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let title = format!("{namespace}/{}", pod.metadata.name.as_deref().unwrap_or_default());
            if has(pod.metadata.annotations.as_ref(), STATUS) {
                seen.of_ours += 1;
            } else if has(pod.metadata.labels.as_ref(), DONE) && clients(pod).next().is_some() {
                if is_ended_by_driver(pod) {
                    seen.ended_by_driver.push(title.clone());
                }
                seen.of_driver.entry(namespace.to_owned()).or_default().push(title);
            } else if claims(pod).any(|claim| is_juicefs(facts, namespace, claim)) {
                seen.of_plugin.push(title);
            }
        }
        seen
    }

    /// Whether anything is known of pods.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Pods with a client of the driver.
    pub(super) fn count(&self) -> usize {
        self.of_driver.values().map(Vec::len).sum()
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        const AREA: &str = "pods";
        let driver = self.of_driver.values().flatten();
        let change = |effect, title: &String, what: &str| Change::new(effect, AREA, title, what);
        let driver = driver.map(|title| {
            change(
                Effect::Same,
                title,
                "keeps the driver's client for as long as it lives, whoever else is installed",
            )
        });
        let jobs = self.ended_by_driver.iter().map(|title| {
            change(
                Effect::Changed,
                title,
                "its client is ended by the driver's controller and by nobody else",
            )
            .remedy("keep that controller until the pod is over")
        });
        let plugin = self.of_plugin.iter().map(|title| {
            change(
                Effect::Changed,
                title,
                "its volume is mounted by the driver's node plugin, which this does not replace",
            )
            .remedy("label its namespace and make it again, or keep the node plugin")
        });
        driver.chain(jobs).chain(plugin).collect()
    }
}

fn lives(pod: &api::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The containers that are clients, those first that are ordinary ones.
fn clients(pod: &api::Pod) -> impl Iterator<Item = &api::Container> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    all.filter(|container| container.name.contains(CLIENT))
}

/// As the driver's controller chooses them.
fn is_ended_by_driver(pod: &api::Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let beside = spec.containers.iter().any(|container| container.name.contains(CLIENT));
        let before = spec.init_containers.iter().flatten().any(|container| container.name.contains(CLIENT));
        beside && !before && spec.restart_policy.as_deref().is_some_and(|policy| policy != "Always")
    })
}

fn claims(pod: &api::Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

fn is_juicefs(facts: &Facts<'_>, namespace: &str, claim: &str) -> bool {
    let (catalog, driver) = (facts.engine.catalog, &facts.engine.process.driver);
    let claim = catalog.claim(namespace, claim);
    claim.is_some_and(|claim| matches!(Search::new(catalog, driver).behind(claim), Ok(Some(_))))
}
