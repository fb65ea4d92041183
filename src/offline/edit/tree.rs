//! A YAML document as a tree of nodes that know where they stand.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// Deeper than any manifest, and no danger to the stack.
const DEEPEST: usize = 64;

/// A value.
pub(super) struct Node {
    /// Bytes of the value itself; of a block collection only its beginning matters.
    pub(super) span: Range<usize>,
    /// Where it begins, its anchor and tag aside.
    pub(super) start: usize,
    /// Where its last part ends.
    pub(super) end: usize,
    /// The column of its keys or dashes, if it is a collection.
    pub(super) column: usize,
    /// Whether it is a collection between braces or brackets.
    pub(super) flow: bool,
    pub(super) shape: Shape,
}

/// What a value is.
pub(super) enum Shape {
    Scalar,
    /// An alias, or a text in a block of its own: nothing that is edited.
    Fixed,
    Map(Vec<Entry>),
    List(Vec<Node>),
}

/// A key and its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) start: usize,
    pub(super) value: Node,
}

type Events<'t> = Vec<(Event<'t>, Span)>;

/// The tree of a text with one document.
pub(super) fn parse(text: &str) -> Option<Node> {
    let mut events = Events::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        if !matches!(
            event,
            Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(..)
                | Event::DocumentEnd
                | Event::Comment(..)
        ) {
            events.push((event, span));
        }
    }
    let mut events = events.into_iter();
    let root = node(text, &mut events, DEEPEST)?;
    events.next().is_none().then_some(root)
}

fn node<'t>(text: &str, events: &mut impl Iterator<Item = (Event<'t>, Span)>, depth: usize) -> Option<Node> {
    let first = events.next()?;
    node_from(text, first, events, depth)
}

fn node_from<'t>(
    text: &str,
    (event, span): (Event<'t>, Span),
    events: &mut impl Iterator<Item = (Event<'t>, Span)>,
    depth: usize,
) -> Option<Node> {
    let depth = depth.checked_sub(1)?;
    let bytes = span.byte_range()?;
    let leaf = |shape| Node {
        span: bytes.clone(),
        start: bytes.start,
        end: bytes.end,
        column: 0,
        flow: false,
        shape,
    };
    match event {
        Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => {
            // The parser says that it begins behind its `|` or `>`.
            let start = text.get(..bytes.start)?.rfind(['|', '>'])?;
            Some(Node { start, ..leaf(Shape::Fixed) })
        }
        Event::Scalar(..) => Some(leaf(Shape::Scalar)),
        Event::Alias(_) => Some(leaf(Shape::Fixed)),
        Event::SequenceStart(style, ..) => {
            let mut items = Vec::new();
            let end = loop {
                match events.next()? {
                    (Event::SequenceEnd, end) => break end,
                    event => items.push(node_from(text, event, events, depth)?),
                }
            };
            let last = items.last().map_or(bytes.end, |item| item.end);
            // The parser says that the list begins behind its first dash.
            let start = match items.first() {
                Some(first) if style == StructureStyle::Block => dash_before(text, first.start)?,
                _ => bytes.start,
            };
            collection(text, start, style, &end, last, Shape::List(items))
        }
        Event::MappingStart(style, ..) => {
            let mut entries: Vec<Entry> = Vec::new();
            let end = loop {
                match events.next()? {
                    (Event::MappingEnd, end) => break end,
                    (Event::Scalar(key, ..), key_span) => {
                        let key_bytes = key_span.byte_range()?;
                        let mut value = node(text, events, depth)?;
                        if value.span.is_empty() && matches!(value.shape, Shape::Scalar) {
                            // Nothing stands behind the colon, wherever the parser says so.
                            let colon = key_bytes.end + 1;
                            value = Node { span: colon..colon, start: colon, end: colon, ..value };
                        }
                        entries.push(Entry { key: key.into_owned(), start: key_bytes.start, value });
                    }
                    _ => return None,
                }
            };
            let last = entries.last().map_or(bytes.end, |entry| entry.value.end);
            let start = match entries.first() {
                Some(first) if style == StructureStyle::Block => first.start,
                _ => bytes.start,
            };
            collection(text, start, style, &end, last, Shape::Map(entries))
        }
        _ => None,
    }
}

fn collection(
    text: &str,
    start: usize,
    style: StructureStyle,
    end: &Span,
    last: usize,
    shape: Shape,
) -> Option<Node> {
    let flow = style == StructureStyle::Flow;
    let end = if flow { end.byte_range()?.end } else { last };
    let line = text.get(..start)?.rfind('\n').map_or(0, |end| end + 1);
    Some(Node { span: start..end.max(start), start, end, column: start - line, flow, shape })
}

/// The dash that an item of a list stands behind.
pub(super) fn dash_before(text: &str, item: usize) -> Option<usize> {
    let before = text.get(..item)?.trim_end();
    before.ends_with('-').then(|| before.len() - 1)
}
