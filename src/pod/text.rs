//! Text of a request.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, de};

/// Bytes of the longest text that is read: of annotations an object has so much in all, and nothing else of ours is as
/// long.
const LONGEST: usize = 256 << 10;

/// Text borrowed from the request where it has no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'a> Text<'a> {
    /// Takes text of the request itself.
    pub(super) fn read_borrowed<E: de::Error>(text: &'a str) -> Result<Self, E> {
        Ok(Self(Cow::Borrowed(not_too_long(text)?)))
    }

    /// Takes text that was changed while it was read.
    pub(super) fn read<E: de::Error>(text: &str) -> Result<Self, E> {
        Ok(Self(Cow::Owned(not_too_long(text)?.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Text::read_borrowed(text)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Text::read(text)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

/// Checked before anything is copied.
fn not_too_long<E: de::Error>(text: &str) -> Result<&str, E> {
    if text.len() > LONGEST {
        return Err(E::custom(format_args!("is longer than {} KiB", LONGEST >> 10)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_longer_than_any_are_refused() {
        let read = |text: String| serde_json::from_str::<Text<'_>>(&text).map(|text| text.len()).ok();
        for letter in ["a", "\\n"] {
            assert_eq!(read(format!("\"{}\"", letter.repeat(LONGEST))), Some(LONGEST));
            assert_eq!(read(format!("\"{}\"", letter.repeat(LONGEST + 1))), None);
        }
    }
}
