//! What was done to which document.

use json_patch::{
    Patch, PatchError, PatchOperation,
    jsonptr::{Pointer, PointerBuf},
};
use serde_json::Value;

use super::{Document, Workload};
use crate::inject;

/// Documents and the changes made to the workloads in them.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    documents: &'a [Document],
    /// As many as documents: the new contents of those that changed.
    contents: Vec<Option<Value>>,
    made: Vec<Change>,
}

/// One changed workload.
#[derive(Clone, Debug)]
pub struct Change {
    /// The file it is in.
    pub file: String,
    /// `Deployment`.
    pub kind: String,
    /// The namespace it will get; empty if nothing says.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The operations, paths from the root of the document.
    pub patch: Patch,
}

impl<'a> Changes<'a> {
    /// No changes so far.
    pub fn new(documents: &'a [Document]) -> Self {
        Self { documents, contents: vec![None; documents.len()], made: Vec::new() }
    }

    /// Applies operations on a workload's pod to the document it is in, `index` counting from 0.
    ///
    /// An error leaves everything as it was.
    pub fn apply(
        &mut self,
        index: usize,
        workload: &Workload<'_>,
        namespace: &str,
        patch: &inject::Patch,
    ) -> Result<(), inject::ApplyError> {
        Ok(self.apply_operations(index, workload, namespace, &patch.operations()?)?)
    }

    /// The same with operations that may be anything.
    pub(super) fn apply_operations(
        &mut self,
        index: usize,
        workload: &Workload<'_>,
        namespace: &str,
        patch: &Patch,
    ) -> Result<(), PatchError> {
        let Some((document, contents)) = self.documents.get(index).zip(self.contents.get_mut(index)) else {
            return Ok(());
        };
        let object = &workload.object;
        // Another pod of the same object may have been changed already.
        let current = contents.as_ref().and_then(|contents| contents.pointer(&object.pointer));
        let mut after = current.unwrap_or(object.value).clone();
        apply(&mut after, &patch_under(&workload.pod_path, patch))?;
        if after == *current.unwrap_or(object.value) {
            return Ok(());
        }
        let contents = contents.get_or_insert_with(|| document.value.clone());
        if let Some(place) = contents.pointer_mut(&object.pointer) {
            place.clone_from(&after);
        }
        self.made.push(Change {
            file: document.place.file.to_string(),
            kind: object.kind.to_string(),
            namespace: namespace.to_owned(),
            name: object.name().to_owned(),
            patch: patch_under(&format!("{}{}", object.pointer, workload.pod_path), patch),
        });
        Ok(())
    }

    /// The changed workloads in the order of the documents.
    pub fn changes(&self) -> &[Change] {
        &self.made
    }

    /// Every document, with its new contents if it changed.
    pub fn documents(&self) -> impl Iterator<Item = (&'a Document, Option<&Value>)> {
        self.documents.iter().zip(self.contents.iter().map(Option::as_ref))
    }
}

/// The same operations below a prefix.
fn patch_under(base: &str, patch: &Patch) -> Patch {
    Patch(patch.0.iter().map(|operation| under(base, operation)).collect())
}

fn under(base: &str, operation: &PatchOperation) -> PatchOperation {
    let mut operation = operation.clone();
    let move_down = |path: &mut PointerBuf| {
        if let Ok(moved) = PointerBuf::parse(format!("{base}{path}")) {
            *path = moved;
        }
    };
    match &mut operation {
        PatchOperation::Add(add) => move_down(&mut add.path),
        PatchOperation::Remove(remove) => move_down(&mut remove.path),
        PatchOperation::Replace(replace) => move_down(&mut replace.path),
        PatchOperation::Test(test) => move_down(&mut test.path),
        PatchOperation::Move(move_) => {
            move_down(&mut move_.from);
            move_down(&mut move_.path);
        }
        PatchOperation::Copy(copy) => {
            move_down(&mut copy.from);
            move_down(&mut copy.path);
        }
    }
    operation
}

/// Applies a patch and keeps the order of keys, which `json_patch` alone does not when it removes one.
fn apply(value: &mut Value, patch: &Patch) -> Result<(), PatchError> {
    for operation in &patch.0 {
        match operation {
            PatchOperation::Remove(remove) if remove_in_order(value, &remove.path) => {}
            operation => json_patch::patch(value, std::slice::from_ref(operation))?,
        }
    }
    Ok(())
}

/// `false` if the path does not name a key that is there.
fn remove_in_order(value: &mut Value, path: &Pointer) -> bool {
    path.split_back()
        .and_then(|(parent, key)| Some((value.pointer_mut(parent.as_str())?.as_object_mut()?, key)))
        .is_some_and(|(object, key)| object.shift_remove(&*key.decoded()).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::offline::{documents, workloads};

    fn patch(operations: Value) -> Patch {
        serde_json::from_value(operations).expect("operations")
    }

    #[test]
    fn operations_land_below_the_pod_of_every_kind_of_workload() {
        for (head, path) in [
            ("apiVersion: v1\nkind: Pod\n", ""),
            ("apiVersion: apps/v1\nkind: Deployment\n", "/spec/template"),
            ("apiVersion: apps/v1\nkind: ReplicaSet\n", "/spec/template"),
            ("apiVersion: apps/v1\nkind: StatefulSet\n", "/spec/template"),
            ("apiVersion: apps/v1\nkind: DaemonSet\n", "/spec/template"),
            ("apiVersion: v1\nkind: ReplicationController\n", "/spec/template"),
            ("apiVersion: batch/v1\nkind: Job\n", "/spec/template"),
            ("apiVersion: batch/v1\nkind: CronJob\n", "/spec/jobTemplate/spec/template"),
        ] {
            let mut text = head.to_owned();
            let mut indent = 0;
            for key in path.split('/').skip(1) {
                text.extend([&" ".repeat(indent), key, ":\n"]);
                indent += 2;
            }
            text.extend([&" ".repeat(indent), "spec: {containers: [{name: a}]}\n"]);
            let documents = documents::parse("x.yaml", &text).expect("readable");
            let workloads = workloads::workloads(documents.first().expect("one"), &[]);
            let workload = workloads.first().expect(&text);
            let mut changes = Changes::new(&documents);
            let patch = patch(json!([{"op": "add", "path": "/spec/containers/0", "value": {"name": "b"}}]));
            changes.apply_operations(0, workload, "", &patch).expect("applies");
            let (_, contents) = changes.documents().next().expect("one");
            assert_eq!(
                contents.and_then(|value| value.pointer(&format!("{path}/spec/containers"))),
                Some(&json!([{"name": "b"}, {"name": "a"}])),
                "{text}"
            );
            assert_eq!(
                changes.changes().first().map(|change| change
                    .patch
                    .0
                    .first()
                    .map(|one| one.path().to_string())),
                Some(Some(format!("{path}/spec/containers/0")))
            );
        }
    }

    #[test]
    fn items_of_one_list_change_together() {
        let text = "kind: PodList\napiVersion: v1\nitems: [{metadata: {name: a}}, {metadata: {name: b}}]\n";
        let documents = documents::parse("x.yaml", text).expect("readable");
        let mut changes = Changes::new(&documents);
        for workload in workloads::workloads(documents.first().expect("one"), &[]) {
            let patch = patch(json!([{"op": "add", "path": "/spec", "value": {}}]));
            changes.apply_operations(0, &workload, "", &patch).expect("applies");
        }
        let (_, contents) = changes.documents().next().expect("one");
        assert_eq!(
            contents.and_then(|value| value.get("items")),
            Some(&json!([{"metadata": {"name": "a"}, "spec": {}}, {"metadata": {"name": "b"}, "spec": {}}]))
        );
    }

    #[test]
    fn removing_a_key_keeps_the_order_of_the_others() {
        let mut value = json!({"a": 1, "b": {"x": 1, "y": 2, "z": 3}, "c": 3});
        let operations = patch(json!([
            {"op": "remove", "path": "/a"}, {"op": "remove", "path": "/b/x"}, {"op": "test", "path": "/c", "value": 3}
        ]));
        apply(&mut value, &operations).expect("applies");
        assert_eq!(value.to_string(), r#"{"b":{"y":2,"z":3},"c":3}"#);
        assert!(apply(&mut value, &operations).is_err());
    }

    #[test]
    fn jobs_of_other_groups_and_deployments_without_a_template_are_no_workloads() {
        let text = "apiVersion: example.com/v1alpha1\nkind: Job\nspec: {template: {spec: {}}}\n---\n\
                    apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 3}\n";
        for document in documents::parse("x.yaml", text).expect("readable") {
            assert!(workloads::workloads(&document, &[]).is_empty());
        }
    }
}
