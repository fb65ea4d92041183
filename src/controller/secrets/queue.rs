//! What is to be looked at: changes before what is only looked at again. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, VecDeque};

/// Why something is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It changed: somebody may wait for it.
    Changed,
    /// It is time to look again.
    Again,
}

/// Each waits once; what waits to be looked at again and changes then is moved up.
#[derive(Debug)]
pub struct Queue<T> {
    changed: VecDeque<T>,
    /// With what has been moved up since, or looked at.
    again: VecDeque<T>,
    waiting: BTreeMap<T, Why>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { changed: VecDeque::new(), again: VecDeque::new(), waiting: BTreeMap::new() }
    }
}

impl<T: Clone + Ord> Queue<T> {
    /// Puts it behind those that wait for the same reason.
    pub fn push(&mut self, one: T, why: Why) {
        let waiting = self.waiting.get(&one);
        if waiting == Some(&Why::Changed) || waiting == Some(&why) {
            return;
        }
        self.waiting.insert(one.clone(), why);
        match why {
            Why::Changed => self.changed.push_back(one),
            Why::Again => self.again.push_back(one),
        }
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<T> {
        if let Some(one) = self.changed.pop_front() {
            self.waiting.remove(&one);
            return Some(one);
        }
        loop {
            let one = self.again.pop_front()?;
            if self.waiting.remove(&one).is_some() {
                return Some(one);
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_first_and_nothing_comes_twice() {
        let mut queue = Queue::default();
        for one in ["a", "b", "c", "a"] {
            queue.push(one, Why::Again);
        }
        for one in ["d", "b", "d"] {
            queue.push(one, Why::Changed);
        }
        queue.push("b", Why::Again);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["d", "b", "a", "c"]);
        assert!(queue.is_empty());
        queue.push("a", Why::Again);
        assert!(!queue.is_empty());
        assert_eq!((queue.pop(), queue.pop()), (Some("a"), None));
    }
}
