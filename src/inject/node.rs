//! What is known about the node a pod will run on.

use crate::{
    inject::Engine,
    map::Map,
    notation::Version,
    pod::{NodeRequirement, Pod, Text},
};

/// The first release whose kubelets know native sidecars by default.
const NATIVE_SINCE: Version = Version::new(1, 29);

/// Whether clients can be native sidecars: the ConfigMap's word, else the oldest of cluster and nodes.
pub(super) fn is_native(engine: &Engine<'_>) -> bool {
    if let Some(decided) = engine.config.enable_native_sidecar {
        return decided;
    }
    let versions = [engine.process.kubernetes, engine.catalog.oldest_kubelet()];
    versions.iter().flatten().all(|version| *version >= NATIVE_SINCE)
}

/// What is certain about the labels of the node a pod will run on.
///
/// A pod has no node at admission, save those of a `DaemonSet`, which name it by an affinity to its `metadata.name`;
/// for the others the labels its own selector demands are known.
pub(super) fn labels(engine: &Engine<'_>, pod: &Pod<'_>) -> Option<Map> {
    let spec = &pod.spec;
    let terms =
        spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()).and_then(|affinity| {
            let terms = &affinity.required.as_ref()?.node_selector_terms;
            // Several terms are alternatives: nothing is certain.
            if let [term] = terms.as_slice() { Some(term) } else { None }
        });
    let single = |requirement: &NodeRequirement<'_>| match requirement.values.as_slice() {
        [value] if &*requirement.operator == "In" => Some((requirement.key.to_string(), value.to_string())),
        _ => None,
    };
    let by_field = terms.and_then(|term| {
        let mut fields = term.match_fields.iter().flatten().filter_map(single);
        fields.find(|(key, _)| key == "metadata.name").map(|(_, name)| name)
    });
    let name = spec.node_name.as_ref().map(ToString::to_string).or(by_field);
    if let Some(node) = name.and_then(|name| engine.catalog.node(&name)) {
        return Some(node.metadata.labels.clone());
    }
    let text = |(key, value): (&Text<'_>, &Text<'_>)| (key.to_string(), value.to_string());
    let expressions = terms.into_iter().flat_map(|term| term.match_expressions.iter().flatten());
    let selector = spec.node_selector.iter().flatten().map(text);
    let labels: Map = selector.chain(expressions.filter_map(single)).collect();
    if labels.is_empty() { None } else { Some(labels) }
}
