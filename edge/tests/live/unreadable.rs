//! Deliveries that cannot be read for a moment, or not at all: every session gets its updates all the same, without
//! another push to bring the loss to light.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use serde_json::json;
use tidings_ingest::{Log, LogError, LogReader, NewRecord, OffsetRange, OnAppended, StoredRecord, Wake};
use tidings_schemas::topics::Topic;

use crate::support::{Backend, client::PATIENCE};

const READABLE: u8 = 0;
const UNAVAILABLE: u8 = 1;
const DAMAGED: u8 = 2;

/// Fails where deliveries are read, while it is told to.
struct Unreadable {
    inner: Arc<dyn Log>,
    state: Arc<AtomicU8>,
    refusals: Arc<AtomicU64>,
}

impl Log for Unreadable {
    fn log_id(&self) -> u128 {
        self.inner.log_id()
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }
    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        self.inner.append_with(records, on_appended);
    }
    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.inner.range(topic, partition)
    }
    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        let inner = self.inner.reader(topic, partition, from)?;
        let (state, refusals) = (Arc::clone(&self.state), Arc::clone(&self.refusals));
        Ok(Box::new(UnreadableReader { inner, fails: topic == Topic::Deliveries, state, refusals }))
    }
}

struct UnreadableReader {
    inner: Box<dyn LogReader>,
    fails: bool,
    state: Arc<AtomicU8>,
    refusals: Arc<AtomicU64>,
}

impl LogReader for UnreadableReader {
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        let state = if self.fails { self.state.load(Ordering::SeqCst) } else { READABLE };
        if state != READABLE {
            self.refusals.fetch_add(1, Ordering::SeqCst);
        }
        match state {
            UNAVAILABLE => Err(LogError::Unavailable { reason: "on purpose".into() }),
            DAMAGED => {
                let what = "damaged on purpose".to_owned();
                Err(LogError::Corrupt { file: "a file".into(), position: 0, what, hint: "none" })
            }
            _ => self.inner.poll(max_bytes, into),
        }
    }
    fn wake_with(&mut self, wake: Wake) {
        self.inner.wake_with(wake);
    }
    fn position(&self) -> u64 {
        self.inner.position()
    }
}

async fn a_push_comes_after(failure: u8) {
    let backend = Backend::start();
    let (state, refusals) = (Arc::new(AtomicU8::new(READABLE)), Arc::new(AtomicU64::new(0)));
    let log = Unreadable { inner: backend.log(), state: Arc::clone(&state), refusals: Arc::clone(&refusals) };
    let (healthy, failing) = (backend.edge(|_| {}), backend.edge_on(Arc::new(log), |_| {}, |_| {}));
    let (ann, bob) = (healthy.user("ann").await, healthy.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut bobs = bob.at(failing.handle.address()).connect("phone").await;
    let mut anns = ann.connect("phone").await;
    state.store(failure, Ordering::SeqCst);
    anns.say(&chat, "m1", "the only one").await;
    let refused = async {
        while refusals.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    state.store(READABLE, Ordering::SeqCst);
    let update = bobs.update().await;
    assert_eq!(update["message"]["text"], json!("the only one"), "{update}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_cannot_be_reached_are_read_later() {
    a_push_comes_after(UNAVAILABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_must_be_skipped_are_made_up_for_from_the_views() {
    a_push_comes_after(DAMAGED).await;
}
