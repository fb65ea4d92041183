//! Changing the text of a YAML document as little as its contents change.
//!
//! The document is parsed into a tree that knows where each node stands ([`tree`]), old and new contents are compared
//! along it, and what differs becomes edits of the text. Comments, order, quotes and line ends of everything else stay.
//! The edited text is parsed again: what does not give the new contents, for an anchor or a form nobody thought of, is
//! no result, and the document is written anew as a whole.

mod flow;
mod moved;
mod tree;

use std::ops::Range;

use serde_json::{Map, Value};

use self::{
    moved::Removed,
    tree::{Entry, Node, Shape},
};
use super::documents::Document;

/// The document's text with other contents; `None` where that cannot be done.
pub(super) fn edited(document: &Document, contents: &Value) -> Option<String> {
    let text = document.text.as_str();
    let root = tree::parse(text)?;
    let mut editor = Editor::new(text, Vec::new());
    editor.node(&document.value, contents, &root)?;
    if !editor.removed.is_empty() {
        // Once more, since what goes may come again at a place that was passed before.
        editor = Editor::new(text, editor.removed);
        editor.node(&document.value, contents, &root)?;
    }
    let edited = editor.apply()?;
    let mut again = super::documents::parse(&document.place.file, &edited).ok()?;
    let same = again.len() == 1 && again.pop().is_some_and(|again| again.value == *contents);
    same.then_some(edited)
}

struct Editor<'t> {
    text: &'t str,
    /// Parts of the text and what takes their places.
    edits: Vec<(Range<usize>, String)>,
    /// What goes and has comments in it.
    removed: Vec<Removed>,
    /// The same, of the round before.
    known: Vec<Removed>,
}

impl<'t> Editor<'t> {
    fn new(text: &'t str, known: Vec<Removed>) -> Self {
        Self { text, edits: Vec::new(), removed: Vec::new(), known }
    }

    fn apply(mut self) -> Option<String> {
        // Of several at one place the first comes first.
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut result, mut at) = (String::with_capacity(self.text.len() * 2), 0);
        for (range, new) in &self.edits {
            result.push_str(self.text.get(at..range.start)?);
            if new.ends_with('\n') && !result.is_empty() && !result.ends_with('\n') {
                result.push_str(self.line_end());
            }
            result.push_str(new);
            at = range.end;
        }
        result.push_str(self.text.get(at..)?);
        // A text without a line end stays one.
        let end = self.line_end();
        match result.strip_suffix(end) {
            Some(bare) if !self.text.ends_with('\n') => Some(bare.to_owned()),
            _ => Some(result),
        }
    }

    fn replace(&mut self, range: Range<usize>, new: String) {
        self.edits.push((range, new));
    }

    /// Inserts lines at the beginning of a line, or at the end of the text.
    fn insert_lines(&mut self, at: usize, lines: &str) {
        self.replace(at..at, lines.replace('\n', self.line_end()));
    }

    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    fn node(&mut self, old: &Value, new: &Value, node: &Node) -> Option<()> {
        if old == new {
            return Some(());
        }
        match (old, new, &node.shape) {
            (Value::Object(old), Value::Object(new), Shape::Map(entries)) => {
                if node.flow {
                    self.flow_map(old, new, entries, node)
                } else {
                    self.map(old, new, entries, node)
                }
            }
            (Value::Array(old), Value::Array(new), Shape::List(items)) if !node.flow => {
                self.list(old, new, items, node)
            }
            (Value::Array(old), Value::Array(new), Shape::List(items)) if old.len() == new.len() => {
                old.iter().zip(new).zip(items).try_for_each(|((old, new), item)| self.node(old, new, item))
            }
            (_, new, Shape::Map(_) | Shape::List(_)) if node.flow => {
                self.replace(node.span.clone(), flow::write(new));
                Some(())
            }
            (_, new, Shape::Scalar) if !node.span.is_empty() => {
                self.replace(node.span.clone(), flow::write(new));
                Some(())
            }
            (_, Value::String(new), Shape::Fixed) => self.block(new, node),
            // An empty value: behind its key's colon.
            (_, new, Shape::Scalar) => {
                self.replace(node.span.clone(), format!(" {}", flow::write(new)));
                Some(())
            }
            _ => None,
        }
    }

    fn map(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        entries: &[Entry],
        node: &Node,
    ) -> Option<()> {
        let gone = |entry: &&Entry| old.contains_key(&entry.key) && !new.contains_key(&entry.key);
        if entries.iter().filter(gone).count() == entries.len() {
            return None;
        }
        for (index, entry) in entries.iter().enumerate() {
            // What a merge key brings along is looked at below.
            if !old.contains_key(&entry.key) {
                continue;
            }
            if gone(&entry) {
                self.remove_entry(entry, old.get(&entry.key)?, entries.get(index + 1))?;
            } else {
                self.node(old.get(&entry.key)?, new.get(&entry.key)?, &entry.value)?;
            }
        }
        // What is neither added nor in the text came by a merge key, and has to be as it was.
        let is_written = |key: &String| entries.iter().any(|entry| entry.key == *key);
        if old.iter().any(|(key, value)| !is_written(key) && new.get(key) != Some(value)) {
            return None;
        }
        let added: Map<String, Value> = new
            .iter()
            .filter(|(key, _)| !old.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !added.is_empty() {
            let at = self.line_after(entries.last()?.value.end);
            self.insert_lines(at, &self.lines_of(&added, node.column));
        }
        Some(())
    }

    fn remove_entry(&mut self, entry: &Entry, value: &Value, next: Option<&Entry>) -> Option<()> {
        self.keep_comments(entry, value)?;
        let line = self.line_of(entry.start);
        let is_first_of_line = self.text.get(line..entry.start)?.trim().is_empty();
        let after = self.line_after(entry.value.end);
        match next {
            _ if is_first_of_line => self.replace(line..after, String::new()),
            // Behind the dash of a list: the next key takes its place, or the comments above that.
            Some(next) => {
                let comments = self.text.get(after..next.start).and_then(|between| between.find('#'));
                self.replace(entry.start..comments.map_or(next.start, |at| after + at), String::new());
            }
            None => return None,
        }
        Some(())
    }

    fn flow_map(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        entries: &[Entry],
        node: &Node,
    ) -> Option<()> {
        let kept = |entry: &Entry| new.contains_key(&entry.key);
        let is_written = |key: &String| entries.iter().any(|entry| entry.key == *key);
        if !old.keys().all(is_written) || (!entries.is_empty() && !entries.iter().any(kept)) {
            self.replace(node.span.clone(), flow::write(&Value::Object(new.clone())));
            return Some(());
        }
        // Whether an entry before this one stays, with a comma to go with those that do not.
        let mut follows = None;
        for (index, entry) in entries.iter().enumerate() {
            if kept(entry) {
                self.node(old.get(&entry.key)?, new.get(&entry.key)?, &entry.value)?;
                follows = Some(entry.value.end);
            } else if follows.is_some() {
                let before = entries.get(index.checked_sub(1)?)?.value.end;
                self.replace(before..entry.value.end, String::new());
            } else {
                self.replace(entry.start..entries.get(index + 1)?.start, String::new());
            }
        }
        let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
        let added: Vec<_> = added.map(|(key, value)| flow::entry(key, value)).collect();
        if !added.is_empty() {
            let at = entries.last().map_or(node.span.start + 1, |entry| entry.value.end);
            let comma = if entries.is_empty() { "" } else { ", " };
            self.replace(at..at, format!("{comma}{}", added.join(", ")));
        }
        Some(())
    }

    fn list(&mut self, old: &[Value], new: &[Value], items: &[Node], node: &Node) -> Option<()> {
        if old.len() != items.len() || old.is_empty() {
            return None;
        }
        let mut kept = 0;
        let mut next = 0;
        let mut added = Vec::new();
        for element in new {
            let rest = old.get(next..)?;
            let alike = rest.iter().position(|candidate| candidate == element);
            let alike = alike.or_else(|| rest.iter().position(|candidate| is_same_thing(candidate, element)));
            // A thing without a name is known by its place, as long as nothing came or went.
            let alike = alike.or_else(|| (old.len() == new.len() && added.is_empty()).then_some(0));
            let Some(offset) = alike else {
                added.push(element.clone());
                continue;
            };
            for skipped in next..next + offset {
                self.remove_item(items, skipped, old.get(skipped)?)?;
            }
            let place = next + offset;
            if !added.is_empty() {
                self.insert_items(&mut added, self.line_above(items.get(place)?)?, node);
            }
            self.node(old.get(place)?, element, items.get(place)?)?;
            kept += 1;
            next = place + 1;
        }
        for skipped in next..items.len() {
            self.remove_item(items, skipped, old.get(skipped)?)?;
        }
        self.insert_items(&mut added, self.line_after(items.last()?.end), node);
        (kept > 0).then_some(())
    }

    fn insert_items(&mut self, added: &mut Vec<Value>, at: usize, node: &Node) {
        if !added.is_empty() {
            let items = std::mem::take(added);
            let text: String = items.into_iter().map(|item| self.lines_of_item(item, node.column)).collect();
            self.insert_lines(at, &text);
        }
    }

    fn remove_item(&mut self, items: &[Node], index: usize, value: &Value) -> Option<()> {
        let item = items.get(index)?;
        if let Shape::Map(entries) = &item.shape
            && !item.flow
        {
            for entry in entries {
                self.keep_comments(entry, &value[&entry.key])?;
            }
        }
        let dash = tree::dash_before(self.text, item.start)?;
        // A list right behind the dash of another one.
        if self.text.get(self.line_of(dash)..dash)?.contains('-') {
            return None;
        }
        self.replace(self.line_of(dash)..self.line_after(item.end), String::new());
        Some(())
    }

    /// The beginning of the line of an item, or of the comments right above it.
    fn line_above(&self, item: &Node) -> Option<usize> {
        let dash = tree::dash_before(self.text, item.start)?;
        let mut line = self.line_of(dash);
        if !self.text.get(line..dash)?.trim().is_empty() {
            return None;
        }
        while let Some(above) = line.checked_sub(1).map(|end| self.line_of(end)) {
            let comment = self.text.get(above..line)?;
            if !comment.trim_start().starts_with('#') {
                break;
            }
            line = above;
        }
        Some(line)
    }

    fn line_of(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
    }

    /// The beginning of the line after the one that a node ends on.
    fn line_after(&self, end: usize) -> usize {
        if end > 0 && self.text.as_bytes().get(end - 1) == Some(&b'\n') {
            return end;
        }
        let rest = self.text.get(end..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |length| end + length + 1)
    }
}

/// Whether two elements of a list are the same thing, changed: they have one name, or one path.
fn is_same_thing(one: &Value, other: &Value) -> bool {
    let alike = |key: &str| one.get(key).is_some_and(|name| name.is_string() && other.get(key) == Some(name));
    if one.get("mountPath").is_some() || other.get("mountPath").is_some() {
        alike("mountPath")
    } else {
        alike("name") || alike("kind")
    }
}

fn indented(text: &str, column: usize) -> String {
    let margin = " ".repeat(column);
    text.split_inclusive('\n')
        .map(|line| if line.trim_end().is_empty() { line.to_owned() } else { format!("{margin}{line}") })
        .collect()
}

#[cfg(test)]
mod tests;
