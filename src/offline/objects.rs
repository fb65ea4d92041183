//! The Kubernetes objects that documents hold, items of `List`s among them.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{Document, InputError, locate};

/// An object of the Kubernetes API in a document.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// Where it was found.
    pub document: &'a Document,
    /// JSON pointer from the document's root: empty, or `/items/3` in a `List`.
    pub pointer: String,
    /// `apps/v1`; the list's where an item of a typed list (`PodList`) has none.
    pub api_version: Cow<'a, str>,
    /// `Deployment`; from the list's kind where an item of a typed list has none.
    pub kind: Cow<'a, str>,
    /// The object itself.
    pub value: &'a Value,
}

/// Lists of lists are legal and pointless; deeper ones are not looked into.
const MAX_LIST_DEPTH: usize = 4;

/// The objects of a document, in their order. A document that is not a Kubernetes object has none.
pub fn objects(document: &Document) -> Vec<Object<'_>> {
    let mut found = Vec::new();
    collect(document, &document.value, String::new(), ("", ""), MAX_LIST_DEPTH, &mut found);
    found
}

fn collect<'a>(
    document: &'a Document,
    value: &'a Value,
    pointer: String,
    inherited: (&'a str, &'a str),
    depth: usize,
    found: &mut Vec<Object<'a>>,
) {
    let text = |key: &str, otherwise: &'a str| {
        value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or(otherwise)
    };
    let (api_version, kind) = (text("apiVersion", inherited.0), text("kind", inherited.1));
    let items = value.get("items").and_then(Value::as_array);
    match (kind.strip_suffix("List"), items) {
        (Some(item_kind), Some(items)) if depth > 0 => {
            for (index, item) in items.iter().enumerate() {
                let pointer = format!("{pointer}/items/{index}");
                // The items of a plain `List` say themselves what they are.
                let inherited = if item_kind.is_empty() { ("", "") } else { (api_version, item_kind) };
                collect(document, item, pointer, inherited, depth - 1, found);
            }
        }
        _ if !kind.is_empty() => found.push(Object {
            document,
            pointer,
            api_version: Cow::Borrowed(api_version),
            kind: Cow::Borrowed(kind),
            value,
        }),
        _ => {}
    }
}

impl<'a> Object<'a> {
    /// The API group, empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// `metadata.name`, or `metadata.generateName`; empty if it has neither.
    pub fn name(&self) -> &'a str {
        let name = self.metadata("name");
        if name.is_empty() { self.metadata("generateName") } else { name }
    }

    /// `metadata.namespace`, empty if it says none.
    pub fn namespace(&self) -> &'a str {
        self.metadata("namespace")
    }

    fn metadata(&self, key: &str) -> &'a str {
        self.value
            .get("metadata")
            .and_then(|metadata| metadata.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `Kind/namespace/name`, with the namespace it will get.
    pub fn title(&self, default_namespace: &str) -> String {
        let namespace = match (self.is_cluster_wide(), self.namespace()) {
            (true, _) => "",
            (false, "") => default_namespace,
            (false, namespace) => namespace,
        };
        let mut title = self.kind.to_string();
        for part in [namespace, self.name()] {
            if !part.is_empty() {
                title.push('/');
                title.push_str(part);
            }
        }
        title
    }

    fn is_cluster_wide(&self) -> bool {
        matches!(&*self.kind, "Namespace" | "Node" | "PersistentVolume" | "StorageClass")
    }

    /// `file:line`, of the object itself even within a `List`.
    pub fn place(&self) -> String {
        let place = &self.document.place;
        let item = self.pointer.strip_prefix("/items/").and_then(|index| index.parse().ok());
        let line = match item.and_then(|index| self.document.item_line(index)) {
            Some(line) => line,
            None if self.pointer.is_empty() => place.line,
            None => locate::line(self.document, &self.pointer),
        };
        format!("{}:{line}", place.file)
    }

    /// Reads (part of) the object, `within` being a JSON pointer from its root.
    pub fn read<T: Deserialize<'a>>(&self, within: &str) -> Result<T, InputError> {
        let Some(value) = self.value.pointer(within) else {
            return Err(self.error(within, "is missing"));
        };
        serde_path_to_error::deserialize(value).map_err(|error| {
            let what = error.inner().to_string();
            let hint = if what.ends_with("expected a string") { "; write it in quotes" } else { "" };
            self.error(&format!("{within}{}", pointer(error.path())), &format!("{what}{hint}"))
        })
    }

    /// A complaint about a field, given as a JSON pointer from the object's root.
    pub fn error(&self, field: &str, what: &str) -> InputError {
        let place = &self.document.place;
        InputError {
            file: Arc::clone(&place.file),
            line: Some(locate::line(self.document, &format!("{}{field}", self.pointer))),
            document: place.number,
            object: self.title(""),
            field: dotted(field),
            what: what.to_owned(),
        }
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.place(), self.title(""))
    }
}

fn pointer(path: &Path) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escape(key)),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

/// One token of a JSON pointer (RFC 6901).
pub fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// A JSON pointer as Kubernetes writes field paths: `spec.containers[0].name`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for token in pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")) {
        let index = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
        let (before, after) = match index || token.contains(['.', '/']) {
            true => ("[", "]"),
            false if path.is_empty() => ("", ""),
            false => (".", ""),
        };
        path.extend([before, &token, after]);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{offline::documents, volume::Claim};

    fn document(text: &str) -> Document {
        documents::parse("x.yaml", text).expect("readable").pop().expect("a document")
    }

    #[test]
    fn lists_are_looked_into_and_typed_ones_lend_their_kind() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n\
                    - apiVersion: v1\n  kind: PodList\n  items:\n  - metadata: {name: b, namespace: team}\n  - {kind: Secret}\n";
        let document = document(text);
        let found: Vec<_> = objects(&document)
            .iter()
            .map(|object| (object.title("default"), object.pointer.clone(), object.group().to_owned()))
            .collect();
        assert_eq!(
            found,
            [
                ("Deployment/default/a".to_owned(), "/items/0".to_owned(), "apps".to_owned()),
                ("Pod/team/b".to_owned(), "/items/1/items/0".to_owned(), String::new()),
                ("Secret/default".to_owned(), "/items/1/items/1".to_owned(), String::new()),
            ]
        );
        assert_eq!(objects(&document).get(1).map(Object::place).as_deref(), Some("x.yaml:8"));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in ["- a\n- b\n", "text\n", "a: 1\n", "kind: 5\n", "# nothing\n"] {
            assert!(objects(&document(text)).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_with_its_line() {
        let document =
            document("kind: PersistentVolumeClaim\nmetadata:\n  name: data\n  annotations:\n    a.b/c: 5\n");
        let objects = objects(&document);
        let error = objects.first().expect("one").read::<Claim>("").expect_err("not a string").to_string();
        assert_eq!(
            error,
            "x.yaml:5: document 1: PersistentVolumeClaim/data: metadata.annotations[a.b/c]: \
             invalid type: integer `5`, expected a string; write it in quotes"
        );
    }
    #[test]
    fn a_name_or_a_uid_that_cannot_be_one_is_refused_with_its_place() {
        for (field, value) in
            [("uid", "$(touch x);y"), ("name", "a b"), ("name", "../x"), ("namespace", "`id`")]
        {
            let text = format!("kind: PersistentVolumeClaim\nmetadata:\n  {field}: '{value}'\n");
            let document = document(&text);
            let objects = objects(&document);
            let error = objects.first().expect("one").read::<Claim>("").expect_err(value).to_string();
            assert!(
                error.starts_with("x.yaml:3: ") && error.contains(&format!("metadata.{field}: is not a ")),
                "{error}"
            );
        }
    }
}
