//! Texts that are kept once, however many objects have them.

use std::{collections::HashSet, sync::Arc};

/// Below this many texts it is not worth looking for those that nobody needs any more.
const FEW: usize = 1024;

/// Every text of a catalogue, once.
///
/// A volume repeats its claim's name, namespace and UID, a claim its volume's name, and all of them the names of
/// drivers, classes, labels and secrets.
#[derive(Debug, Default)]
pub struct Strings {
    known: HashSet<Arc<str>>,
    /// How many there were left when the forgotten ones were last dropped.
    needed: usize,
}

impl Strings {
    /// The text, as it is known already if it is.
    pub(super) fn share(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= FEW.max(2 * self.needed) {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.needed = self.known.len();
        }
        self.known.insert(Arc::clone(text));
        Arc::clone(text)
    }

    /// How many texts are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_become_the_same_one_and_forgotten_ones_go() {
        let mut strings = Strings::default();
        let kept = strings.share(&"kept".into());
        assert!(Arc::ptr_eq(&kept, &strings.share(&"kept".into())));
        for number in 0..10 * FEW {
            strings.share(&format!("text {number}").into());
        }
        assert!(strings.len() <= FEW, "{}", strings.len());
        assert!(Arc::ptr_eq(&kept, &strings.share(&"kept".into())));
    }
}
