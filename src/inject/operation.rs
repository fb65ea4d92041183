//! JSON Patch operations (RFC 6902), written as JSON text from the start.
//!
//! Most patches are only ever sent, so nothing is built to be taken apart again; who applies one has it parsed.

use json_patch::PatchError;
use serde::Serialize;
use serde_json::Value;

/// Operations in the order they are to be applied, paths from the pod's root.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// The operations as they stand between the brackets of the array.
    text: Vec<u8>,
}

impl Patch {
    /// An empty patch with room for so many bytes of text.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes) }
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// These operations, and then others.
    pub(crate) fn followed_by(mut self, other: &Self) -> Self {
        if !self.is_empty() && !other.is_empty() {
            self.text.push(b',');
        }
        self.text.extend_from_slice(&other.text);
        self
    }

    /// The JSON document.
    pub fn to_json(&self) -> Vec<u8> {
        [b"[", &self.text[..], b"]"].concat()
    }

    /// The operations as the library has them; in objects that are added the name comes first, as people write it.
    ///
    /// # Errors
    /// A fault of ours: an invalid operation.
    pub fn operations(&self) -> Result<json_patch::Patch, serde_json::Error> {
        let mut operations: Value = serde_json::from_slice(&self.to_json())?;
        for operation in operations.as_array_mut().into_iter().flatten() {
            if let Some(value) = operation.get_mut("value") {
                put_name_first(value);
            }
        }
        serde_json::from_value(operations)
    }

    /// Applies the operations to a pod; an error leaves it as it was.
    pub fn apply(&self, pod: &mut Value) -> Result<(), ApplyError> {
        Ok(json_patch::patch(pod, &self.operations()?)?)
    }

    /// Adds or replaces a value.
    pub(crate) fn add<T: Serialize + ?Sized>(&mut self, path: &[&str], value: &T) {
        self.begin("add", path);
        self.field("value");
        self.value(value);
        self.end();
    }

    /// Replaces a value that is there.
    pub(crate) fn replace<T: Serialize + ?Sized>(&mut self, path: &[&str], value: &T) {
        self.begin("replace", path);
        self.field("value");
        self.value(value);
        self.end();
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, path: &[&str]) {
        self.begin("remove", path);
        self.end();
    }

    /// Moves a value.
    pub(crate) fn relocate(&mut self, from: &[&str], path: &[&str]) {
        self.begin("move", path);
        self.field("from");
        self.pointer(from);
        self.end();
    }

    fn begin(&mut self, operation: &str, path: &[&str]) {
        if !self.text.is_empty() {
            self.text.push(b',');
        }
        self.text.extend_from_slice(b"{\"op\":\"");
        self.text.extend_from_slice(operation.as_bytes());
        self.text.push(b'"');
        self.field("path");
        self.pointer(path);
    }

    fn end(&mut self) {
        self.text.push(b'}');
    }

    fn field(&mut self, name: &str) {
        self.text.extend_from_slice(b",\"");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
    }

    fn pointer(&mut self, parts: &[&str]) {
        let pointer = pointer(parts);
        self.value(&pointer);
    }

    /// API objects and the strings, numbers and maps of this engine have nothing that could fail; if something did,
    /// the operation would not parse, and nobody would be served half a value.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let _ = serde_json::to_writer(&mut self.text, value);
    }
}

/// Why a patch does not apply.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The pod is not what the patch was made for.
    #[error(transparent)]
    Misfit(#[from] PatchError),
    /// An invalid operation.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

/// A JSON Pointer (RFC 6901) from its parts.
fn pointer(parts: &[&str]) -> String {
    let mut pointer = String::with_capacity(parts.iter().map(|part| part.len() + 3).sum());
    for part in parts {
        pointer.push('/');
        if !part.contains(['~', '/']) {
            pointer.push_str(part);
            continue;
        }
        for letter in part.chars() {
            match letter {
                '~' => pointer.push_str("~0"),
                '/' => pointer.push_str("~1"),
                other => pointer.push(other),
            }
        }
    }
    pointer
}

fn put_name_first(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(put_name_first),
        Value::Object(fields) => {
            if let Some(name) = fields.shift_remove("name") {
                fields.shift_insert(0, "name".to_owned(), name);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_written_as_the_standard_has_them() {
        let mut patch = Patch::default();
        patch.add(&["metadata", "labels", "a/b~c"], "x");
        patch.relocate(&["a"], &["b"]);
        patch.remove(&["c", "0"]);
        patch.replace(&["d"], &[1]);
        let wanted = json!([
            {"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "x"},
            {"op": "move", "from": "/a", "path": "/b"},
            {"op": "remove", "path": "/c/0"},
            {"op": "replace", "path": "/d", "value": [1]},
        ]);
        assert_eq!(serde_json::from_slice::<Value>(&patch.to_json()).unwrap(), wanted);
        assert_eq!(serde_json::to_value(patch.operations().unwrap()).unwrap(), wanted);
    }

    #[test]
    fn people_read_the_name_first() {
        let mut patch = Patch::default();
        patch.add(&["spec", "initContainers"], &[json!({"command": [], "name": "jfs-mount"})]);
        let mut pod = json!({"spec": {}});
        patch.apply(&mut pod).unwrap();
        let keys: Vec<_> = pod["spec"]["initContainers"][0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["name", "command"]);
    }
}
