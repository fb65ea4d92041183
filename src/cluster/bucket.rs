//! A rate with bursts.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens that come back at a steady rate.
#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    /// As many tokens as a burst has.
    pub fn full(per_second: f64, burst: u32) -> Self {
        Self { tokens: burst.into(), burst: burst.into(), per_second, at: Instant::now() }
    }

    /// Takes a token, ahead of its time if need be, and says how long to wait for it.
    pub fn take(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }

    /// Takes a token if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = self.per_second.mul_add(passed, self.tokens).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_waits_its_turn() {
        let mut bucket = Bucket::full(10.0, 2);
        let now = Instant::now();
        let waits: Vec<_> = (0..4).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200]);
        // Two were taken ahead; after a second there are as many as a burst again, no more.
        let later = now + Duration::from_secs(1);
        let waits: Vec<_> = (0..3).map(|_| bucket.take(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_gets_nothing_once_it_is_empty() {
        let mut bucket = Bucket::full(0.5, 1);
        let now = Instant::now();
        assert!(bucket.try_take(now));
        assert!(!bucket.try_take(now + Duration::from_secs(1)));
        assert!(bucket.try_take(now + Duration::from_secs(2)));
    }
}
