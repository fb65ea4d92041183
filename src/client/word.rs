//! Words of a command, before anybody has decided how it is run.

use std::borrow::Cow;

/// A NUL byte: no argument of a process can hold one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("contains a NUL byte, which no command line can carry")]
pub struct Nul;

/// One argument of a command: its parts, joined without anything between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word<'a>(Vec<Part<'a>>);

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Arrives as it is.
    Literal(Cow<'a, str>),
    /// The value of an environment variable, which may be any text; the variable's name is one a POSIX shell knows.
    Variable(Cow<'a, str>),
    /// The pod's UID, by the environment variable [`POD_UID`](super::POD_UID): nothing but letters, digits and dashes.
    PodUid,
}

impl<'a> Word<'a> {
    /// A word of literal text.
    pub fn literal(text: impl Into<Cow<'a, str>>) -> Self {
        Self(vec![Part::Literal(text.into())])
    }

    /// A word that is the value of an environment variable.
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

    /// Appends the pod's UID.
    #[must_use]
    pub fn and_pod_uid(mut self) -> Self {
        self.0.push(Part::PodUid);
        self
    }

    /// Appends another word.
    #[must_use]
    pub fn and_word(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What the word consists of, in order.
    pub fn parts(&self) -> &[Part<'a>] {
        &self.0
    }
}
