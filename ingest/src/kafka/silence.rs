//! Finds readers to which nothing comes though there is more: a consumer that no longer fetches a partition, after its
//! brokers were away, say. Nobody is told of that, so it is looked for: the end of a partition that has been silent for a
//! while is asked for, and its reader is then given another consumer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tidings_schemas::limits::{KAFKA_SILENCE_MAX, KAFKA_SILENCE_MIN};
use tidings_schemas::topics::Topic;

use super::reader::Signal;
use crate::error::LogError;
use crate::log::OffsetRange;

/// Between the look that finds more and the one that finds that it has still not come.
const SUSPICION: Duration = Duration::from_secs(1);

/// One reader, as it is watched.
pub(crate) struct Watch {
    topic: Topic,
    partition: u32,
    position: AtomicU64,
    is_deaf: AtomicBool,
    signal: Arc<Signal>,
    look: Mutex<Look>,
}

/// The last look at a reader.
#[derive(Debug, Clone, Copy)]
struct Look {
    position: u64,
    /// How long it may be silent until it is looked at again.
    wait: Duration,
    due: Option<Instant>,
    /// There was more.
    is_suspect: bool,
}

impl Watch {
    pub(crate) fn new(topic: Topic, partition: u32, position: u64, signal: Arc<Signal>) -> Arc<Self> {
        let look = Mutex::new(Look { position, wait: KAFKA_SILENCE_MIN, due: None, is_suspect: false });
        let (position, is_deaf) = (AtomicU64::new(position), AtomicBool::new(false));
        Arc::new(Self { topic, partition, position, is_deaf, signal, look })
    }

    /// The reader stands here.
    pub(crate) fn at(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }

    /// Whether the reader is to be given another consumer. Said once.
    pub(crate) fn take_deaf(&self) -> bool {
        self.is_deaf.swap(false, Ordering::AcqRel)
    }

    /// Looks, if it is time to. False: the brokers do not answer.
    fn look(&self, now: Instant, ask: impl Fn(Topic, u32) -> Result<OffsetRange, LogError>) -> bool {
        let position = self.position.load(Ordering::Acquire);
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let after = |wait: Duration| Look { position, wait, due: Some(now + wait), is_suspect: false };
        let Some(due) = look.due.filter(|_| look.position == position && !self.signal.has_more()) else {
            *look = after(KAFKA_SILENCE_MIN);
            return true;
        };
        if now < due {
            return true;
        }
        if look.is_suspect {
            *look = after(KAFKA_SILENCE_MIN);
            self.is_deaf.store(true, Ordering::Release);
            self.signal.came();
            return true;
        }
        match ask(self.topic, self.partition) {
            Ok(range) if range.end > position => {
                *look = Look { due: Some(now + SUSPICION), is_suspect: true, ..after(KAFKA_SILENCE_MIN) };
            }
            Ok(_) => *look = after((look.wait * 2).min(KAFKA_SILENCE_MAX)),
            Err(_) => {
                *look = after(KAFKA_SILENCE_MIN);
                return false;
            }
        }
        true
    }
}

/// All readers of a log.
#[derive(Default)]
pub(crate) struct Silence(Mutex<Vec<Weak<Watch>>>);

impl Silence {
    /// Watches a reader until it is dropped.
    pub(crate) fn watch(&self, watch: &Arc<Watch>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(watch));
    }

    /// Looks at all that are due; not at the rest while the brokers do not answer.
    pub(crate) fn look(&self, now: Instant, ask: impl Fn(Topic, u32) -> Result<OffsetRange, LogError>) {
        let mut watches = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|watch| {
            let watch = watch.upgrade();
            let is_there = watch.is_some();
            watches.extend(watch);
            is_there
        });
        for watch in watches {
            if !watch.look(now, &ask) {
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
mod tests {
    use super::*;

    fn ends(end: u64) -> impl Fn(Topic, u32) -> Result<OffsetRange, LogError> {
        move |_, _| Ok(OffsetRange { start: 0, end })
    }

    fn never(_: Topic, _: u32) -> Result<OffsetRange, LogError> {
        panic!("nobody is asked")
    }

    #[test]
    fn a_reader_is_deaf_when_there_is_more_twice_and_nothing_has_come() {
        let (silence, signal) = (Silence::default(), Arc::<Signal>::default());
        let watch = Watch::new(Topic::Events, 0, 5, Arc::clone(&signal));
        silence.watch(&watch);
        let start = Instant::now();
        silence.look(start, never);
        silence.look(start + KAFKA_SILENCE_MIN, ends(6));
        assert!(!watch.take_deaf(), "it may be on its way");
        silence.look(start + KAFKA_SILENCE_MIN + SUSPICION, never);
        assert!(watch.take_deaf() && !watch.take_deaf() && signal.has_more());
    }

    #[test]
    fn who_is_at_the_end_moves_or_has_not_looked_is_let_be() {
        let (silence, signal) = (Silence::default(), Arc::<Signal>::default());
        let watch = Watch::new(Topic::Events, 0, 5, Arc::clone(&signal));
        silence.watch(&watch);
        let mut now = Instant::now();
        silence.look(now, never);
        now += KAFKA_SILENCE_MIN;
        silence.look(now, ends(5));
        silence.look(now + KAFKA_SILENCE_MIN, never);
        now += 2 * KAFKA_SILENCE_MIN;
        silence.look(now, ends(6));
        watch.at(6);
        silence.look(now + SUSPICION, never);
        assert!(!watch.take_deaf());
        // What has come and is not taken is its owner's affair.
        signal.came();
        silence.look(now + 10 * KAFKA_SILENCE_MAX, never);
        silence.look(now + 20 * KAFKA_SILENCE_MAX, never);
        assert!(!watch.take_deaf());
        drop(watch);
        silence.look(now + 30 * KAFKA_SILENCE_MAX, never);
        assert!(silence.0.lock().unwrap().is_empty());
    }
}
