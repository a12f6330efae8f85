//! Token buckets, one for each key (a user, an address), in a bounded table. `shared_limits` spreads users' over edges.
//!
//! A bucket is one number: the moment from which it is full again (the generic cell rate algorithm). A key that is not
//! in the table has a full bucket, so forgetting those that are full loses nothing.

use std::{
    cmp::Reverse,
    hash::Hash,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tidings_schemas::{
    clock::Clock,
    limits::{RATE_LIMIT_KEYS_MAX, SPENDING_INTERVAL, SPENDING_SHARE_TOLD, SPENDING_USERS_MAX},
};

/// A rate limit over keys.
pub struct RateLimit<K> {
    clock: Arc<dyn Clock>,
    /// Time that one request costs; zero: no limit.
    cost: Duration,
    /// Time that may be spent in advance.
    burst: Duration,
    /// Requests in a second that are worth telling others of.
    told_from: u32,
    keys_max: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Duration,
    /// Taken here since `spending` was last asked.
    taken: u32,
}

impl<K: Eq + Ord + Hash + Copy> RateLimit<K> {
    /// At most `burst` at once and `per_second` in the long run, for each key. `per_second` of 0: no limit.
    pub fn new(clock: Arc<dyn Clock>, per_second: u32, burst: u32) -> Self {
        let cost = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        let told_from = (per_second / SPENDING_SHARE_TOLD).max(1);
        let burst = cost * burst.max(1);
        Self { clock, cost, burst, told_from, keys_max: RATE_LIMIT_KEYS_MAX, buckets: Mutex::default() }
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
        let mut buckets = self.lock();
        let bucket = self.bucket(&mut buckets, key, now);
        let after = bucket.full_at.max(now) + self.cost;
        match after.checked_sub(now + self.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                bucket.full_at = after;
                bucket.taken = bucket.taken.saturating_add(1);
                Ok(())
            }
        }
    }

    /// Takes off what was taken elsewhere, also what is not there any more; but nobody waits for longer than for two
    /// buckets.
    pub fn spend(&self, key: K, requests: u32) {
        if self.cost.is_zero() {
            return;
        }
        let now = self.clock.monotonic();
        let mut buckets = self.lock();
        let bucket = self.bucket(&mut buckets, key, now);
        let after = bucket.full_at.max(now).saturating_add(self.cost.saturating_mul(requests));
        let latest = now + self.burst + self.burst.max(2 * SPENDING_INTERVAL);
        bucket.full_at = bucket.full_at.max(after.min(latest));
    }

    /// What was taken here since this was last asked, of those keys that took much; the largest first, at most
    /// `SPENDING_USERS_MAX`.
    pub fn spending(&self) -> Vec<(K, u32)> {
        if self.cost.is_zero() {
            return Vec::new();
        }
        let mut spending: Vec<(K, u32)> = Vec::new();
        for (key, bucket) in self.lock().iter_mut() {
            let taken = mem::take(&mut bucket.taken);
            if taken >= self.told_from {
                spending.push((*key, taken));
            }
        }
        // By key, too, so that the same happens again in a simulation.
        spending.sort_unstable_by_key(|(key, taken)| (Reverse(*taken), *key));
        spending.truncate(SPENDING_USERS_MAX);
        spending
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket<'b>(&self, buckets: &'b mut HashMap<K, Bucket>, key: K, now: Duration) -> &'b mut Bucket {
        if buckets.len() >= self.keys_max && !buckets.contains_key(&key) {
            make_room(buckets, now, self.keys_max);
        }
        buckets.entry(key).or_insert(Bucket { full_at: now, taken: 0 })
    }
}

/// Forgets the keys with full buckets; if that is not enough, the half with the fullest ones: they lose the least.
fn make_room<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, now: Duration, keys_max: usize) {
    buckets.retain(|_, bucket| bucket.full_at > now);
    if buckets.len() > keys_max / 2 {
        let mut moments: Vec<Duration> = buckets.values().map(|bucket| bucket.full_at).collect();
        let middle = moments.len() / 2;
        let median = *moments.select_nth_unstable(middle).1;
        buckets.retain(|_, bucket| bucket.full_at > median);
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
    fn what_is_spent_elsewhere_is_spent_here() {
        let clock = Arc::new(ManualClock::default());
        let limits = [(); 3].map(|()| RateLimit::new(clock.clone(), 16, 32));
        let mut taken = 0;
        let seconds = 60;
        for second in 1..=seconds {
            // One asks for all he can get, everywhere; another for little.
            taken += limits.iter().map(|limit| (0..100).filter(|_| limit.take(1).is_ok()).count()).sum::<usize>();
            assert!(limits[0].take(2).is_ok());
            let told = limits.each_ref().map(RateLimit::spending);
            for (from, spending) in told.iter().enumerate() {
                assert!(spending.iter().all(|(key, _)| *key == 1), "the other is not worth a word");
                for (_, limit) in limits.iter().enumerate().filter(|(to, _)| *to != from) {
                    spending.iter().for_each(|(key, requests)| limit.spend(*key, *requests));
                }
            }
            clock.0.store(second * 1000, Ordering::Relaxed);
        }
        // At each edge the burst, and what was let in before the others were told; then the rate of one, not of three.
        let of_one = 16 * usize::try_from(seconds).unwrap();
        assert!((of_one..of_one * 3 / 2).contains(&taken), "{taken}, where one edge gives {of_one}");
        limits[0].spend(3, 1_000_000);
        assert!(limits[0].take(3).is_err());
        clock.0.fetch_add(2_100, Ordering::Relaxed);
        assert!(limits[0].take(3).is_ok(), "nobody waits for longer than a bucket takes to fill twice");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limit = RateLimit::new(Arc::new(ManualClock::default()), 0, 0);
        assert!((0..10_000).all(|_| limit.take(1).is_ok()));
        assert!(limit.spending().is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_emptiest_buckets() {
        let mut limit = RateLimit::new(Arc::new(ManualClock::default()), 10, 3);
        limit.keys_max = 100;
        while limit.take(0).is_ok() {}
        for key in 1..10_000 {
            let _ = limit.take(key);
            assert!(limit.buckets.lock().unwrap().len() <= 100);
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
