//! Access modes.

use serde::{Deserialize, Deserializer};

use crate::pod::{Text, bounded};

/// Which access modes a claim asks for, or a volume has; in no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessModes(u8);

/// All there are.
const NAMES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
const READ_ONLY_MANY: &str = NAMES[1];

impl AccessModes {
    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(place, _)| self.0 & 1 << place != 0).map(|(_, name)| name)
    }

    /// Whether `ReadOnlyMany` is among them.
    pub fn allow_many_readers(self) -> bool {
        self.names().any(|name| name == READ_ONLY_MANY)
    }

    /// Whether they allow nothing but reading: `ReadOnlyMany` alone does.
    pub fn only_read(self) -> bool {
        self.names().eq([READ_ONLY_MANY])
    }
}

impl<'de> Deserialize<'de> for AccessModes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let modes: Vec<Text<'de>> = bounded::list_or_empty::<64, _, _>(deserializer)?;
        let is_named = |name: &str| modes.iter().any(|mode| **mode == *name);
        let bits =
            NAMES.into_iter().enumerate().filter(|(_, name)| is_named(name)).map(|(place, _)| 1 << place);
        Ok(Self(bits.fold(0, |all, bit| all | bit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_access_mode_alone_can_forbid_writing() {
        let modes = |text: &str| serde_json::from_str::<AccessModes>(text).unwrap();
        assert!(modes("[\"ReadOnlyMany\"]").only_read());
        for text in ["null", "[]", "[\"ReadWriteMany\"]", "[\"ReadOnlyMany\", \"ReadWriteMany\"]"] {
            assert!(!modes(text).only_read(), "{text}");
        }
        let both = modes("[\"ReadWriteMany\", \"ReadOnlyMany\", \"Other\"]");
        assert!(both.allow_many_readers() && both.names().eq(["ReadOnlyMany", "ReadWriteMany"]));
    }
}
