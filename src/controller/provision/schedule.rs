//! When each thing is to be done: what is oldest first, and what failed after longer and longer pauses. Knows no clock.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::candidates::Item;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The longest one after a failure that is most likely none at the next attempt.
const LONGEST_PASSING_PAUSE: Duration = Duration::from_secs(15);
/// After this time something that was done and is still to be done is looked at again: news of it may be late.
const DONE_FOR: Duration = Duration::from_mins(1);

/// Everything there is to do.
#[derive(Debug, Default)]
pub struct Schedule {
    items: BTreeMap<Item, Entry>,
}

#[derive(Debug)]
struct Entry {
    created: Arc<str>,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be done from this moment on.
    Due(Instant),
    /// Being done.
    Running,
    /// Being done, and not asked for any more.
    Leaving,
}

impl Schedule {
    /// Takes over what there is to do now.
    pub fn update(&mut self, candidates: Vec<(Item, Arc<str>)>, now: Instant) {
        let mut before = std::mem::take(&mut self.items);
        for (item, created) in candidates {
            let mut entry =
                before.remove(&item).unwrap_or(Entry { created, state: State::Due(now), failures: 0 });
            if entry.state == State::Leaving {
                entry.state = State::Running;
            }
            self.items.insert(item, entry);
        }
        for (item, entry) in before {
            if !matches!(entry.state, State::Due(_)) {
                self.items.insert(item, Entry { state: State::Leaving, ..entry });
            }
        }
    }

    /// The oldest of what is due, which is being done from now on.
    pub fn next(&mut self, now: Instant, wanted: impl Fn(&Item) -> bool) -> Option<Item> {
        let due = self
            .items
            .iter_mut()
            .filter(|(item, entry)| matches!(entry.state, State::Due(at) if at <= now) && wanted(item));
        let (item, entry) = due.min_by(|(_, one), (_, other)| {
            (one.failures, &one.created).cmp(&(other.failures, &other.created))
        })?;
        entry.state = State::Running;
        Some(item.clone())
    }

    /// It is done.
    pub fn done(&mut self, item: &Item, now: Instant) {
        self.ended(item, now + DONE_FOR, false);
    }

    /// It is not, and is to be tried again; sooner if what went wrong is `passing`.
    pub fn failed(&mut self, item: &Item, now: Instant, passing: bool) {
        let failures = self.items.get(item).map_or(0, |entry| entry.failures);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(if passing {
            LONGEST_PASSING_PAUSE
        } else {
            LONGEST_PAUSE
        });
        self.ended(item, now + pause, true);
    }

    fn ended(&mut self, item: &Item, again: Instant, failed: bool) {
        let Some(entry) = self.items.get_mut(item) else { return };
        if entry.state == State::Leaving {
            self.items.remove(item);
            return;
        }
        entry.state = State::Due(again);
        entry.failures = if failed { entry.failures.saturating_add(1) } else { 0 };
    }

    /// When the next one is due.
    pub fn wake(&self, wanted: impl Fn(&Item) -> bool) -> Option<Instant> {
        let due = self.items.iter().filter(|(item, _)| wanted(item));
        due.filter_map(|(_, entry)| if let State::Due(at) = entry.state { Some(at) } else { None }).min()
    }

    /// How many are being done.
    pub fn running(&self, wanted: impl Fn(&Item) -> bool) -> usize {
        let running = |(item, entry): &(&Item, &Entry)| !matches!(entry.state, State::Due(_)) && wanted(item);
        self.items.iter().filter(running).count()
    }

    /// How many failed the last time.
    pub fn failing(&self, wanted: impl Fn(&Item) -> bool) -> usize {
        self.items.iter().filter(|(item, entry)| entry.failures > 0 && wanted(item)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Item {
        Item::Delete(name.into())
    }

    fn all(_: &Item) -> bool {
        true
    }

    fn candidates(names: &[(&str, &str)]) -> Vec<(Item, Arc<str>)> {
        names.iter().map(|(name, created)| (item(name), Arc::from(*created))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_comes_first_and_what_failed_comes_later() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.update(candidates(&[("a", "3"), ("b", "1"), ("c", "2")]), start);
        assert_eq!(schedule.next(start, all), Some(item("b")));
        schedule.failed(&item("b"), start, false);
        assert_eq!(schedule.wake(|one| *one == item("b")), Some(start + FIRST_PAUSE));
        let later = start + FIRST_PAUSE;
        assert_eq!(schedule.next(later, all), Some(item("c")));
        assert_eq!(schedule.next(later, all), Some(item("a")));
        assert_eq!(schedule.next(later, all), Some(item("b")));
        assert_eq!((schedule.next(later, all), schedule.failing(all)), (None, 1));
        schedule.failed(&item("b"), later, false);
        assert_eq!(schedule.wake(|one| *one == item("b")), Some(later + 2 * FIRST_PAUSE));
        for _ in 0..20 {
            schedule.failed(&item("b"), later, false);
        }
        assert_eq!(schedule.wake(|one| *one == item("b")), Some(later + LONGEST_PAUSE));
        schedule.failed(&item("b"), later, true);
        assert_eq!(schedule.wake(|one| *one == item("b")), Some(later + LONGEST_PASSING_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_is_not_done_again_soon() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.update(candidates(&[("a", ""), ("b", "")]), start);
        assert_eq!(schedule.next(start, all), Some(item("a")));
        schedule.done(&item("a"), start);
        schedule.update(candidates(&[("a", "")]), start);
        assert_eq!(schedule.next(start, all), None, "b is gone, and a is done");
        assert_eq!(schedule.next(start + DONE_FOR, all), Some(item("a")));
        // While it is done it stops being asked for, and is asked for again.
        schedule.update(Vec::new(), start);
        schedule.update(candidates(&[("a", "")]), start);
        assert_eq!(schedule.next(start + 2 * DONE_FOR, all), None, "it is never done twice at the same time");
        schedule.update(Vec::new(), start);
        schedule.failed(&item("a"), start, false);
        assert_eq!(schedule.wake(all), None);
    }
}
