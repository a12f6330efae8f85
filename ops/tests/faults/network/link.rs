//! A link: carries IP packets between two TUN devices, both ways, as its conditions say.
//!
//! ```text
//!  device ─▶ reader thread ──── not concerned, or in time ────▶ other device
//!                 ├─ lost, cut: dropped                              ▲
//!                 └─ late ─▶ queue, in the order of sending ─▶ sender thread
//! ```

use std::{
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tappers::Tun;

/// Packets that may wait in one direction; more are dropped, as in a router.
const WAITING_MAX: usize = 8_192;
/// More than the devices' largest packet, which is 1500 bytes.
const PACKET_BYTES_MAX: usize = 4_096;

/// How packets fare. By default they pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    /// How late each comes, on the average, in each direction.
    pub(crate) delay: Duration,
    /// How much more or less, at most. Packets stay in their order.
    pub(crate) jitter: Duration,
    /// The share that is dropped, 0 to 1.
    pub(crate) loss: f64,
}

impl Conditions {
    /// Nothing comes through, and nobody is told.
    pub(crate) fn cut() -> Self {
        Self { loss: 1.0, ..Self::default() }
    }
}

/// The ports whose packets are concerned, and how those fare.
type Rule = (RangeInclusive<u16>, Conditions);

/// The two directions' common state.
pub(super) struct Link {
    rule: Mutex<Option<Rule>>,
    /// Packets dropped or delayed since the last change.
    harmed: AtomicU64,
}

impl Link {
    /// Carries packets from now on, until the process ends.
    pub(super) fn between(near: Tun, far: Tun, seed: u64) -> Result<Arc<Self>> {
        let link = Arc::new(Self { rule: Mutex::default(), harmed: AtomicU64::new(0) });
        let (near, far) = (Arc::new(near), Arc::new(far));
        for (from, to, way) in [(&near, &far, 0), (&far, &near, 1)] {
            let (late, due) = sync_channel(WAITING_MAX);
            let sender = Arc::clone(to);
            thread::Builder::new().name("late packets".to_owned()).spawn(move || send_when_due(&due, &sender))?;
            let random = StdRng::seed_from_u64(seed.wrapping_mul(2).wrapping_add(way));
            let direction = Direction { link: Arc::clone(&link), late, random, last_due: None };
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            let carry = move || direction.carry(&from, &to);
            thread::Builder::new().name("packets".to_owned()).spawn(carry).context("cannot start a thread")?;
        }
        Ok(link)
    }

    /// From now on this rule. Returns how many packets the one before harmed.
    pub(super) fn change(&self, rule: Option<Rule>) -> u64 {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
        self.harmed.swap(0, Ordering::Relaxed)
    }

    /// How this packet fares, if it is concerned.
    fn conditions_of(&self, packet: &[u8]) -> Option<Conditions> {
        let rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        let (ports, conditions) = rule.as_ref()?;
        ports_of(packet)?.iter().any(|port| ports.contains(port)).then_some(*conditions)
    }
}

/// One way.
struct Direction {
    link: Arc<Link>,
    late: SyncSender<(Instant, Vec<u8>)>,
    random: StdRng,
    last_due: Option<Instant>,
}

impl Direction {
    fn carry(mut self, from: &Tun, to: &Tun) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            // A device that is not up yet, or not any more: there is nothing to carry.
            let Ok(length) = from.recv(&mut buffer) else {
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            let packet = &buffer[..length];
            match self.link.conditions_of(packet) {
                None => send(to, packet),
                Some(conditions) => self.harm(conditions, packet, to),
            }
        }
    }

    fn harm(&mut self, conditions: Conditions, packet: &[u8], to: &Tun) {
        let Conditions { delay, jitter, loss } = conditions;
        if self.random.random::<f64>() < loss {
            self.link.harmed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if delay.is_zero() {
            send(to, packet);
            return;
        }
        self.link.harmed.fetch_add(1, Ordering::Relaxed);
        let wait = delay.saturating_sub(jitter) + (2 * jitter).mul_f64(self.random.random());
        #[allow(clippy::disallowed_methods, reason = "real packets on a real network")]
        let due = Instant::now() + wait;
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        // Too many are waiting: one is lost, as in a router.
        let _ = self.late.try_send((due, packet.to_vec()));
    }
}

fn send_when_due(late: &Receiver<(Instant, Vec<u8>)>, to: &Tun) {
    for (due, packet) in late {
        #[allow(clippy::disallowed_methods, reason = "real packets on a real network")]
        let now = Instant::now();
        thread::sleep(due.saturating_duration_since(now));
        send(to, &packet);
    }
}

fn send(to: &Tun, packet: &[u8]) {
    // A full or closed device loses packets: so do networks.
    let _ = to.send(packet);
}

/// Source and destination port of a TCP packet on IPv4. Nothing else is of concern.
fn ports_of(packet: &[u8]) -> Option<[u16; 2]> {
    const TCP: u8 = 6;
    let version_and_length = *packet.first()?;
    if version_and_length >> 4 != 4 || *packet.get(9)? != TCP {
        return None;
    }
    let header = usize::from(version_and_length & 0x0f) * 4;
    let port = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    Some([port(header)?, port(header + 2)?])
}
