//! Which items of `mountPodPatch` a claim on a node gets.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

use super::patch::{ClaimSelector, PatchItem};
use crate::map::Map;

/// What the selectors look at.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The claim's name, if it is known yet.
    pub claim: Option<&'a str>,
    /// The claim's class; empty if none.
    pub class: &'a str,
    /// The claim's labels.
    pub labels: &'a Map,
    /// Labels of the node, as far as the pod says where it will run.
    pub node: Option<&'a Map>,
}

impl PatchItem {
    /// Whether both selectors match.
    pub(super) fn selects(&self, target: &Target<'_>) -> bool {
        self.pvc_selector.as_ref().is_none_or(|selector| selector.matches(target))
            && self.node_selector.as_ref().is_none_or(|selector| {
                let (labels, expressions) =
                    (selector.match_labels.as_ref(), selector.match_expressions.as_deref());
                target.node.is_some_and(|node| match_labels(labels, expressions, node))
            })
    }
}

impl ClaimSelector {
    fn matches(&self, target: &Target<'_>) -> bool {
        if self
            .match_name
            .as_ref()
            .is_some_and(|name| !name.is_empty() && Some(name.as_str()) != target.claim)
        {
            return false;
        }
        match &self.match_storage_class_name {
            Some(class) if !class.is_empty() => class == target.class,
            _ => match_labels(self.match_labels.as_ref(), self.match_expressions.as_deref(), target.labels),
        }
    }
}

/// Whether labels meet a label selector.
#[must_use]
pub fn match_labels(
    wanted: Option<&BTreeMap<String, String>>,
    expressions: Option<&[LabelSelectorRequirement]>,
    labels: &Map,
) -> bool {
    wanted.into_iter().flatten().all(|(key, value)| labels.get(key).is_some_and(|actual| **actual == **value))
        && expressions.into_iter().flatten().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &Map) -> bool {
    let value = labels.get(&requirement.key);
    let listed =
        || value.is_some_and(|value| requirement.values.iter().flatten().any(|other| **other == **value));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // Parsing lets no other through.
        _ => false,
    }
}
