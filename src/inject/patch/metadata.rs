//! Labels and annotations: what marks an injected pod, and what others are told by.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::json;

use super::Writer;
use crate::inject::{
    plan::Client,
    profile::{VCI_PROPAGATION, VCI_PROPAGATION_MOUNTS},
    status::{DEFAULT_CONTAINER, DONE, SAFE_TO_EVICT, STATUS},
};

impl Writer<'_> {
    /// Labels and annotations; returns how long the status is.
    pub(super) fn metadata(&mut self) -> usize {
        let metadata = &self.pod.metadata;
        if !metadata.present {
            self.operations.add(&["metadata"], &json!({}));
            self.status.undo.absent.push("metadata".to_owned());
        }
        match &metadata.labels {
            None => {
                self.operations.add(&["metadata", "labels"], &BTreeMap::from([(DONE, "true")]));
                self.status.undo.absent.push("labels".to_owned());
            }
            Some(labels) => {
                self.status.undo.done = labels.done.as_ref().map(ToString::to_string);
                self.operations.add(&["metadata", "labels", DONE], "true");
            }
        }
        let mut annotations = self.annotations();
        if metadata.annotations.is_none() {
            self.status.undo.absent.push("annotations".to_owned());
        }
        let status = self.status.to_text();
        let length = status.len();
        annotations.insert(STATUS.to_owned(), status);
        if metadata.annotations.is_none() {
            self.operations.add(&["metadata", "annotations"], &annotations);
            return length;
        }
        for (key, value) in annotations {
            self.operations.add(&["metadata", "annotations", &key], &value);
        }
        length
    }

    /// The annotations beside the status, remembered for undoing.
    fn annotations(&mut self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::new();
        let present = self.pod.metadata.annotations.as_ref();
        let first = self.pod.spec.containers.first();
        if !self.plan.native
            && present.is_none_or(|annotations| annotations.default_container.is_none())
            && let Some(first) = first
        {
            annotations.insert(DEFAULT_CONTAINER.to_owned(), first.name.to_string());
            self.status.undo.annotations.push(DEFAULT_CONTAINER.to_owned());
        }
        self.let_autoscaler_move(&mut annotations);
        if self.plan.profile.annotates_pod() {
            self.platform_annotations(&mut annotations);
        }
        annotations
    }

    /// A claim does not keep the cluster autoscaler from moving a pod, and nor shall what takes its place.
    fn let_autoscaler_move(&mut self, annotations: &mut BTreeMap<String, String>) {
        let present =
            self.pod.metadata.annotations.as_ref().and_then(|present| present.safe_to_evict.as_deref());
        let mut names: Vec<&str> =
            present.into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
        names.retain(|name| !name.is_empty());
        for name in &self.local {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let names = names.join(",");
        match present {
            _ if self.local.is_empty() => return,
            Some(old) => {
                self.status.undo.replaced_annotations.push((SAFE_TO_EVICT.to_owned(), old.to_owned()));
            }
            None => self.status.undo.annotations.push(SAFE_TO_EVICT.to_owned()),
        }
        annotations.insert(SAFE_TO_EVICT.to_owned(), names);
    }

    fn platform_annotations(&mut self, annotations: &mut BTreeMap<String, String>) {
        let present = self.pod.metadata.annotations.as_ref();
        let extra = self.plan.clients.iter().flat_map(|client| &client.settings.annotations);
        annotations.extend(extra.map(|(key, value)| (key.clone(), value.clone())));
        if self.plan.profile.is_vci() {
            let old = present.and_then(|annotations| annotations.vci_propagation_mounts.as_deref());
            annotations.insert(VCI_PROPAGATION.to_owned(), VCI_PROPAGATION.into());
            annotations.insert(VCI_PROPAGATION_MOUNTS.to_owned(), vci_mounts(&self.plan.clients, old));
            let replaced = [
                (VCI_PROPAGATION, present.and_then(|annotations| annotations.vci_propagation.as_deref())),
                (VCI_PROPAGATION_MOUNTS, old),
            ];
            for (key, old) in replaced {
                if let Some(old) = old {
                    self.status.undo.replaced_annotations.push((key.to_owned(), old.to_owned()));
                }
            }
        }
        let replaced = |key: &String| self.status.undo.replaced_annotations.iter().any(|(old, _)| old == key);
        let added: Vec<String> = annotations.keys().filter(|key| !replaced(key)).cloned().collect();
        self.status.undo.annotations = added;
    }
}

/// VCI's list of propagating mounts: ours first, then what was there, word for word.
fn vci_mounts(clients: &[Client], old: Option<&str>) -> String {
    let ours = clients
        .iter()
        .map(|client| json!({ "container": client.container, "mountPath": client.mount_point }).to_string());
    let is_list = |text: &&str| serde_json::from_str::<Vec<IgnoredAny>>(text).is_ok();
    let old = old.filter(is_list).and_then(|text| text.trim().strip_prefix('[')?.strip_suffix(']'));
    let old = old.map(str::trim).filter(|elements| !elements.is_empty());
    format!("[{}]", ours.chain(old.map(str::to_owned)).collect::<Vec<_>>().join(","))
}
