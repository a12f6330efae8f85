//! Token buckets, one for each key (a user, an address), in a bounded table.
//!
//! A bucket is one number: the moment from which it is full again (the generic cell rate algorithm). A key that is not
//! in the table has a full bucket, so forgetting those that are full loses nothing.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tidings_schemas::{clock::Clock, limits::RATE_LIMIT_KEYS_MAX};

/// A rate limit over keys.
pub struct RateLimit<K> {
    clock: Arc<dyn Clock>,
    /// Time that one request costs; zero: no limit.
    cost: Duration,
    /// Time that may be spent in advance.
    burst: Duration,
    keys_max: usize,
    full_at: Mutex<HashMap<K, Duration>>,
}

impl<K: Eq + Hash + Copy> RateLimit<K> {
    /// At most `burst` at once and `per_second` in the long run, for each key. `per_second` of 0: no limit.
    pub fn new(clock: Arc<dyn Clock>, per_second: u32, burst: u32) -> Self {
        let cost = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self { clock, cost, burst: cost * burst.max(1), keys_max: RATE_LIMIT_KEYS_MAX, full_at: Mutex::default() }
    }

    /// Takes one from the key's bucket.
    ///
    /// # Errors
    /// The bucket is empty: how long until there is one in it again.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        if self.cost.is_zero() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= self.keys_max && !full_at.contains_key(&key) {
            make_room(&mut full_at, now, self.keys_max);
        }
        let bucket = full_at.entry(key).or_insert(now);
        let after = (*bucket).max(now) + self.cost;
        match after.checked_sub(now + self.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *bucket = after;
                Ok(())
            }
        }
    }
}

/// Forgets the keys with full buckets; if that is not enough, the half with the fullest ones: they lose the least.
fn make_room<K: Eq + Hash>(full_at: &mut HashMap<K, Duration>, now: Duration, keys_max: usize) {
    full_at.retain(|_, at| *at > now);
    if full_at.len() > keys_max / 2 {
        let mut moments: Vec<Duration> = full_at.values().copied().collect();
        let middle = moments.len() / 2;
        let median = *moments.select_nth_unstable(middle).1;
        full_at.retain(|_, at| *at > median);
    }
}

/// The limit over addresses: connects, accounts, tokens.
pub struct AddressLimit {
    limit: RateLimit<IpAddr>,
    limit_loopback: bool,
}

impl AddressLimit {
    /// See [`RateLimit::new`]. Without `limit_loopback`, this machine's own addresses are not limited.
    pub fn new(clock: Arc<dyn Clock>, per_second: u32, burst: u32, limit_loopback: bool) -> Self {
        Self { limit: RateLimit::new(clock, per_second, burst), limit_loopback }
    }

    /// Takes one from the address's bucket. An IPv6 host usually has a /64 to itself, so that is what counts.
    ///
    /// # Errors
    /// How long until there is one in it again.
    pub fn take(&self, address: IpAddr) -> Result<(), Duration> {
        if address.is_loopback() && !self.limit_loopback {
            return Ok(());
        }
        self.limit.take(network(address))
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now_ms(&self) -> i64 {
            0
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let clock = Arc::new(ManualClock::default());
        let limit = RateLimit::new(clock.clone(), 10, 3);
        assert_eq!((0..5).filter(|_| limit.take(1).is_ok()).count(), 3);
        assert_eq!(limit.take(1), Err(Duration::from_millis(100)));
        assert_eq!(limit.take(2), Ok(()), "another key has a bucket of its own");
        clock.0.store(100, Ordering::Relaxed);
        assert_eq!(limit.take(1), Ok(()));
        assert!(limit.take(1).is_err());
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limit = RateLimit::new(Arc::new(ManualClock::default()), 0, 0);
        assert!((0..10_000).all(|_| limit.take(1).is_ok()));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_emptiest_buckets() {
        let mut limit = RateLimit::new(Arc::new(ManualClock::default()), 10, 3);
        limit.keys_max = 100;
        while limit.take(0).is_ok() {}
        for key in 1..10_000 {
            let _ = limit.take(key);
            assert!(limit.full_at.lock().unwrap().len() <= 100);
        }
        assert!(limit.take(0).is_err());
    }

    #[test]
    fn a_v6_host_is_its_network_and_loopback_is_free() {
        let limit = AddressLimit::new(Arc::new(ManualClock::default()), 1, 1, false);
        assert!(limit.take("2001:db8::1".parse().unwrap()).is_ok());
        assert!(limit.take("2001:db8::2".parse().unwrap()).is_err());
        assert!(limit.take("2001:db8:0:1::1".parse().unwrap()).is_ok());
        assert!((0..10).all(|_| limit.take("127.0.0.1".parse().unwrap()).is_ok()));
    }
}
