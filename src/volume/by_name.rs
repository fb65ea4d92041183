//! Values found by name.

/// Values by name, the first of each: sorted, because thousands of mounts may ask about a thousand volumes.
#[derive(Debug)]
pub(crate) struct ByName<'a, T>(Vec<(&'a str, T)>);

impl<T> ByName<'_, T> {
    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        let at = self.0.partition_point(|(before, _)| *before < name);
        self.0.get(at).filter(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

impl<'a, T> FromIterator<(&'a str, T)> for ByName<'a, T> {
    fn from_iter<I: IntoIterator<Item = (&'a str, T)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        // Stable: of entries with the same name the first stays the first.
        entries.sort_by_key(|(name, _)| *name);
        Self(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_is_found() {
        let names: ByName<'_, _> = [("b", 1), ("a", 2), ("b", 3), ("", 4)].into_iter().collect();
        let found = ["a", "b", "", "c"].map(|name| names.get(name).copied());
        assert_eq!(found, [Some(2), Some(1), Some(4), None]);
    }
}
