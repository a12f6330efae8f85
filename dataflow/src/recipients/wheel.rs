//! A timer wheel over users: presence time-outs cost nothing until they are due, however many heartbeats come.
//!
//! A heartbeat only moves the user's own deadline. The wheel holds one entry of 4 bytes a user, filed under a tick no
//! later than the deadline; when that tick comes, a user whose deadline has moved is filed anew.

/// Entries filed under ticks.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<u32>>,
    /// The first tick that is not yet drained.
    next: i64,
}

impl Wheel {
    /// A wheel for deadlines up to `horizon_ticks` ahead; a later one is filed at the horizon, and anew from there.
    pub(super) fn new(horizon_ticks: usize) -> Self {
        let buckets = vec![Vec::new(); (horizon_ticks + 2).next_power_of_two()];
        Self { buckets, next: i64::MIN }
    }

    /// Files `entry` under `tick`, or the nearest tick that the wheel has. Returns the tick it is filed under.
    pub(super) fn file(&mut self, entry: u32, tick: i64) -> i64 {
        let last = self.next.saturating_add(self.buckets.len() as i64 - 1);
        let tick = tick.clamp(self.next, last);
        let bucket = self.bucket(tick);
        self.buckets[bucket].push(entry);
        tick
    }

    /// Takes out all entries filed under ticks up to and including `now`: (entry, tick it was filed under).
    pub(super) fn drain(&mut self, now: i64, due: &mut Vec<(u32, i64)>) {
        if now < self.next {
            return;
        }
        // A clock that jumps past the whole wheel makes every entry due; each bucket is visited once at most.
        let last = now.min(self.next.saturating_add(self.buckets.len() as i64 - 1));
        for tick in self.next..=last {
            let bucket = self.bucket(tick);
            due.extend(self.buckets[bucket].drain(..).map(|entry| (entry, tick)));
            // A burst must not keep its room for ever.
            if self.buckets[bucket].capacity() > 1024 {
                self.buckets[bucket] = Vec::new();
            }
        }
        self.next = now.saturating_add(1);
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "masked to the number of buckets")]
    fn bucket(&self, tick: i64) -> usize {
        (tick as usize) & (self.buckets.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(wheel: &mut Wheel, now: i64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.drain(now, &mut due);
        due.into_iter().map(|(entry, _)| entry).collect()
    }

    #[test]
    fn an_entry_is_due_at_its_tick_and_not_before() {
        let mut wheel = Wheel::new(60);
        assert!(drained(&mut wheel, 1_000_000).is_empty());
        wheel.file(1, 1_000_005);
        wheel.file(2, 1_000_007);
        assert!(drained(&mut wheel, 1_000_004).is_empty());
        assert_eq!(drained(&mut wheel, 1_000_006), [1]);
        assert_eq!(drained(&mut wheel, 1_000_007), [2]);
    }

    #[test]
    fn a_tick_outside_the_wheel_is_filed_at_its_edge() {
        let mut wheel = Wheel::new(10);
        drained(&mut wheel, 100);
        assert_eq!(wheel.file(1, 50), 101);
        let far = wheel.file(2, 1_000);
        assert!(far < 1_000 && far > 110);
        assert_eq!(drained(&mut wheel, 101), [1]);
        assert_eq!(drained(&mut wheel, 50_000), [2]);
    }
}
