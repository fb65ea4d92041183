//! Manifest text to documents, each with the text it came from.
//!
//! A text is cut into pieces that together are the text again, byte for byte: what is not changed is printed as
//! its author wrote it, comments and separators included. Pure: reading files is [`super::files`]' business.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use serde_json::{Value, json};

use super::{InputError, locate, unique::Unique};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, flow style included.
    Yaml,
    /// JSON; every such document is YAML too.
    Json,
}

/// One document of a manifest.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it was found.
    pub place: Place,
    /// The document's own bytes: from its `---` (or the start of the file) up to the next document.
    pub text: String,
    /// How it is written.
    pub format: Format,
    /// Its contents; `null` for a piece of nothing but comments.
    pub value: Value,
    /// Where the items of a `List` begin, when somebody has asked.
    item_lines: OnceLock<Vec<usize>>,
}

impl Document {
    /// Objects that come from elsewhere than a text, as a list.
    pub fn of_objects(source: &str, objects: Vec<Value>) -> Self {
        let mut value = json!({"apiVersion": "v1", "kind": "List"});
        value["items"] = Value::Array(objects);
        Self {
            place: Place { file: source.into(), number: 1, start: 1, line: 1 },
            text: String::new(),
            format: Format::Json,
            value,
            item_lines: OnceLock::new(),
        }
    }

    /// The line of an item of a `List`, both counted from their own beginning: the item from 0, the line from 1.
    pub(super) fn item_line(&self, index: usize) -> Option<usize> {
        // All at once, lest telling something about every item should parse the text as many times.
        self.item_lines.get_or_init(|| locate::item_lines(self)).get(index).copied()
    }
}

/// Where a document begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path as the user gave it, `<stdin>` for `-`.
    pub file: Arc<str>,
    /// Counted from 1, over the documents of the file that have contents.
    pub number: usize,
    /// Counted from 1: the first line of the document's text.
    pub start: usize,
    /// Counted from 1: the first line with contents.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// Cuts a manifest into documents and parses each.
///
/// `file` is used for messages, and its ending decides which parser's complaint is shown about a text that
/// begins like JSON and is neither.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, InputError> {
    let file: Arc<str> = file.into();
    let body = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if body.starts_with(['{', '[']) {
        match json_stream(&file, text) {
            Ok(documents) => return Ok(documents),
            Err(error) if file.ends_with(".json") => return Err(error),
            Err(_) => {}
        }
    }
    yaml_stream(&file, text)
}

/// JSON values, one after another, with nothing but white space between.
fn json_stream(file: &Arc<str>, text: &str) -> Result<Vec<Document>, InputError> {
    // serde_json knows no byte order mark.
    let mark = text.len() - text.trim_start_matches('\u{feff}').len();
    let (_, body) = text.split_at(mark);
    let mut documents: Vec<Document> = Vec::new();
    let mut values = serde_json::Deserializer::from_str(body).into_iter::<Unique>();
    let mut begin = 0;
    let mut start = 1;
    while let Some(value) = values.next() {
        let number = documents.len() + 1;
        let Unique(value) = value.map_err(|error| InputError {
            file: Arc::clone(file),
            line: Some(error.line()),
            document: number,
            object: String::new(),
            field: String::new(),
            what: format!("not JSON: {}", without_position(&error.to_string())),
        })?;
        let end = mark + values.byte_offset();
        let piece = text.get(begin..end).unwrap_or_default();
        let line = start + lines_before_contents(piece);
        documents.push(Document {
            place: Place { file: Arc::clone(file), number, start, line },
            text: piece.to_owned(),
            format: Format::Json,
            value,
            item_lines: OnceLock::new(),
        });
        start += piece.matches('\n').count();
        begin = end;
    }
    if let Some(last) = documents.last_mut() {
        last.text.push_str(text.get(begin..).unwrap_or_default());
    }
    Ok(documents)
}

/// YAML documents, JSON ones among them.
fn yaml_stream(file: &Arc<str>, text: &str) -> Result<Vec<Document>, InputError> {
    let mut documents = Vec::new();
    let mut start = 1;
    let mut number = 1;
    for piece in split(text) {
        let line = start + lines_before_contents(piece);
        let place = Place { file: Arc::clone(file), number, start, line };
        let (format, value) = if let Some(value) = json_piece(piece) {
            (Format::Json, value)
        } else {
            let value = serde_saphyr::from_str_with_options(piece, options());
            (Format::Yaml, value.map_err(|error| yaml_error(&place, piece, &error))?)
        };
        if !value.is_null() {
            number += 1;
        }
        documents.push(Document {
            place,
            text: piece.to_owned(),
            format,
            value,
            item_lines: OnceLock::new(),
        });
        start += piece.matches('\n').count();
    }
    Ok(documents)
}

/// A piece that is JSON but for its `---` and comments above.
fn json_piece(piece: &str) -> Option<Value> {
    let body = contents(piece);
    if !body.starts_with('{') {
        return None;
    }
    serde_json::from_str(body).ok().map(|Unique(value)| value)
}

/// A piece without the marker, comments and blank lines it begins with.
pub(super) fn contents(piece: &str) -> &str {
    let mut body = piece.trim_start_matches('\u{feff}');
    while let Some(line) = body.lines().next().filter(|_| !body.is_empty()) {
        let rest = if is_marker(line, "---") {
            body.strip_prefix("---")
        } else if is_filling(line) {
            body.split_once('\n').map(|(_, rest)| rest)
        } else {
            break;
        };
        body = rest.unwrap_or_default().trim_start();
    }
    body
}

/// What YAML means to `kubectl`: version 1.1 scalars (`0644` is octal, `on` is a boolean), merge keys, and no key
/// twice. The limits on size are lifted, for whole clusters come in one file; those on nesting and aliases stay.
pub(super) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
    }
}

fn yaml_error(place: &Place, piece: &str, error: &serde_saphyr::Error) -> InputError {
    let line = error.location().map(|location| location.line());
    let text = line.and_then(|line| piece.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?));
    // The first thing that newcomers try is the template of a chart.
    let template = text.is_some_and(|text| text.contains("{{"));
    let hint = if template { "; render the template first" } else { "" };
    InputError {
        file: Arc::clone(&place.file),
        line: line.map(|line| line_in(place, line)),
        document: place.number,
        object: String::new(),
        field: String::new(),
        what: format!("not YAML: {}{hint}", plain_words(error)),
    }
}

/// The parser's complaint in one line, without its position (ours counts from the start of the file) and without
/// advice meant for programmers.
fn plain_words(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    if text.starts_with("budget breached: Depth") || text.starts_with("recursion limit exceeded") {
        return "nested too deeply".to_owned();
    }
    let text = without_position(&text);
    let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or(text);
    text.lines().next().unwrap_or_default().to_owned()
}

/// Both parsers end their messages with ` at line N, column M` (`serde_json` without the comma).
fn without_position(text: &str) -> &str {
    text.rfind(" at line ").and_then(|at| text.get(..at)).unwrap_or(text)
}

/// The line of the file, given a line of the document's text.
pub(super) fn line_in(place: &Place, line: u64) -> usize {
    place.start + usize::try_from(line).unwrap_or(1).saturating_sub(1)
}

/// Cuts a YAML stream at its document markers.
///
/// A line that begins with `---` or `...` is a marker wherever it stands, also within a scalar, so no parser is
/// needed to find them. Comments and directives above the first `---` belong to the document below it.
fn split(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    let mut at = 0;
    // Whether the current piece would be a document if it ended here.
    let mut complete = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches('\u{feff}');
        if is_marker(bare, "---") {
            if complete {
                pieces.extend(text.get(begin..at));
                begin = at;
            }
            complete = true;
        } else if is_marker(bare, "...") {
            if complete {
                pieces.extend(text.get(begin..at + line.len()));
                begin = at + line.len();
            }
            complete = false;
        } else if !is_filling(bare) {
            complete = true;
        }
        at += line.len();
    }
    if begin < text.len() {
        pieces.extend(text.get(begin..));
    }
    pieces
}

pub(super) fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Blank lines, comments, and directives.
pub(super) fn is_filling(line: &str) -> bool {
    let trimmed = line.trim();
    trimmed.is_empty() || trimmed.starts_with('#') || line.starts_with('%')
}

/// How many lines of a piece come before its contents; none if it has no contents.
fn lines_before_contents(piece: &str) -> usize {
    let skipped = |line: &str| {
        let bare = line.trim_start_matches('\u{feff}');
        is_filling(bare) || bare.trim_end() == "---"
    };
    piece.lines().position(|line| !skipped(line)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Vec<Value> {
        parse("test.yaml", text).expect("readable").into_iter().map(|document| document.value).collect()
    }

    #[test]
    fn documents_are_cut_at_markers_and_keep_their_text() {
        let text =
            "# licence\n---\na: 1 # one\n---\n# nothing here\n--- # two\nb: 2\n...\n# after\nc: 3\n...\n";
        let documents = parse("test.yaml", text).expect("readable");
        let parts: Vec<_> = documents
            .iter()
            .map(|document| (document.text.as_str(), document.value.clone(), document.place.line))
            .collect();
        assert_eq!(
            parts,
            [
                ("# licence\n---\na: 1 # one\n", json!({"a": 1}), 3),
                ("---\n# nothing here\n", Value::Null, 4),
                ("--- # two\nb: 2\n...\n", json!({"b": 2}), 6),
                ("# after\nc: 3\n...\n", json!({"c": 3}), 10),
            ]
        );
        assert_eq!(documents.iter().map(|document| document.place.number).collect::<Vec<_>>(), [1, 2, 2, 3]);
    }

    #[test]
    fn dashes_within_a_line_or_a_block_are_no_markers() {
        let text = "a: |\n  ---\n  b\nc: x --- y\nd: ---\n---e: 1\n";
        assert_eq!(split(text).len(), 1);
    }

    #[test]
    fn directives_belong_to_the_document_below() {
        assert_eq!(values("%YAML 1.2\n---\na: 1\n"), [json!({"a": 1})]);
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        for (text, value) in [
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("on", json!(true)),
            ("\"on\"", json!("on")),
            ("1e3", json!(1000.0)),
            ("1_000", json!(1000)),
            ("2026-01-01", json!("2026-01-01")),
            ("22:22", json!("22:22")),
            ("~", Value::Null),
            ("!!str 12", json!("12")),
            ("500m", json!("500m")),
        ] {
            assert_eq!(values(&format!("a: {text}\n")), [json!({ "a": value })], "{text}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        assert_eq!(
            values("a: &x {b: 1}\nc:\n  <<: *x\n  d: *x\n"),
            [json!({"a": {"b": 1}, "c": {"d": {"b": 1}, "b": 1}})]
        );
    }

    #[test]
    fn json_documents_are_recognised_alone_in_a_row_and_among_yaml() {
        for (text, count) in [
            ("{\"a\": 1}\n", 1),
            ("{\"a\": 1}{\"a\": 2}\n{\"a\": 3}\n\n", 3),
            ("\u{feff} {\"a\": 1}", 1),
            ("{\"a\": 1}\n---\n{\"b\": 1}\n", 2),
        ] {
            let documents = parse("input", text).expect("readable");
            assert_eq!(documents.len(), count, "{text}");
            assert!(documents.iter().all(|document| document.format == Format::Json), "{text}");
            assert_eq!(documents.iter().map(|document| document.text.as_str()).collect::<String>(), text);
        }
        let documents = parse("input", "{a: 1}\n").expect("flow style is YAML");
        assert_eq!(documents.first().map(|document| document.format), Some(Format::Yaml));
    }

    #[test]
    fn complaints_name_file_line_and_document() {
        for (file, text, complaint) in [
            ("x.yaml", "a: 1\n---\nb: 1\nb: 2\n", "x.yaml:4: document 2: not YAML: duplicate mapping key: b"),
            ("x.yaml", "a:\n\tb: 1\n", "x.yaml:2: document 1: not YAML: tabs disallowed"),
            (
                "x.yaml",
                "---\n\n---\na: {{ .Values.x }}\n",
                "x.yaml:4: document 1: not YAML: expected string scalar; render the template first",
            ),
            ("x.json", "{\"a\": 1}\n{\"a\": }\n", "x.json:2: document 2: not JSON: expected value"),
            ("x.yaml", "{\"a\": 1,\n\"a\": 1}\n", "x.yaml:2: document 1: not YAML: duplicate mapping key: a"),
            ("x.json", "{\"a\": 1,\n\"a\": 1}\n", "x.json:2: document 1: not JSON: duplicate mapping key: a"),
            ("x.yaml", "{\"a\": [}\n", "x.yaml:1: document 1: not YAML: "),
        ] {
            let error = parse(file, text).expect_err(text).to_string();
            assert!(error.starts_with(complaint), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        for opening in ["[", "{a: ", "- ", "{\"a\":"] {
            let error = parse("x.yaml", &opening.repeat(100_000)).expect_err(opening).to_string();
            assert_eq!(error, "x.yaml:1: document 1: not YAML: nested too deeply");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_nothing_is_lost(text in "([a-c]: [0-9]\n|---|\\.\\.\\.|#x|[ \n{}\\[\\]\"|]|\\PC){0,40}") {
            if let Ok(documents) = parse("x.yaml", &text) {
                prop_assert_eq!(documents.iter().map(|document| document.text.as_str()).collect::<String>(), text);
            }
        }
    }
}
