//! Values between braces and brackets, on one line.

use serde_json::Value;

use crate::identifier::is_plain_word;

/// A value as flow style has it: JSON, but for keys that need no quotes.
pub(super) fn write(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| entry(key, value)).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(write).collect();
            format!("[{}]", items.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// A key and its value.
pub(super) fn entry(key: &str, value: &Value) -> String {
    let is_word = is_plain_word(key) && key.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_taken = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(key));
    let key = if is_word && !is_taken && !key.contains([':', ',', '%', '@']) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    };
    format!("{key}: {}", write(value))
}
