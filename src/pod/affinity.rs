//! What a pod demands of its node.

use serde::Deserialize;

use super::{
    Text,
    bounded::{self, Element},
    lenient::or_default,
};

/// `spec.affinity`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Affinity<'a> {
    /// Which nodes the pod may run on.
    #[serde(borrow)]
    pub node_affinity: Option<NodeAffinity<'a>>,
}

/// `spec.affinity.nodeAffinity`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeAffinity<'a> {
    /// The hard requirement; the soft ones say nothing certain.
    #[serde(borrow, rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector<'a>>,
}

/// Terms of which one must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSelector<'a> {
    /// Alternatives.
    #[serde(borrow, deserialize_with = "bounded::list_or_empty::<256, _, _>")]
    pub node_selector_terms: Vec<NodeSelectorTerm<'a>>,
}

/// Requirements that must all hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSelectorTerm<'a> {
    /// On labels of the node.
    #[serde(borrow, deserialize_with = "bounded::list::<256, _, _>")]
    pub match_expressions: Option<Vec<NodeRequirement<'a>>>,
    /// On fields of the node; a DaemonSet's pod names its node by `metadata.name`.
    #[serde(borrow, deserialize_with = "bounded::list::<256, _, _>")]
    pub match_fields: Option<Vec<NodeRequirement<'a>>>,
}

/// One requirement on a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeRequirement<'a> {
    /// Label key or field path.
    #[serde(borrow, deserialize_with = "or_default")]
    pub key: Text<'a>,
    /// `In`, `NotIn`, `Exists`, …
    #[serde(borrow, deserialize_with = "or_default")]
    pub operator: Text<'a>,
    /// The values of `In` and its like.
    #[serde(borrow, deserialize_with = "bounded::list_or_empty::<4096, _, _>")]
    pub values: Vec<Text<'a>>,
}

/// A taint, or several, that the pod tolerates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Toleration<'a> {
    /// The taint's key; empty with `Exists` means every taint.
    #[serde(borrow, deserialize_with = "or_default")]
    pub key: Text<'a>,
    /// `Equal`, which is the default, or `Exists`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub operator: Text<'a>,
    /// The taint's value, for `Equal`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub value: Text<'a>,
    /// The taint's effect; empty means every one.
    #[serde(borrow, deserialize_with = "or_default")]
    pub effect: Text<'a>,
}

impl Element for Toleration<'_> {}

impl Element for NodeSelectorTerm<'_> {
    fn held(&self) -> usize {
        let requirements = self.match_expressions.iter().chain(&self.match_fields).flatten();
        requirements.map(|requirement| 1 + requirement.held()).sum()
    }
}

impl Element for NodeRequirement<'_> {
    fn held(&self) -> usize {
        self.values.len()
    }
}
