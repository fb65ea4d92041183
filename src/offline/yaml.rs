//! Values as YAML.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::SingleQuoted;

/// YAML as `kubectl` writes it: block style, lists not indented, strings quoted where any version of YAML would
/// take them for something else, several lines as a literal block, no line ever folded, JSON in single quotes.
pub fn write(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX, min_fold_chars: usize::MAX };
    let mut text = String::new();
    // JSON is YAML: in case the serializer should refuse a value, which none is known that it does.
    if serde_saphyr::to_fmt_writer_with_options(&mut text, &Readable(value), options).is_err() {
        return format!("{value:#}\n");
    }
    text
}

/// A value whose strings of JSON (our status annotation is one) are put in single quotes, not drowned in escapes.
struct Readable<'a>(&'a Value);

impl Serialize for Readable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, Readable(value))))
            }
            Value::Array(list) => serializer.collect_seq(list.iter().map(Readable)),
            Value::String(text) if reads_better_in_single_quotes(text) => {
                SingleQuoted(text.as_str()).serialize(serializer)
            }
            other => other.serialize(serializer),
        }
    }
}

/// Whether a string has to be quoted, has double quotes in it, and nothing that single quotes cannot hold.
fn reads_better_in_single_quotes(text: &str) -> bool {
    // Of what YAML calls printable: not the byte order mark, and not the line separators of old.
    let escaped = |letter| !matches!(letter, ' '..='&' | '('..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..);
    text.starts_with(['{', '[', '"']) && text.contains('"') && !text.contains(escaped)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use proptest::{
        prelude::*,
        strategy::{Strategy, ValueTree as _},
        test_runner::TestRunner,
    };
    use serde_json::json;

    use super::*;
    use crate::offline::documents;

    fn read(text: &str) -> Value {
        documents::parse("x.yaml", text).expect(text).into_iter().map(|document| document.value).collect()
    }

    /// Strings that YAML readers like to take for something else, and hostile ones.
    const AWKWARD: [&str; 60] = [
        "",
        " ",
        "on",
        "off",
        "y",
        "N",
        "yes",
        "No",
        "true",
        "FALSE",
        "null",
        "Null",
        "~",
        "0644",
        "0o17",
        "0x1f",
        "0b1",
        "1e3",
        "1.0",
        ".5",
        "1.",
        "-1",
        "+1",
        "1_000",
        "22:22",
        "1:30:00",
        "190:20:30.15",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        ".inf",
        ".NaN",
        "=",
        "<<",
        "---",
        "...",
        "- a",
        "-",
        "?",
        "? a",
        ":",
        "a:",
        "a: b",
        "a #b",
        "#a",
        "%a",
        "@a",
        "`a",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "[a]",
        "{a: b}",
        "a\tb",
        "'\"\\",
        "trailing ",
        " leading",
        "\u{feff}x",
        "é😀\u{85}\u{2028}\u{0}\u{7f}",
    ];

    fn several_lines() -> Vec<String> {
        [
            "a\nb",
            "a\nb\n",
            "\n",
            "\n\n",
            "a\n\n",
            "  a\nb\n",
            "a \nb \n",
            "\ta\n",
            "a\r\nb\r\n",
            "# a\n---\nb\n",
            "a\n  b\n\n  c\n",
        ]
        .map(str::to_owned)
        .into()
    }

    fn awkward() -> Value {
        let texts = AWKWARD.map(str::to_owned).into_iter().chain(several_lines()).chain([
            "word ".repeat(60),
            "x".repeat(300),
            "{\"a\": [\"b\\n\", \"é\"]}".to_owned(),
            "[\"it's\", 1]".to_owned(),
            "\"quoted\" 😀".to_owned(),
            format!("{}\n{}", "word ".repeat(60), "end"),
        ]);
        let texts: Vec<String> = texts.collect();
        let keys: serde_json::Map<String, Value> =
            texts.iter().map(|text| (text.clone(), Value::String(text.clone()))).collect();
        json!({
            "list": texts, "map": keys,
            "deep": [[["a", ["b\nc\n"]], []], {}, {"x": {"y": [{"z": "a\nb"}]}}],
            "numbers": [0, -1, 420, u64::MAX, i64::MIN, 0.5, 1e100, -0.0, 1.0], "none": null, "both": [true, false],
        })
    }

    #[test]
    fn awkward_values_are_read_back_as_they_were() {
        let value = awkward();
        assert_eq!(read(&write(&value)), json!([value]));
    }

    #[test]
    fn another_parser_reads_the_same() {
        let mut value = awkward();
        let mut runner = TestRunner::deterministic();
        let random = (0..200).filter_map(|_| Some(any_value().new_tree(&mut runner).ok()?.current()));
        value["random"] = random.collect();
        let script =
            "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin.buffer.read().decode()), sys.stdout)";
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/venv/bin/python3");
        let mut child = Command::new(python)
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} cannot be run ({error}): `make setup`"));
        if let Some(mut input) = child.stdin.take() {
            // Nobody listens where PyYAML is missing.
            let _ = input.write_all(write(&value).as_bytes());
        }
        let output = child.wait_with_output().expect("output");
        assert!(output.status.success(), "Python says why, above; if PyYAML is missing: `make setup`");
        let other: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for key in ["list", "map", "deep", "numbers", "none", "both", "random"] {
            assert_eq!(other.get(key), value.get(key), "{key}");
        }
    }

    #[test]
    fn long_lines_are_not_folded_and_lists_not_indented() {
        let line = "word ".repeat(60) + "end";
        let text = write(&json!({"args": ["-c", line, "a\nb\n"], "mode": 420}));
        assert_eq!(text, format!("args:\n- -c\n- {line}\n- |\n  a\n  b\nmode: 420\n"));
    }

    #[test]
    fn json_within_yaml_can_be_read() {
        let text = write(&json!({"a": "{\"b\":[\"c\\n\"]}", "d": "say \"e\"", "f": "[\"it's\"]"}));
        assert_eq!(text, "a: '{\"b\":[\"c\\n\"]}'\nd: say \"e\"\nf: \"[\\\"it's\\\"]\"\n");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            proptest::sample::select(AWKWARD.to_vec()).prop_map(str::to_owned),
            "[ -~\n\t]{0,20}",
            "\\PC{0,10}",
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            text.clone().prop_map(Value::from),
            "[{\\[\"]\\PC{0,5}\"\\PC{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((text.clone(), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(value in any_value()) {
            let value = json!({ "value": value });
            let text = write(&value);
            prop_assert_eq!(documents::parse("x.yaml", &text).map(|mut all| all.pop().map(|one| one.value)), Ok(Some(value)), "{}", text);
        }
    }
}
