//! Versions of Kubernetes and its parts.

use std::{fmt, str::FromStr};

/// A release of Kubernetes: what decides which features there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 1, for many years now.
    pub major: u32,
    /// Counts the releases.
    pub minor: u32,
}

/// Why a text is not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give major and minor version, for example 1.29")]
pub struct NotAVersion;

impl Version {
    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    /// Reads `v1.36.2`, `1.29`, `v1.28.3-eks-1234`, `v1.30+`.
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let text = text.trim();
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let (Some(major), Some(minor)) = (parts.next(), parts.next()) else { return Err(NotAVersion) };
        let digits = minor.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(minor.len());
        let number = |digits: &str| digits.parse().map_err(|_| NotAVersion);
        Ok(Self { major: number(major)?, minor: number(minor.get(..digits).unwrap_or_default())? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_clusters_print_them() {
        for text in ["1.29", "v1.29.3", "1.29+", "v1.29.3-gke.100", "v1.29-alpha", " 1.29 "] {
            assert_eq!(text.parse(), Ok(Version::new(1, 29)), "{text}");
        }
        for text in ["", "1", "v", "one.two", "1.", "1.x"] {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion), "{text}");
        }
    }

    #[test]
    fn later_releases_are_greater() {
        assert!(Version::new(1, 9) < Version::new(1, 29) && Version::new(1, 99) < Version::new(2, 0));
    }
}
