//! Values: `values.schema.json` describes them and has their defaults; `values.yaml` and `docs/values.md` are made of it.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use serde_json::{Map, Value};

use super::{folder, objects};

/// Columns of a comment.
const WIDTH: usize = 120;

/// One value of the schema, and where it is.
struct Entry<'a> {
    path: String,
    schema: &'a Value,
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join("values.schema.json")).unwrap()).unwrap()
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema["properties"].as_object()
}

/// All values, in the order of the schema; parents before what is in them.
fn entries<'a>(schema: &'a Value, prefix: &str, found: &mut Vec<Entry<'a>>) {
    for (key, value) in properties(schema).into_iter().flatten() {
        let path = format!("{prefix}{key}");
        found.push(Entry { path: path.clone(), schema: value });
        entries(value, &format!("{path}."), found);
        entries(&value["items"], &format!("{path}[]."), found);
    }
}

fn of_driver(schema: &Value) -> bool {
    schema["deprecated"] == true
}

fn sentence(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// A text in lines of at most so many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            let gap = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{gap}{word}");
        }
    }
    lines
}

/// `values.yaml`: every value with its sentence.
fn values(schema: &Value, indent: usize, text: &mut String) {
    let margin = " ".repeat(indent);
    for (key, value) in properties(schema).into_iter().flatten().filter(|(_, value)| !of_driver(value)) {
        for line in wrapped(sentence(value), WIDTH - indent - 2) {
            let _ = writeln!(text, "{margin}# {line}");
        }
        if properties(value).is_some() {
            let _ = writeln!(text, "{margin}{key}:");
            values(value, indent + 2, text);
        } else {
            // Flow style is JSON.
            let _ = writeln!(text, "{margin}{key}: {}", value["default"]);
        }
    }
}

/// `docs/values.md`.
fn reference(schema: &Value) -> String {
    let mut all = Vec::new();
    entries(schema, "", &mut all);
    let mut text = String::from(
        "# Values of the Helm chart\n\n\
         Made from `charts/juicefs-sidecar/values.schema.json` by `make chart`. How to install: [install.md](install.md).\n\n\
         | value | default | what it is |\n|---|---|---|\n",
    );
    let row = |text: &str| text.replace('|', "\\|");
    for Entry { path, schema } in all.iter().filter(|entry| !of_driver(entry.schema)) {
        let default = schema.get("default").map_or_else(String::new, |default| format!("`{default}`"));
        let choices = schema["enum"].as_array().map_or_else(String::new, |choices| {
            let choices: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
            format!(" One of {}.", choices.join(", "))
        });
        let _ = writeln!(text, "| `{path}` | {default} | {}{} |", row(sentence(schema)), row(&choices));
    }
    text.push_str(
        "\n## Values of the JuiceFS CSI driver's chart\n\n\
         Names of that chart that mean the same mean the same here, and are above. Of the others, some end an installation and \
         some are told of in its notes; either way with these words.\n\n\
         | value | what to do |\n|---|---|\n",
    );
    for Entry { path, schema } in all.iter().filter(|entry| of_driver(entry.schema)) {
        let say = sentence(schema).strip_prefix(DRIVER).unwrap_or_default();
        let _ = writeln!(text, "| `{path}` | {} |", row(say));
    }
    text
}

/// How sentences begin about values of the Go driver's chart that mean nothing here.
const DRIVER: &str = "Of the JuiceFS CSI driver's chart. ";

/// A file that is made of the schema is as it is to be; with `UPDATE_CHART` it is written.
fn current(path: &Path, text: &str) {
    if env::var_os("UPDATE_CHART").is_some() {
        fs::write(path, text).unwrap();
    }
    let is = fs::read_to_string(path).unwrap_or_default();
    assert!(is == text, "{} is not what the schema makes of it: run `make chart`", path.display());
}

#[test]
fn what_is_made_of_the_schema_is_current() {
    let schema = schema();
    let mut text = String::from("# Made from values.schema.json by `make chart`.\n\n");
    values(&schema, 0, &mut text);
    current(&folder().join("values.yaml"), &text);
    let reference = reference(&schema);
    current(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/values.md"), &reference);
}

#[test]
fn every_value_has_a_sentence_a_default_and_no_room_for_slips() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    let mut all = Vec::new();
    entries(&schema, "", &mut all);
    assert!(all.len() > 100);
    for Entry { path, schema } in all {
        assert!(sentence(schema).ends_with(['.', '`']), "{path}: {}", sentence(schema));
        if of_driver(schema) {
            continue;
        }
        // Others put into these what we do not know.
        let is_open = ["global", "globalConfig"].contains(&path.as_str());
        if properties(schema).is_some() {
            assert!(is_open || schema["additionalProperties"] == false, "{path} takes anything");
        } else {
            // Items of a list have none.
            assert!(path.contains("[]") || schema.get("default").is_some(), "{path} has no default");
        }
    }
}

#[test]
fn what_is_said_of_the_drivers_values_is_what_the_schema_says() {
    let text = fs::read_to_string(folder().join("files/driver-values.yaml")).unwrap();
    // A list is no object, as documents are.
    let table = objects(&format!("rows:\n{text}"));
    let told: BTreeSet<_> = table[0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["key"].as_str().unwrap().to_owned(), format!("{DRIVER}{}", row["say"].as_str().unwrap()))
        })
        .collect();
    let schema = schema();
    let mut all = Vec::new();
    entries(&schema, "", &mut all);
    let described: BTreeSet<_> = all
        .iter()
        .filter(|entry| of_driver(entry.schema))
        .map(|entry| (entry.path.clone(), sentence(entry.schema).to_owned()))
        .collect();
    assert_eq!(told, described);
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = objects(&fs::read_to_string(folder().join("Chart.yaml")).unwrap());
    for field in ["version", "appVersion"] {
        assert_eq!(chart[0][field], env!("CARGO_PKG_VERSION"));
    }
}
