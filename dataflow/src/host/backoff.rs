//! When something that failed is tried again.

use std::{ops::RangeInclusive, time::Duration};

/// Waits that double from the first to the longest, until something succeeds.
#[derive(Debug)]
pub(super) struct Backoff {
    waits: RangeInclusive<Duration>,
    next: Duration,
    until: Option<Duration>,
}

impl Backoff {
    pub(super) fn new(waits: RangeInclusive<Duration>) -> Self {
        Self { next: *waits.start(), waits, until: None }
    }

    /// It failed: says when it is due again.
    pub(super) fn failed(&mut self, now: Duration) {
        self.until = Some(now + self.next);
        self.next = (self.next * 2).min(*self.waits.end());
    }

    /// It succeeded: the next failure is a first one again.
    pub(super) fn succeeded(&mut self) {
        (self.until, self.next) = (None, *self.waits.start());
    }

    /// When it is due, if it has failed.
    pub(super) fn due(&self) -> Option<Duration> {
        self.until
    }

    /// Whether it may be tried.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second..=3 * second);
        assert!(backoff.is_due(Duration::ZERO));
        for wait in [1, 2, 3, 3] {
            backoff.failed(10 * second);
            assert_eq!(backoff.due(), Some((10 + wait) * second));
        }
        assert!(!backoff.is_due(12 * second) && backoff.is_due(13 * second));
        backoff.succeeded();
        backoff.failed(Duration::ZERO);
        assert_eq!(backoff.due(), Some(second));
    }
}
