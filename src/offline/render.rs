//! Documents and changes as text.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::{
    changes::Changes,
    documents::{Document, Format, is_filling, is_marker},
    edit,
};

pub use super::yaml::write as yaml;

/// JSON, indented by two, with a line end.
pub fn json(value: &Value) -> String {
    // NB: the alternate form of a Value's Display is the indented one and cannot fail.
    format!("{value:#}\n")
}

/// All documents in one stream: unchanged ones byte for byte, changed ones written anew in their own format.
///
/// JSON documents stay JSON, which is YAML too; where YAML ones are about as well, `---` stands between them.
pub fn stream(changes: &Changes<'_>) -> String {
    let all_json = changes.documents().all(|(document, _)| document.format == Format::Json);
    let mut text = String::new();
    let mut anything = false;
    for (document, changed) in changes.documents() {
        let piece = match changed {
            None => Cow::Borrowed(&*document.text),
            Some(value) => Cow::Owned(rewritten(document, value)),
        };
        if !text.is_empty() && !text.ends_with('\n') && !all_json {
            text.push('\n');
        }
        let starts = start_of(&piece);
        if anything && starts == Start::Directive && !ends_document(&text) {
            text.push_str("...\n");
        }
        // NB: kubectl takes a stream that begins with a brace for JSON only, so a marker comes first there.
        let first_of_mixed = text.is_empty() && !all_json && document.format == Format::Json;
        let separate = anything && !all_json && !ends_document(&text);
        if starts == Start::Contents && (separate || first_of_mixed) {
            text.push_str("---\n");
        }
        anything |= !document.value.is_null();
        text.push_str(&piece);
    }
    text
}

/// All documents as JSON, one after another; unchanged JSON documents byte for byte.
pub fn json_stream(changes: &Changes<'_>) -> String {
    let mut text = String::new();
    for (document, changed) in changes.documents().filter(|(document, _)| !document.value.is_null()) {
        let own = document.format == Format::Json && start_of(&document.text) == Start::Contents;
        if changed.is_none() && own {
            text.push_str(&document.text);
        } else {
            text.push_str(&json(changed.unwrap_or(&document.value)));
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// The operations of every changed workload: an array of `{file, kind, namespace, name, patch}`.
pub fn patches(changes: &Changes<'_>) -> String {
    let list: Vec<Value> = changes
        .changes()
        .iter()
        .map(|change| {
            json!({
                "file": change.file, "kind": change.kind, "namespace": change.namespace, "name": change.name,
                "patch": change.patch,
            })
        })
        .collect();
    json(&Value::Array(list))
}

/// Every file that changes, with its text as it is to be.
pub fn changed_files<'a>(changes: &'a Changes<'_>) -> Vec<(&'a str, String)> {
    files(changes)
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(file, _, after)| (file, after))
        .collect()
}

/// Each file before and after; documents of one file stand together.
fn files<'a>(changes: &'a Changes<'_>) -> Vec<(&'a str, String, String)> {
    let mut files: Vec<(&str, String, String)> = Vec::new();
    for (document, changed) in changes.documents() {
        let file = &*document.place.file;
        if files.last().is_none_or(|(last, ..)| *last != file) {
            files.push((file, String::new(), String::new()));
        }
        if let Some((_, before, after)) = files.last_mut() {
            before.push_str(&document.text);
            after.push_str(
                &changed.map_or(Cow::Borrowed(&*document.text), |value| rewritten(document, value).into()),
            );
        }
    }
    files
}

/// A unified diff of every file that changes, as `patch -p0` and `git apply -p0` take it.
pub fn diffs(changes: &Changes<'_>, colours: bool) -> String {
    files(changes).iter().map(|(file, before, after)| diff(file, before, after, colours)).collect()
}

fn diff(file: &str, before: &str, after: &str, colours: bool) -> String {
    let difference = TextDiff::from_lines(before, after);
    let mut text = String::new();
    if before == after {
        return text;
    }
    let mut line = |style: anstyle::Style, content: &str| {
        let _ =
            if colours { writeln!(text, "{style}{content}{style:#}") } else { writeln!(text, "{content}") };
    };
    line(HEADER, &format!("--- {file}"));
    line(HEADER, &format!("+++ {file}"));
    for hunk in difference.unified_diff().context_radius(3).iter_hunks() {
        line(HUNK, hunk.header().to_string().trim_end());
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Equal => (' ', anstyle::Style::new()),
                ChangeTag::Delete => ('-', DELETED),
                ChangeTag::Insert => ('+', INSERTED),
            };
            let content = change.value();
            line(style, &format!("{sign}{}", content.strip_suffix('\n').unwrap_or(content)));
            if !content.ends_with('\n') {
                line(anstyle::Style::new(), "\\ No newline at end of file");
            }
        }
    }
    text
}

const HEADER: anstyle::Style = anstyle::Style::new().bold();
const HUNK: anstyle::Style = anstyle::AnsiColor::Cyan.on_default();
const DELETED: anstyle::Style = anstyle::AnsiColor::Red.on_default();
const INSERTED: anstyle::Style = anstyle::AnsiColor::Green.on_default();

/// A changed document in its own format: its text with the changes in it, or, where those cannot be put there, below
/// the comments and the marker it had above its contents.
fn rewritten(document: &Document, value: &Value) -> String {
    if document.format == Format::Yaml
        && let Some(text) = edit::edited(document, value)
    {
        return text;
    }
    let mut text = String::new();
    for line in document.text.split_inclusive('\n') {
        let bare = line.trim_start_matches('\u{feff}');
        if is_marker(bare, "---") {
            text.push_str("---\n");
        } else if is_filling(bare) {
            text.push_str(line);
        } else {
            break;
        }
    }
    text.push_str(&match document.format {
        Format::Yaml => yaml(value),
        Format::Json => json(value),
    });
    text
}

/// What a document's text begins with, blank lines and comments aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Marker,
    Directive,
    Contents,
    Nothing,
}

fn start_of(text: &str) -> Start {
    for line in text.lines() {
        let line = line.trim_start_matches('\u{feff}');
        if is_marker(line, "---") {
            return Start::Marker;
        }
        if line.starts_with('%') {
            return Start::Directive;
        }
        if !is_filling(line) {
            return Start::Contents;
        }
    }
    Start::Nothing
}

/// Whether the last contents of a stream are closed by `...`.
fn ends_document(text: &str) -> bool {
    text.lines().rev().find(|line| !is_filling(line)).is_some_and(|line| is_marker(line, "..."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::{documents, workloads};

    fn read(text: &str) -> Value {
        documents::parse("x.yaml", text).expect(text).into_iter().map(|document| document.value).collect()
    }

    fn rendered(text: &str, change: Option<&str>, render: impl Fn(&Changes<'_>) -> String) -> String {
        let mut found = Vec::new();
        for (index, part) in text.split('\x0c').enumerate() {
            found.extend(documents::parse(&format!("{index}.yaml"), part).expect("readable"));
        }
        let mut changes = Changes::new(&found);
        for (index, document) in found.iter().enumerate() {
            for workload in workloads::workloads(document, &[]) {
                if Some(workload.object.name()) == change {
                    let patch = json!([{"op": "add", "path": "/spec", "value": {"x": "on"}}]);
                    let patch = serde_json::from_value(patch).expect("a patch");
                    changes.apply_operations(index, &workload, "n", &patch).expect("applies");
                }
            }
        }
        render(&changes)
    }

    #[test]
    fn files_are_joined_with_markers_where_they_have_none() {
        // A form feed stands between files.
        for (files, expected) in [
            ("a: 1\n\x0cb: 2", "a: 1\n---\nb: 2"),
            ("a: 1\x0c---\nb: 2\n", "a: 1\n---\nb: 2\n"),
            ("# x\n\x0c# y\nb: 2\n", "# x\n# y\nb: 2\n"),
            ("a: 1\n...\n\x0cb: 2\n", "a: 1\n...\nb: 2\n"),
            ("a: 1\n\x0c%YAML 1.2\n---\nb: 2\n", "a: 1\n...\n%YAML 1.2\n---\nb: 2\n"),
            ("{\"a\": 1}\n\x0c{\"b\": 1}", "{\"a\": 1}\n{\"b\": 1}"),
            ("{\"a\": 1}\n\x0cb: 1\n", "---\n{\"a\": 1}\n---\nb: 1\n"),
        ] {
            assert_eq!(rendered(files, None, stream), expected, "{files:?}");
            let separate: Vec<Value> = files
                .split('\x0c')
                .flat_map(|file| documents::parse("x", file).expect("readable"))
                .map(|document| document.value)
                .filter(|value| !value.is_null())
                .collect();
            assert_eq!(read(expected), Value::Array(separate), "{files:?}");
        }
    }

    const TWO: &str = "# licence\n---\napiVersion: v1 # one\nkind: Pod\nmetadata: {name: a}\n---\n# two\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"b\"}}\n";

    #[test]
    fn changed_documents_keep_their_format_and_the_others_every_byte() {
        assert_eq!(rendered(TWO, None, stream), TWO);
        let (first, second) = TWO.split_once("---\n# two").expect("two documents");
        assert_eq!(
            rendered(TWO, Some("a"), stream),
            format!(
                "# licence\n---\napiVersion: v1 # one\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  x: \"on\"\n---\n# two{second}"
            )
        );
        let changed = rendered(TWO, Some("b"), stream);
        assert!(changed.starts_with(first), "{changed}");
        assert!(changed.ends_with("  \"spec\": {\n    \"x\": \"on\"\n  }\n}\n"), "{changed}");
    }

    #[test]
    fn everything_can_be_json() {
        let text = rendered(TWO, Some("a"), json_stream);
        let values: Vec<Value> =
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().expect("JSON");
        assert_eq!(values.len(), 2);
        assert_eq!(values.first().and_then(|value| value.pointer("/spec/x")), Some(&json!("on")));
    }

    #[test]
    fn a_diff_shows_only_what_changed() {
        assert_eq!(
            rendered(TWO, Some("a"), |changes| diffs(changes, false)),
            "--- 0.yaml\n+++ 0.yaml\n@@ -3,6 +3,8 @@\n apiVersion: v1 # one\n kind: Pod\n metadata: {name: a}\n+spec:\n\
             +  x: \"on\"\n ---\n # two\n {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"b\"}}\n"
        );
        assert!(
            rendered(TWO, Some("a"), |changes| diffs(changes, true)).contains("\u{1b}[32m+spec:\u{1b}[0m\n")
        );
        assert_eq!(rendered(TWO, None, |changes| diffs(changes, true)), "");
    }

    #[test]
    fn patches_name_their_workload() {
        let text = rendered(TWO, Some("b"), patches);
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("JSON"),
            json!([{
                "file": "0.yaml", "kind": "Pod", "namespace": "n", "name": "b",
                "patch": [{"op": "add", "path": "/spec", "value": {"x": "on"}}],
            }])
        );
        assert_eq!(rendered(TWO, None, patches), "[]\n");
    }
}
