//! The line of a field.
//!
//! Documents are checked as values, which know no positions. When something is wrong with a field, the text is
//! parsed once more up to that field, and the parser is made to complain there: its complaint has the line.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use serde_saphyr::Spanned;

use super::documents::{self, Document, Format};

/// The line where the value a JSON pointer names begins, or that of the nearest parent that is there; counted from
/// 1, in the file.
pub(super) fn line(document: &Document, pointer: &str) -> usize {
    let path: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    for length in (1..=path.len()).rev() {
        let step = Step(path.get(..length).unwrap_or_default());
        let line = match document.format {
            Format::Yaml => serde_saphyr::with_deserializer_from_str_with_options(
                &document.text,
                documents::options(),
                |parser| step.deserialize(parser),
            )
            .err()
            .and_then(|error| error.location())
            .map(|location| location.line()),
            Format::Json => json_line(&document.text, step),
        };
        if let Some(line) = line {
            return documents::line_in(&document.place, line);
        }
    }
    document.place.line
}

fn json_line(text: &str, step: Step<'_>) -> Option<u64> {
    let body = documents::contents(text);
    let before = text.strip_suffix(body)?;
    let error = step.deserialize(&mut serde_json::Deserializer::from_str(body)).err()?;
    let above = before.matches('\n').count();
    (error.line() > 0).then(|| u64::try_from(error.line() + above).ok()).flatten()
}

/// The lines where the items of a `List` begin; none if the document is not a list.
pub(super) fn item_lines(document: &Document) -> Vec<usize> {
    let lines = match document.format {
        Format::Yaml => yaml_item_lines(&document.text),
        Format::Json => json_item_lines(&document.text),
    };
    lines.into_iter().flatten().map(|line| documents::line_in(&document.place, line)).collect()
}

fn yaml_item_lines(text: &str) -> Option<Vec<u64>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Spanned<IgnoredAny>>,
    }
    let list: List = serde_saphyr::from_str_with_options(text, documents::options()).ok()?;
    Some(list.items.iter().map(|item| item.referenced.line()).collect())
}

fn json_item_lines(text: &str) -> Option<Vec<u64>> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    let list: List<'_> = serde_json::from_str(documents::contents(text)).ok()?;
    let (mut line, mut seen) = (1, 0);
    let lines = list.items.iter().map(|item| {
        // The items are slices of the text.
        let begin = item.get().as_ptr().addr().saturating_sub(text.as_ptr().addr());
        line += text.get(seen..begin).unwrap_or_default().matches('\n').count();
        seen = begin;
        u64::try_from(line).unwrap_or(1)
    });
    Some(lines.collect())
}

/// Goes down the path; succeeds if it leads nowhere, fails where it ends.
#[derive(Clone, Copy)]
struct Step<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((wanted, rest)) if *wanted == key => map.next_value_seed(Element(rest))?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let (wanted, rest) = match self.0.split_first() {
            Some((wanted, rest)) => (wanted.parse::<usize>().ok(), rest),
            None => (None, self.0),
        };
        for index in 0.. {
            let more = if Some(index) == wanted {
                sequence.next_element_seed(Element(rest))?
            } else {
                sequence.next_element::<IgnoredAny>()?.map(drop)
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A value below: the path may end at it.
struct Element<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            // An error made before anything is read would carry the position of what came before.
            deserializer.deserialize_any(Here)
        } else {
            Step(self.0).deserialize(deserializer)
        }
    }
}

/// Complains about whatever it is given.
struct Here;

impl<'de> Visitor<'de> for Here {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(text: &str, pointer: &str) -> usize {
        line(&documents::parse("x", text).expect("readable").pop().expect("a document"), pointer)
    }

    #[test]
    fn fields_of_yaml_are_found() {
        let text = "# a\n---\nx: 1\n---\n# b\nkind: Pod\nspec:\n  containers:\n  - name: a\n    image: b\n  - name: 7\n    ports: [{x: 1}]\n";
        for (pointer, expected) in [
            ("/kind", 6),
            ("/spec/containers", 9),
            ("/spec/containers/0", 9),
            ("/spec/containers/0/image", 10),
            ("/spec/containers/1/name", 11),
            ("/spec/containers/1/ports/0/x", 12),
            ("/spec/containers/1/missing/deep", 11),
            ("/metadata/name", 6),
            ("/spec", 8),
        ] {
            assert_eq!(line_of(text, pointer), expected, "{pointer}");
        }
    }

    #[test]
    fn items_of_lists_are_found_all_at_once() {
        let yaml =
            "---\n# a\nkind: List\nitems:\n- a: 1\n  b: 2\n-\n  a: 1\n- {c: [1,\n  2]}\n- *x\nx: &x 1\n";
        let yaml = yaml.replace("- *x\nx: &x 1\n", "- d: 1\n");
        let json = "# a\n---\n{\"kind\": \"List\",\n\"metadata\": {},\n\"items\": [{}, {\n\"a\": 1},\n{}]}\n";
        for (text, expected) in [(&*yaml, &[5, 8, 9, 11][..]), (json, &[5, 5, 7]), ("kind: List\n", &[])] {
            let document = documents::parse("x", text).expect("readable").pop().expect("a document");
            assert_eq!(item_lines(&document), expected, "{text}");
        }
    }

    #[test]
    fn fields_of_json_are_found() {
        let text =
            "\n---\n{\n \"kind\": \"Pod\",\n \"spec\": {\n  \"a/b\": [\n   1,\n   {\"x\": 2}\n  ]\n }\n}\n";
        for (pointer, expected) in [("/kind", 4), ("/spec/a~1b/1/x", 8), ("/spec/a~1b/0", 7)] {
            assert_eq!(line_of(text, pointer), expected, "{pointer}");
        }
    }
}
