//! What goes from one place of a document and comes again at another, with the comments in it; and texts in a block of
//! their own.

use serde_json::{Map, Value};

use super::{
    Editor, flow, indented,
    tree::{Entry, Node},
};
use crate::offline::yaml;

/// A key and its value that are taken out of the text.
pub(super) struct Removed {
    key: String,
    value: Value,
    /// As they stand in the text, from the key to the end of the last line, with `\n` at the ends of lines.
    text: String,
    /// The column of the key.
    column: usize,
}

impl Editor<'_> {
    /// Remembers an entry that goes, if there is a comment in it.
    pub(super) fn keep_comments(&mut self, entry: &Entry, value: &Value) -> Option<()> {
        let text = self.text.get(entry.start..self.line_after(entry.value.end))?;
        if text.contains('#') && !entry.value.flow {
            let column = entry.start - self.line_of(entry.start);
            let mut text = text.replace("\r\n", "\n");
            if !text.ends_with('\n') {
                text.push('\n');
            }
            self.removed.push(Removed { key: entry.key.clone(), value: value.clone(), text, column });
        }
        Some(())
    }

    /// The lines of a map at a column.
    pub(super) fn lines_of(&self, map: &Map<String, Value>, column: usize) -> String {
        map.iter().map(|(key, value)| self.entry(key, value, column)).collect()
    }

    /// The lines of an item of a list whose dashes stand at a column.
    pub(super) fn lines_of_item(&self, item: Value, column: usize) -> String {
        match &item {
            Value::Object(map)
                if map.iter().any(|(key, value)| self.removed_before(key, value).is_some()) =>
            {
                let text = self.lines_of(map, column + 2);
                let rest = text.get(column + 2..).unwrap_or_default();
                format!("{}- {rest}", " ".repeat(column))
            }
            _ => indented(&yaml::write(&Value::Array(vec![item])), column),
        }
    }

    fn entry(&self, key: &str, value: &Value, column: usize) -> String {
        if let Some(Removed { text, column: was, .. }) = self.removed_before(key, value) {
            let moved = text.split_inclusive('\n').enumerate().map(|(number, line)| {
                let margin = line.len() - line.trim_start_matches(' ').len();
                // The first begins with its key.
                let line = if number == 0 { line } else { line.get(margin.min(*was)..).unwrap_or_default() };
                line.to_owned()
            });
            return indented(&moved.collect::<String>(), column);
        }
        indented(
            &yaml::write(&Value::Object([(key.to_owned(), value.clone())].into_iter().collect())),
            column,
        )
    }

    fn removed_before(&self, key: &str, value: &Value) -> Option<&Removed> {
        self.known.iter().find(|removed| removed.key == key && removed.value == *value)
    }

    /// Writes another text into a block of its own, in the block's margin.
    pub(super) fn block(&mut self, new: &str, node: &Node) -> Option<()> {
        let old = self.text.get(node.start..node.end)?;
        if !old.starts_with(['|', '>']) {
            return None;
        }
        let mut lines = old.lines().skip(1).filter(|line| !line.trim().is_empty());
        let margin = lines.next().map(|line| line.len() - line.trim_start_matches(' ').len())?;
        let written = yaml::write(&Value::Object([("k".to_owned(), Value::from(new))].into_iter().collect()));
        let written = match written.strip_prefix("k: |") {
            Some(block) => {
                let (header, lines) = block.split_once('\n')?;
                let bare: String =
                    lines.split_inclusive('\n').map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
                format!("|{header}\n{}", indented(&bare, margin))
            }
            None => flow::write(&Value::from(new)),
        };
        // The end of the last line stays.
        let lines = written.trim_end_matches('\n').replace('\n', self.line_end());
        self.replace(node.start..node.start + old.trim_end().len(), lines);
        Some(())
    }
}
