//! A directory of a file system, strictly below its root.

use std::fmt;

use serde::{Deserialize, Serialize};

/// As long as the kernel takes paths and names.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// What JuiceFS itself has in the root; all of it begins so.
const RESERVED: [&str; 7] = [".trash", ".accesslog", ".config", ".control", ".stats", ".jfs.", ".oplog"];

/// A path without a slash at either end, with no empty name, no `.` and no `..` in it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubPath(String);

/// Why a text is no [`SubPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSubPath(&'static str);

impl fmt::Display for NotSubPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not a clean path below the root of a file system: it {}", self.0)
    }
}

impl std::error::Error for NotSubPath {}

impl TryFrom<String> for SubPath {
    type Error = NotSubPath;

    fn try_from(path: String) -> Result<Self, NotSubPath> {
        match mistake(&path) {
            Some(mistake) => Err(NotSubPath(mistake)),
            None => Ok(Self(path)),
        }
    }
}

impl From<SubPath> for String {
    fn from(path: SubPath) -> Self {
        path.0
    }
}

impl SubPath {
    /// The path, without a slash at its beginning.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path from the root of its file system.
    pub fn from_root(&self) -> String {
        format!("/{}", self.0)
    }

    /// The directory that it is in, unless that is the root.
    pub fn above(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(above, _)| Self(above.to_owned()))
    }

    /// The directory that it is in, from the root, and its name there.
    pub fn split(&self) -> (String, &str) {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => (format!("/{parent}"), name),
            None => ("/".to_owned(), &self.0),
        }
    }
}

fn mistake(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > LONGEST_PATH {
        return Some("is too long");
    }
    if path.starts_with('/') || path.ends_with('/') {
        return Some("begins or ends with a slash");
    }
    if path.chars().any(char::is_control) {
        return Some("has a control character in it");
    }
    if RESERVED.iter().any(|reserved| path.starts_with(reserved)) {
        return Some("is one of JuiceFS's own");
    }
    path.split('/').find_map(|name| match name {
        "" => Some("has an empty name in it"),
        "." | ".." => Some("has a `.` or `..` in it"),
        name if name.len() > LONGEST_NAME => Some("has a name in it that is too long"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_nowhere_but_down() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(2048);
        for path in [
            "",
            "/",
            "//",
            ".",
            "..",
            "./a",
            "../a",
            "a/.",
            "a/..",
            "a/../b",
            "a/./b",
            "/a",
            "a/",
            "a//b",
            "a\0b",
            "a\nb",
            ".trash",
            ".trash/2026-11-25-14",
            ".config",
            ".stats",
            &long,
            &deep,
        ] {
            assert!(SubPath::try_from(path.to_owned()).is_err(), "{path:?}");
        }
        for path in ["a", "a/b", "pv-1", "...", "..a", "a..", "a b", "%2e%2e", "é", "a/.trash", "-a", "~"] {
            assert_eq!(SubPath::try_from(path.to_owned()).unwrap().as_str(), path);
        }
    }

    #[test]
    fn a_path_is_its_parent_and_its_name() {
        let split = |path: &str| {
            let path = SubPath::try_from(path.to_owned()).unwrap();
            let (parent, name) = path.split();
            (parent, name.to_owned())
        };
        assert_eq!(split("a"), ("/".into(), "a".into()));
        assert_eq!(split("a/b/c"), ("/a/b".into(), "c".into()));
        let above = |path: &str| SubPath::try_from(path.to_owned()).unwrap().above().map(String::from);
        assert_eq!((above("a"), above("a/b/c")), (None, Some("a/b".into())));
    }
}
