//! Metadata engines that do not answer: a client tries for half a minute, and as many as wait for a silent one are
//! missing where others could be served. So after a failure one attempt at a time is made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::volume::objects::SecretReference;

/// How long nobody asks after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the next attempt is waited for.
const ATTEMPT: Duration = Duration::from_mins(1);
/// How long a failure is remembered when nobody asks any more. Also bounds how many are.
const REMEMBERED: Duration = Duration::from_mins(10);

type Key = (Arc<str>, Arc<str>);

/// Until when nobody asks, by secret.
#[derive(Debug, Default)]
pub struct Silent(Mutex<HashMap<Key, Instant>>);

fn key(secret: &SecretReference) -> Key {
    (Arc::clone(&secret.namespace), Arc::clone(&secret.name))
}

impl Silent {
    /// Whether one may ask; after a failure that is then the attempt that others wait for.
    pub fn may_ask(&self, secret: &SecretReference, now: Instant) -> bool {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, until| now.saturating_duration_since(*until) < REMEMBERED);
        match silent.get_mut(&key(secret)) {
            Some(until) if now < *until => false,
            Some(until) => {
                *until = now + ATTEMPT;
                true
            }
            None => true,
        }
    }

    /// It did not answer.
    pub fn failed(&self, secret: &SecretReference, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key(secret), now + PAUSE);
    }

    /// It answered.
    pub fn answered(&self, secret: &SecretReference) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(secret));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_attempt_at_a_time_is_made() {
        let (silent, start) = (Silent::default(), Instant::now());
        let secret = |name: &str| SecretReference { namespace: "n".into(), name: name.into() };
        assert!(silent.may_ask(&secret("a"), start) && silent.may_ask(&secret("a"), start));
        silent.failed(&secret("a"), start);
        assert!(!silent.may_ask(&secret("a"), start) && silent.may_ask(&secret("b"), start));
        let later = start + PAUSE;
        assert!(silent.may_ask(&secret("a"), later));
        assert!(!silent.may_ask(&secret("a"), later), "one is asking");
        silent.answered(&secret("a"));
        assert!(silent.may_ask(&secret("a"), later) && silent.may_ask(&secret("a"), later));
        silent.failed(&secret("a"), later);
        let much_later = later + PAUSE + REMEMBERED;
        assert!(silent.may_ask(&secret("a"), much_later) && silent.may_ask(&secret("a"), much_later));
    }
}
