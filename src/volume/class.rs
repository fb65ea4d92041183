//! What a StorageClass will make of a claim that is not bound yet, as its provisioner would.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Catalog,
    attributes::{PATH_PATTERN, SUB_PATH},
    objects::{Claim, Node, SecretReference, StorageClass},
    pattern::{self, ClaimFacts, PatternError, SelectedNode},
};
use crate::{
    map::Map,
    outcome::{Code, Refusal},
};

/// The annotation by which the scheduler names the node a claim is made for.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Parameters of a class that name the user secret.
const SECRET_NAME: &str = "csi.storage.k8s.io/node-publish-secret-name";
const SECRET_NAMESPACE: &str = "csi.storage.k8s.io/node-publish-secret-namespace";
/// Parameters with this beginning are secret references and have templates of their own.
pub(super) const SECRET_PARAMETERS: &str = "csi.storage.k8s.io/";

impl StorageClass {
    /// Namespace and name of the secret that every volume of the class will have, if that is one and the same.
    pub(super) fn secret(&self) -> Option<(Arc<str>, Arc<str>)> {
        let plain = |key| self.parameters.get(key).filter(|value| !value.is_empty() && !value.contains('$'));
        Some((Arc::clone(plain(SECRET_NAMESPACE)?), Arc::clone(plain(SECRET_NAME)?)))
    }
}

/// The volume a class would make.
pub(super) struct Planned {
    /// Attributes; `subPath` is among them only if the class decides it.
    pub(super) attributes: Map,
    pub(super) mount_options: Arc<[Arc<str>]>,
    pub(super) secret: SecretReference,
}

/// Plans the volume that a class would make.
///
/// `warnings` gets what came out empty.
pub(super) fn plan(
    class: &StorageClass,
    facts: &ClaimFacts<'_>,
    warnings: &mut Vec<String>,
) -> Result<Planned, Refusal> {
    let place = |field: &str| format!("storageclass \"{}\": {field}", class.metadata.name);
    let mut warn = |field: &str, texts: Vec<String>| {
        warnings.extend(texts.into_iter().map(|text| format!("{}: {text}", place(field))));
    };
    let mut attributes = BTreeMap::<Arc<str>, Arc<str>>::new();
    for (key, template) in class.parameters.iter() {
        let value = if key.starts_with(SECRET_PARAMETERS) {
            pattern::resolve_secret_reference(template, facts)
        } else if &**key == PATH_PATTERN && !template.is_empty() {
            pattern::resolve_path(template, facts)
        } else {
            pattern::resolve_parameter(template, facts)
        };
        let field = format!("parameters[\"{key}\"]");
        let value = value.map_err(|error| unusable(place(&field), &error))?;
        warn(&field, value.warnings);
        attributes.insert(Arc::clone(key), value.text.into());
    }
    if let Some(path) = attributes.get(PATH_PATTERN).filter(|path| !path.is_empty()) {
        let path = Arc::clone(path);
        attributes.entry(SUB_PATH.into()).or_insert(path);
    }
    let mut mount_options: Vec<Arc<str>> = Vec::new();
    for (index, template) in class.mount_options.iter().enumerate() {
        let field = format!("mountOptions[{index}]");
        let value =
            pattern::resolve_options(template, facts).map_err(|error| unusable(place(&field), &error))?;
        warn(&field, value.warnings);
        mount_options.extend(value.text.split(',').map(|option| option.trim().into()));
    }
    let parameter = |key: &str| attributes.get(key).cloned().unwrap_or_default();
    let secret = SecretReference { namespace: parameter(SECRET_NAMESPACE), name: parameter(SECRET_NAME) };
    if secret.name.is_empty() || secret.namespace.is_empty() {
        return Err(Refusal::new(
            Code::SecretMissing,
            place("parameters"),
            format!("{SECRET_NAME} and {SECRET_NAMESPACE} do not name a secret"),
            "name the secret with the credentials of the file system",
        ));
    }
    Ok(Planned { attributes: attributes.into_iter().collect(), mount_options: mount_options.into(), secret })
}

/// The node the scheduler has chosen for a claim, where it has.
pub(super) fn selected_node(class: &StorageClass, claim: &Claim, catalog: &Catalog) -> Option<Arc<Node>> {
    if !class.waits_for_consumer() {
        return None;
    }
    catalog.node(claim.metadata.annotations.get(SELECTED_NODE)?).cloned()
}

/// What a class says of a node nobody has chosen yet.
pub(super) fn node(class: &StorageClass) -> SelectedNode<'static> {
    if class.waits_for_consumer() { SelectedNode::Later } else { SelectedNode::None }
}

fn unusable(place: String, error: &PatternError) -> Refusal {
    Refusal::new(
        Code::ClaimUnusable,
        place,
        error.to_string(),
        "correct the template, or the label or annotation it takes its value from",
    )
}
