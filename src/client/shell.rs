//! Words of a shell command line, and their one rendering.
//!
//! A command is rendered for two readers, one after the other. The kubelet expands `$(NAME)` and `$$` in a
//! container's `command`; then `sh` (dash or bash) reads what is left. After both, every argument is exactly the
//! text it was made from.

use std::borrow::Cow;

use crate::identifier::{is_plain, is_plain_word};

/// A NUL byte: no argument of a process can hold one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("contains a NUL byte, which no command line can carry")]
pub struct Nul;

/// One argument of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word<'a>(Vec<Part<'a>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Arrives as it is.
    Literal(Cow<'a, str>),
    /// The value of an environment variable, put in by the shell.
    Variable(Cow<'a, str>),
    /// The value of an environment variable, put in by the kubelet before the shell runs. Only for values that
    /// hold no single quote.
    Kubelet(&'static str),
}

impl<'a> Word<'a> {
    /// A word of literal text.
    pub fn literal(text: impl Into<Cow<'a, str>>) -> Self {
        Self(vec![Part::Literal(text.into())])
    }

    /// A word that is the value of an environment variable; the name must be one a POSIX shell knows.
    pub fn variable(name: impl Into<Cow<'a, str>>) -> Self {
        Self(vec![Part::Variable(name.into())])
    }

    /// Appends literal text.
    #[must_use]
    pub fn and(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.0.push(Part::Literal(text.into()));
        self
    }

    /// Appends the value of an environment variable.
    #[must_use]
    pub fn and_variable(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.0.push(Part::Variable(name.into()));
        self
    }

    /// Appends the value of an environment variable that the kubelet fills in.
    #[must_use]
    pub fn and_kubelet(mut self, name: &'static str) -> Self {
        self.0.push(Part::Kubelet(name));
        self
    }

    /// Appends another word.
    #[must_use]
    pub fn and_word(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The word as text of a container's `command`.
    pub fn render(&self) -> Result<String, Nul> {
        let mut text = String::new();
        self.write(&mut text)?;
        Ok(text)
    }

    fn write(&self, text: &mut String) -> Result<(), Nul> {
        let start = text.len();
        self.0.iter().try_for_each(|part| part.write(text))?;
        if text.len() == start {
            text.push_str("''");
        }
        Ok(())
    }
}

impl Part<'_> {
    fn write(&self, text: &mut String) -> Result<(), Nul> {
        match self {
            Self::Literal(literal) if literal.bytes().all(is_plain) => text.push_str(literal),
            // The quotes around a text with `$` keep its escapes from meeting those of its neighbours.
            Self::Literal(literal) => text.push_str(&shield_from_kubelet(&quote(literal)?)),
            Self::Variable(name) => text.extend(["\"${", name, "}\""]),
            Self::Kubelet(name) => text.extend(["'$(", name, ")'"]),
        }
        Ok(())
    }
}

/// A command line: words joined by spaces.
pub fn line(words: &[Word<'_>]) -> Result<String, Nul> {
    let mut text = String::with_capacity(words.len() * 32);
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        word.write(&mut text)?;
    }
    Ok(text)
}

/// Quotes text as one word of a POSIX shell. Safe words stay bare.
///
/// This is all that hooks and probes need: the kubelet expands nothing in them.
pub fn quote(text: &str) -> Result<String, Nul> {
    if text.contains('\0') {
        return Err(Nul);
    }
    if is_plain_word(text) {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Doubles each `$` that the kubelet's expansion would act on, so that the text survives it unchanged.
///
/// The kubelet turns `$$` into `$` and `$(NAME)` into a value. A `$` before any other ASCII character is left
/// alone; before a character beyond ASCII it is copied with that character's first byte as if that were a
/// character of its own, which would spoil the text.
#[must_use]
pub fn shield_from_kubelet(text: &str) -> String {
    let mut shielded = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        shielded.push(character);
        let acted_on = |next: &char| matches!(next, '$' | '(') || !next.is_ascii();
        if character == '$' && characters.peek().is_some_and(acted_on) {
            shielded.push('$');
        }
    }
    shielded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_words_stay_bare_and_others_are_quoted() {
        for (text, rendered) in [
            ("abc", "abc"),
            ("http://m.example:9000/b_1-2", "http://m.example:9000/b_1-2"),
            ("a=b,c@d%e+f^g", "a=b,c@d%e+f^g"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("~root", "'~root'"),
            ("a\nb", "'a\nb'"),
            ("ünï", "'ünï'"),
            ("$HOME", "'$HOME'"),
            ("$(id)", "'$$(id)'"),
            ("a$$b", "'a$$$b'"),
            ("end$", "'end$'"),
        ] {
            assert_eq!(Word::literal(text).render().as_deref(), Ok(rendered), "{text:?}");
        }
    }

    #[test]
    fn expansions_are_quoted_on_their_own() {
        let word = Word::literal("--secret-key=").and_variable("secretkey");
        assert_eq!(word.render().as_deref(), Ok(r#"--secret-key="${secretkey}""#));
        let word = Word::literal("subdir=a$").and_kubelet("JFS_POD_UID").and("-v");
        assert_eq!(word.render().as_deref(), Ok("'subdir=a$''$(JFS_POD_UID)'-v"));
    }

    #[test]
    fn nul_is_refused_wherever_it_is() {
        assert_eq!(Word::literal("a").and("b\0c").render(), Err(Nul));
        assert_eq!(line(&[Word::literal("a"), Word::literal("\0")]), Err(Nul));
    }
}
