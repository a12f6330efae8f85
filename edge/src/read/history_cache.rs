//! Older history that was read lately, kept in memory: a cache in front of the history's reader.
//!
//! What is kept are entries as they were accepted, which never change: an edit or a deletion is a change beside the entry,
//! and changes are read anew each time. So a message that was deleted, here or anywhere, does not come out of the cache.
//! Entries are kept in blocks of [`HISTORY_BLOCK_ENTRIES`] whose every `seq` is there; a block that lacks one, because
//! the history is still being written or retention has taken it, is not kept, so a gap is looked up each time, too.
//! Retention takes entries that are kept no later than [`HISTORY_CACHE_AGE_MAX`] after it took them from the history.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use async_trait::async_trait;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use prost::Message as _;
use quick_cache::{Weighter, sync::Cache};
use tidings_schemas::{
    clock::Clock,
    ids::{ConversationId, MessageId, UserId},
    limits::{ARCHIVE_READ_ROWS_MAX, HISTORY_BLOCK_ENTRIES, HISTORY_CACHE_AGE_MAX},
    wire,
};

use super::{HistoryError, HistoryReader, Order};

/// What a block costs beside its entries' bytes, and an entry beside its own.
const BLOCK_OVERHEAD_BYTES: u64 = 128;
const ENTRY_OVERHEAD_BYTES: u64 = 160;

type Key = (ConversationId, u64);

/// The entries of one block, ascending, without a gap.
#[derive(Clone)]
struct Block {
    entries: Arc<[wire::Entry]>,
    read_at: Duration,
    bytes: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Block> for Bytes {
    fn weight(&self, _: &Key, block: &Block) -> u64 {
        block.bytes
    }
}

/// The cache, in front of a history.
pub struct HistoryCache {
    history: Arc<dyn HistoryReader>,
    blocks: Cache<Key, Block, Bytes>,
    clock: Arc<dyn Clock>,
    hits: Counter,
    misses: Counter,
    bytes: Gauge,
}

impl HistoryCache {
    /// Of at most so many bytes, in front of that history.
    pub fn new(
        history: Arc<dyn HistoryReader>,
        bytes_max: u64,
        clock: Arc<dyn Clock>,
        registry: &mut Registry,
    ) -> Arc<Self> {
        let blocks_expected = usize::try_from(bytes_max / (HISTORY_BLOCK_ENTRIES * 512)).unwrap_or(usize::MAX).max(16);
        let cache = Self {
            history,
            blocks: Cache::with_weighter(blocks_expected, bytes_max, Bytes),
            clock,
            hits: Counter::default(),
            misses: Counter::default(),
            bytes: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("tidings_edge_history_cache");
        registry.register("hits", "Reads of older history answered from memory", cache.hits.clone());
        registry.register("misses", "Reads of older history that went to the archive", cache.misses.clone());
        registry.register_with_unit("size", "Older history in memory", Unit::Bytes, cache.bytes.clone());
        Arc::new(cache)
    }

    /// The entries of a range that has no gap, if all its blocks are there.
    fn cached(&self, conversation: ConversationId, seqs: &RangeInclusive<u64>) -> Option<Vec<wire::Entry>> {
        let now = self.clock.monotonic();
        let mut entries = Vec::new();
        for number in block_of(*seqs.start())..=block_of(*seqs.end()) {
            let key = (conversation, number);
            let block = self.blocks.get(&key)?;
            if now.saturating_sub(block.read_at) > HISTORY_CACHE_AGE_MAX {
                self.blocks.remove(&key);
                return None;
            }
            entries.extend(block.entries.iter().filter(|entry| seqs.contains(&entry.seq)).cloned());
        }
        Some(entries)
    }

    /// Keeps the blocks that are whole among entries in ascending order.
    fn keep(&self, conversation: ConversationId, entries: &[wire::Entry]) {
        for block in entries.chunk_by(|one, other| block_of(one.seq) == block_of(other.seq)) {
            let Some(number) = block.first().map(|entry| block_of(entry.seq)) else { continue };
            if !block.iter().map(|entry| entry.seq).eq(seqs_of(number)) {
                continue;
            }
            let of_entries = |entry: &wire::Entry| entry.encoded_len() as u64 + ENTRY_OVERHEAD_BYTES;
            let bytes = BLOCK_OVERHEAD_BYTES + block.iter().map(of_entries).sum::<u64>();
            let block = Block { entries: block.into(), read_at: self.clock.monotonic(), bytes };
            self.blocks.insert((conversation, number), block);
        }
        self.bytes.set(i64::try_from(self.blocks.weight()).unwrap_or(i64::MAX));
    }
}

/// The block that a seq is in. The first seq is 1.
fn block_of(seq: u64) -> u64 {
    seq.saturating_sub(1) / HISTORY_BLOCK_ENTRIES
}

/// The seqs of a block.
fn seqs_of(number: u64) -> RangeInclusive<u64> {
    let before = number.saturating_mul(HISTORY_BLOCK_ENTRIES);
    before.saturating_add(1)..=before.saturating_add(HISTORY_BLOCK_ENTRIES)
}

/// What a read returns if the range has no gap.
fn wanted(seqs: &RangeInclusive<u64>, order: Order, limit: usize) -> RangeInclusive<u64> {
    let (begin, end) = ((*seqs.start()).max(1), *seqs.end());
    let others = (limit as u64).saturating_sub(1);
    match order {
        Order::OldestFirst => begin..=end.min(begin.saturating_add(others)),
        Order::NewestFirst => begin.max(end.saturating_sub(others))..=end,
    }
}

#[async_trait]
impl HistoryReader for HistoryCache {
    async fn entries(
        &self,
        conversation: ConversationId,
        seqs: RangeInclusive<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::Entry>, HistoryError> {
        let range = wanted(&seqs, order, limit);
        if limit == 0 || range.is_empty() {
            return Ok(Vec::new());
        }
        let in_order = |mut entries: Vec<wire::Entry>| {
            if order == Order::NewestFirst {
                entries.reverse();
            }
            entries
        };
        if let Some(entries) = self.cached(conversation, &range) {
            self.hits.inc();
            return Ok(in_order(entries));
        }
        self.misses.inc();
        let whole = *seqs_of(block_of(*range.start())).start()..=*seqs_of(block_of(*range.end())).end();
        let count = usize::try_from(whole.end() - whole.start() + 1).unwrap_or(usize::MAX);
        if count > ARCHIVE_READ_ROWS_MAX {
            return self.history.entries(conversation, seqs, order, limit).await;
        }
        let mut entries = self.history.entries(conversation, whole, Order::OldestFirst, count).await?;
        self.keep(conversation, &entries);
        entries.retain(|entry| range.contains(&entry.seq));
        if entries.iter().map(|entry| entry.seq).eq(range) {
            return Ok(in_order(entries));
        }
        // There is a gap: what then comes is the history's to say.
        self.history.entries(conversation, seqs, order, limit).await
    }

    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, HistoryError> {
        self.history.entry_by_message_id(conversation, message).await
    }

    async fn changes(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, HistoryError> {
        self.history.changes(conversation, seqs).await
    }

    /// A device reads these once.
    async fn inbox(
        &self,
        user: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, HistoryError> {
        self.history.inbox(user, offsets, limit).await
    }

    async fn next_events_offset(&self, partition: u32) -> Result<u64, HistoryError> {
        self.history.next_events_offset(partition).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    /// A history with some of the entries, which counts its reads.
    #[derive(Default)]
    struct Plain {
        seqs: Mutex<Vec<u64>>,
        text_bytes: usize,
        reads: AtomicU64,
    }

    #[async_trait]
    impl HistoryReader for Plain {
        async fn entries(
            &self,
            conversation: ConversationId,
            seqs: RangeInclusive<u64>,
            order: Order,
            limit: usize,
        ) -> Result<Vec<wire::Entry>, HistoryError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let there = self.seqs.lock().unwrap();
            let entry = |seq: &u64| wire::Entry {
                conversation_id: Some(conversation.into()),
                seq: *seq,
                content: Some(wire::entry::Content::Event(vec![b'x'; self.text_bytes].into())),
                ..Default::default()
            };
            let mut entries: Vec<_> = there.iter().filter(|seq| seqs.contains(seq)).map(entry).collect();
            if order == Order::NewestFirst {
                entries.reverse();
            }
            entries.truncate(limit);
            Ok(entries)
        }

        async fn entry_by_message_id(
            &self,
            _: ConversationId,
            _: MessageId,
        ) -> Result<Option<wire::Entry>, HistoryError> {
            Ok(None)
        }

        async fn changes(&self, _: ConversationId, _: &[u64]) -> Result<Vec<wire::Change>, HistoryError> {
            Ok(Vec::new())
        }

        async fn inbox(
            &self,
            _: UserId,
            _: RangeInclusive<u64>,
            _: usize,
        ) -> Result<Vec<(u64, wire::InboxRow)>, HistoryError> {
            Ok(Vec::new())
        }

        async fn next_events_offset(&self, _: u32) -> Result<u64, HistoryError> {
            Ok(0)
        }
    }

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_ms(&self) -> i64 {
            0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn cache(history: &Arc<Plain>, bytes_max: u64, clock: &Arc<Hand>) -> Arc<HistoryCache> {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        HistoryCache::new(Arc::clone(history) as _, bytes_max, clock, &mut Registry::default())
    }

    const CONVERSATION: ConversationId = ConversationId(7);

    async fn seqs(reader: &dyn HistoryReader, range: RangeInclusive<u64>, order: Order, limit: usize) -> Vec<u64> {
        let entries = reader.entries(CONVERSATION, range, order, limit).await.unwrap();
        entries.iter().map(|entry| entry.seq).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read {
            begin: u64,
            length: u64,
            newest_first: bool,
            limit: usize,
        },
        /// More has arrived.
        Arrive(u64),
        /// Retention takes the oldest, and the time passes after which that must be so here, too.
        Retain(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..500_u64, 0..300_u64, any::<bool>(), 0..120_usize).prop_map(
                |(begin, length, newest_first, limit)| Step::Read { begin, length, newest_first, limit }
            ),
            1 => (0..100_u64).prop_map(Step::Arrive),
            1 => (0..60_u64).prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_what_the_history_reads(steps in proptest::collection::vec(step(), 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let plain = Arc::new(Plain::default());
            let clock = Arc::new(Hand::default());
            let cache = cache(&plain, 1 << 20, &clock);
            let (mut first, mut next) = (1, 200);
            for step in steps {
                match step {
                    Step::Arrive(more) => next += more,
                    Step::Retain(more) => {
                        first = (first + more).min(next);
                        clock.0.fetch_add(HISTORY_CACHE_AGE_MAX.as_secs() + 1, Ordering::Relaxed);
                    }
                    Step::Read { begin, length, newest_first, limit } => {
                        let order = if newest_first { Order::NewestFirst } else { Order::OldestFirst };
                        let range = begin..=begin + length;
                        let (found, expected) = runtime.block_on(async {
                            *plain.seqs.lock().unwrap() = (first..next).collect();
                            let found = seqs(&*cache, range.clone(), order, limit).await;
                            (found, seqs(&*plain, range, order, limit).await)
                        });
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn what_was_read_is_not_read_again_until_it_is_old() {
        let plain = Arc::new(Plain { seqs: Mutex::new((1..=1_000).collect()), ..Plain::default() });
        let clock = Arc::new(Hand::default());
        let cache = cache(&plain, 1 << 20, &clock);
        let page = async |from: u64| seqs(&*cache, 1..=from, Order::NewestFirst, 50).await.len();
        for from in [900, 850, 800] {
            assert_eq!(page(from).await, 50);
        }
        let reads = plain.reads.load(Ordering::Relaxed);
        for from in [900, 850, 800, 880, 799] {
            assert_eq!(page(from).await, 50);
        }
        assert_eq!(plain.reads.load(Ordering::Relaxed), reads);
        assert_eq!((cache.hits.get(), cache.misses.get()), (5, reads));
        clock.0.store(HISTORY_CACHE_AGE_MAX.as_secs() + 1, Ordering::Relaxed);
        page(900).await;
        assert_eq!(plain.reads.load(Ordering::Relaxed), reads + 1);
        // Another conversation's are others.
        cache.entries(ConversationId(8), 1..=50, Order::OldestFirst, 50).await.unwrap();
        assert_eq!(plain.reads.load(Ordering::Relaxed), reads + 2);
    }

    #[tokio::test]
    async fn it_keeps_to_its_bytes() {
        let plain = Arc::new(Plain { seqs: Mutex::new((1..=20_000).collect()), text_bytes: 1_000, ..Plain::default() });
        let cache = cache(&plain, 2 << 20, &Arc::new(Hand::default()));
        for from in (1..19_900).step_by(64) {
            assert_eq!(seqs(&*cache, from..=from + 49, Order::OldestFirst, 50).await.len(), 50);
            assert!(cache.blocks.weight() <= 2 << 20, "{} bytes", cache.blocks.weight());
        }
        assert!(cache.bytes.get() > 1 << 20, "{} bytes", cache.bytes.get());
        // Without room nothing is kept, and everything is read.
        let none = HistoryCache::new(Arc::clone(&plain) as _, 0, Arc::new(Hand::default()), &mut Registry::default());
        assert_eq!(seqs(&*none, 1..=50, Order::OldestFirst, 50).await.len(), 50);
        assert_eq!(none.blocks.weight(), 0);
    }
}
