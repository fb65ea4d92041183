//! What is known about the node a pod will run on.

use crate::{
    inject::Engine,
    map::Map,
    pod::{NodeRequirement, NodeSelectorTerm, Pod, Text, Toleration},
    volume::node::{NATIVE_SINCE, Node, Taint},
};

/// Architectures there are images of the client for.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];
/// Labels that say which operating system a node runs.
const OPERATING_SYSTEM: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
/// Taints that come and go with the health of a node begin so.
const PASSING_TAINTS: &str = "node.kubernetes.io/";

/// Whether clients can be native sidecars, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Native {
    /// They can.
    Yes,
    /// Somebody said that they cannot, or that the cluster is older.
    No(String),
    /// A node that the pod may run on is too old.
    OldNode(String),
}

/// Whether clients can be native sidecars: the ConfigMap's word, else the cluster's version and that of every kubelet
/// the pod may meet.
pub(super) fn native(engine: &Engine<'_>, pod: &Pod<'_>) -> Native {
    match engine.config.enable_native_sidecar {
        Some(true) => return Native::Yes,
        Some(false) => return Native::No("enableNativeSidecar is false".to_owned()),
        None => {}
    }
    if let Some(version) = engine.process.kubernetes.filter(|version| *version < NATIVE_SINCE) {
        return Native::No(format!("the cluster is of Kubernetes {version}"));
    }
    let mut nodes = engine.catalog.remarkable_nodes().filter(|node| may_run(pod, node));
    let old = nodes.find_map(|node| Some((node, node.kubelet_before_native()?)));
    old.map_or(Native::Yes, |(node, version)| {
        Native::OldNode(format!("node {:?} has kubelet {version}", node.metadata.name))
    })
}

/// Whether the pod may run on a node whose `/etc` nothing can be made in.
pub(super) fn may_have_read_only_etc(engine: &Engine<'_>, pod: &Pod<'_>) -> bool {
    engine.catalog.remarkable_nodes().any(|node| node.has_read_only_etc() && may_run(pod, node))
}

/// What says that the pod runs on Windows, if anything does.
pub(super) fn windows(engine: &Engine<'_>, pod: &Pod<'_>) -> Option<&'static str> {
    let spec = &pod.spec;
    if spec.os.as_ref().is_some_and(|os| &*os.name == "windows") {
        return Some("spec.os.name");
    }
    if spec.security_context.is_some_and(|context| context.windows_options) {
        return Some("spec.securityContext.windowsOptions");
    }
    let of_windows = |key: &str, value: &str| OPERATING_SYSTEM.contains(&key) && value == "windows";
    if spec.node_selector.iter().flatten().any(|(key, value)| of_windows(key, value)) {
        return Some("spec.nodeSelector");
    }
    let wants_windows = |term: &NodeSelectorTerm<'_>| {
        let mut expressions = term.match_expressions.iter().flatten().filter_map(single);
        expressions.any(|(key, value)| of_windows(key, value))
    };
    let terms = required(pod);
    if !terms.is_empty() && terms.iter().all(wants_windows) {
        return Some("spec.affinity.nodeAffinity");
    }
    let node = named(pod).and_then(|name| engine.catalog.node(name));
    node.is_some_and(|node| is_windows(node)).then_some("spec.nodeName")
}

fn is_windows(node: &Node) -> bool {
    &*node.status.node_info.operating_system == "windows"
        || OPERATING_SYSTEM
            .iter()
            .any(|key| node.metadata.labels.get(key).is_some_and(|os| &**os == "windows"))
}

/// Whether a pod with a client may be put on a node, as far as pod and node say.
fn may_run(pod: &Pod<'_>, node: &Node) -> bool {
    if is_windows(node) {
        return false;
    }
    let architecture = &*node.status.node_info.architecture;
    if !architecture.is_empty() && !ARCHITECTURES.contains(&architecture) {
        return false;
    }
    let spec = &pod.spec;
    if let Some(name) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return *name == *node.metadata.name;
    }
    let labels = &node.metadata.labels;
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(key, value)| labels.get(key).is_some_and(|actual| **actual == **value)) {
        return false;
    }
    let terms = required(pod);
    if !terms.is_empty() && !terms.iter().any(|term| meets(node, term)) {
        return false;
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    node.spec.taints.iter().all(|taint| !repels(taint) || tolerations.iter().any(|one| tolerates(one, taint)))
}

/// Whether a taint keeps pods away for good.
fn repels(taint: &Taint) -> bool {
    matches!(&*taint.effect, "NoSchedule" | "NoExecute") && !taint.key.starts_with(PASSING_TAINTS)
}

fn tolerates(toleration: &Toleration<'_>, taint: &Taint) -> bool {
    let exists = &*toleration.operator == "Exists";
    (toleration.effect.is_empty() || *toleration.effect == *taint.effect)
        && (*toleration.key == *taint.key || (exists && toleration.key.is_empty()))
        && (exists || *toleration.value == *taint.value)
}

fn meets(node: &Node, term: &NodeSelectorTerm<'_>) -> bool {
    let (mut expressions, mut fields) =
        (term.match_expressions.iter().flatten(), term.match_fields.iter().flatten());
    expressions.all(|one| holds(one, node.metadata.labels.get(&one.key).map(|value| &**value)))
        && fields.all(|one| &*one.key != "metadata.name" || holds(one, Some(&node.metadata.name)))
}

/// Whether a label's value meets a requirement; in doubt it does.
fn holds(requirement: &NodeRequirement<'_>, value: Option<&str>) -> bool {
    let is_listed = || requirement.values.iter().any(|one| Some(&**one) == value);
    let than = |wanted: fn(i64, i64) -> bool| {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = requirement.values.first().and_then(|bound| number(bound));
        value.and_then(number).zip(bound).is_some_and(|(value, bound)| wanted(value, bound))
    };
    match &*requirement.operator {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => than(|value, bound| value > bound),
        "Lt" => than(|value, bound| value < bound),
        _ => true,
    }
}

/// The alternatives of the node affinity that has to be met.
fn required<'p>(pod: &'p Pod<'_>) -> &'p [NodeSelectorTerm<'p>] {
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required.as_ref())
        .map_or(&[], |required| &required.node_selector_terms)
}

/// A requirement that leaves one value.
fn single<'p>(requirement: &'p NodeRequirement<'_>) -> Option<(&'p str, &'p str)> {
    match requirement.values.as_slice() {
        [value] if &*requirement.operator == "In" => Some((&requirement.key, value)),
        _ => None,
    }
}

/// The node's name, if the pod has one or, as those of a `DaemonSet`, names it by an affinity.
fn named<'p>(pod: &'p Pod<'_>) -> Option<&'p str> {
    let by_field = || match required(pod) {
        [term] => {
            let mut fields = term.match_fields.iter().flatten().filter_map(single);
            fields.find(|(key, _)| *key == "metadata.name").map(|(_, name)| name)
        }
        _ => None,
    };
    pod.spec.node_name.as_deref().filter(|name| !name.is_empty()).or_else(by_field)
}

/// What is certain about the labels of the node a pod will run on.
///
/// A pod has no node at admission, save those of a `DaemonSet`, which name it; for the others the labels its own
/// selector demands are known.
pub(super) fn labels(engine: &Engine<'_>, pod: &Pod<'_>) -> Option<Map> {
    if let Some(node) = named(pod).and_then(|name| engine.catalog.node(name)) {
        return Some(node.metadata.labels.clone());
    }
    let text = |(key, value): (&Text<'_>, &Text<'_>)| (key.to_string(), value.to_string());
    // Several terms are alternatives: nothing is certain.
    let term = if let [term] = required(pod) { Some(term) } else { None };
    let expressions = term.into_iter().flat_map(|term| term.match_expressions.iter().flatten());
    let expressions = expressions.filter_map(single).map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels: Map = pod.spec.node_selector.iter().flatten().map(text).chain(expressions).collect();
    if labels.is_empty() { None } else { Some(labels) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(value: &Value) -> Node {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn runs(spec: &Value, on: &Value) -> bool {
        let text = json!({ "spec": spec }).to_string();
        may_run(&serde_json::from_str(&text).unwrap(), &node(on))
    }

    fn required_of(terms: &Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn a_pod_may_run_where_selector_affinity_and_name_let_it() {
        let on = json!({"metadata": {"name": "n", "labels": {"pool": "a", "size": "4"}}});
        let expression = |key: &str, operator: &str, values: &[&str]| {
            required_of(
                &json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]),
            )
        };
        let field = |values: &[&str]| {
            required_of(
                &json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]}]),
            )
        };
        for (spec, expected) in [
            (json!({}), true),
            (json!({"nodeName": "n", "nodeSelector": {"pool": "b"}}), true),
            (json!({"nodeName": "m"}), false),
            (json!({"nodeSelector": {"pool": "a"}}), true),
            (json!({"nodeSelector": {"pool": "b"}}), false),
            (expression("pool", "In", &["a", "b"]), true),
            (expression("pool", "NotIn", &["a"]), false),
            (expression("zone", "NotIn", &["a"]), true),
            (expression("zone", "Exists", &[]), false),
            (expression("zone", "DoesNotExist", &[]), true),
            (expression("size", "Gt", &["3"]), true),
            (expression("size", "Lt", &["4"]), false),
            (field(&["n"]), true),
            (field(&["m"]), false),
            (required_of(&json!([{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, {}])), true),
            (required_of(&json!([])), true),
        ] {
            assert_eq!(runs(&spec, &on), expected, "{spec}");
        }
    }

    #[test]
    fn nodes_that_no_client_runs_on_do_not_count() {
        let labelled = |os: &str| json!({"metadata": {"labels": {"kubernetes.io/os": os}}});
        assert!(runs(&json!({}), &labelled("linux")));
        assert!(!runs(&json!({}), &labelled("windows")));
        let info = |info: Value| json!({"status": {"nodeInfo": info}});
        assert!(!runs(&json!({}), &info(json!({"operatingSystem": "windows"}))));
        assert!(runs(&json!({}), &info(json!({"architecture": "arm64"}))));
        assert!(!runs(&json!({}), &info(json!({"architecture": "s390x"}))));
    }

    #[test]
    fn taints_keep_pods_away_that_do_not_tolerate_them() {
        let tainted = |effect: &str, key: &str| json!({"spec": {"taints": [{"key": key, "value": "azure", "effect": effect}]}});
        let virtual_node = tainted("NoSchedule", "virtual-kubelet.io/provider");
        for (tolerations, expected) in [
            (json!([]), false),
            (json!([{"operator": "Exists"}]), true),
            (json!([{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]), true),
            (json!([{"key": "virtual-kubelet.io/provider", "value": "azure"}]), true),
            (json!([{"key": "virtual-kubelet.io/provider", "value": "aws"}]), false),
            (json!([{"operator": "Exists", "effect": "NoExecute"}]), false),
        ] {
            assert_eq!(
                runs(&json!({ "tolerations": tolerations }), &virtual_node),
                expected,
                "{tolerations}"
            );
        }
        assert!(runs(&json!({}), &tainted("PreferNoSchedule", "a")));
        assert!(runs(&json!({}), &tainted("NoSchedule", "node.kubernetes.io/unschedulable")));
    }

    #[test]
    fn windows_is_known_by_many_signs() {
        let engine_of = |spec: &Value| {
            let text = json!({ "spec": spec }).to_string();
            let (catalog, config, process) = Default::default();
            let engine = Engine { catalog: &catalog, config: &config, process: &process, explain: false };
            windows(&engine, &serde_json::from_str(&text).unwrap())
        };
        let os = |operator: &str| json!([{"matchExpressions": [{"key": "kubernetes.io/os", "operator": operator, "values": ["windows"]}]}]);
        for (spec, sign) in [
            (json!({"os": {"name": "windows"}}), Some("spec.os.name")),
            (json!({"nodeSelector": {"beta.kubernetes.io/os": "windows"}}), Some("spec.nodeSelector")),
            (json!({"securityContext": {"windowsOptions": {}}}), Some("spec.securityContext.windowsOptions")),
            (required_of(&os("In")), Some("spec.affinity.nodeAffinity")),
            (required_of(&os("NotIn")), None),
            (json!({"os": {"name": "linux"}}), None),
        ] {
            assert_eq!(engine_of(&spec), sign, "{spec}");
        }
    }
}
