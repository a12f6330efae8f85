//! Two writers of one shard's checkpoints: the newer owner's are never hidden and never broken.

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::{
    checkpoints::{CheckpointError, CheckpointStore, CheckpointWriter, PartWriter, Snapshot},
    shard::{InputPosition, ShardId, Stage, StateSink},
};
use tidings_ingest::OffsetRange;
use tidings_schemas::{clock::SystemClock, topics::Topic};

const SHARD: ShardId = ShardId { stage: Stage::Conversations, partition: 3 };

fn store() -> CheckpointStore {
    CheckpointStore::new(Arc::new(InMemory::new()), 7)
}

/// A writer, and all that it was told so far: each offset writes a row of its own.
pub(crate) struct Owner {
    pub(crate) writer: CheckpointWriter,
    pub(crate) next_offset: u64,
    saved: u64,
    is_superseded: bool,
}

impl Owner {
    /// Takes the shard over and loads the newest checkpoint.
    pub(crate) async fn open(store: &CheckpointStore) -> Self {
        let clock = Arc::new(SystemClock::new());
        let mut writer = CheckpointWriter::take_over(store.clone(), SHARD, clock, (2, 3)).await.unwrap();
        let (next_offset, chain) = newest(store).await;
        writer.go_on_from(chain);
        Self { writer, next_offset, saved: next_offset, is_superseded: false }
    }

    pub(crate) async fn write(&mut self, is_full: bool) -> Result<(), CheckpointError> {
        let mut parts = PartWriter::default();
        for offset in if is_full { 0 } else { self.saved }..self.next_offset {
            parts.put(&offset.to_be_bytes(), b"row");
        }
        let positions = vec![InputPosition { topic: Topic::Events, next_offset: self.next_offset }];
        self.writer.write(&Snapshot { positions, parts: parts.finish(), is_full }).await?;
        (self.saved, self.is_superseded) = (self.next_offset, false);
        Ok(())
    }

    pub(crate) async fn advance(&mut self) -> Result<(), CheckpointError> {
        self.next_offset += 1;
        self.write(false).await
    }

    fn superseded(&mut self) {
        self.is_superseded = true;
        self.writer.start_anew();
    }
}

/// Loads the newest checkpoint, and checks that it is whole.
pub(crate) async fn newest(store: &CheckpointStore) -> (u64, Vec<tidings_schemas::wire::CheckpointPart>) {
    let sequences = store.sequences(SHARD).await.unwrap();
    let held = |_| OffsetRange { start: 0, end: u64::MAX };
    let restored = store.load(SHARD, sequences[0], held).await.unwrap();
    let next_offset = restored.state.next_offset(Topic::Events);
    let expected: Vec<Bytes> = (0..next_offset).map(|offset| Bytes::copy_from_slice(&offset.to_be_bytes())).collect();
    let mut found: Vec<Bytes> = restored.state.rows.into_keys().collect();
    found.sort();
    assert_eq!(found, expected);
    (next_offset, restored.chain)
}

#[tokio::test]
async fn the_owner_before_writes_no_more() {
    let store = store();
    let mut zombie = Owner::open(&store).await;
    for _ in 0..5 {
        zombie.advance().await.unwrap();
    }
    let mut owner = Owner::open(&store).await;
    assert_eq!(owner.next_offset, 5);
    let error = zombie.advance().await.unwrap_err();
    assert!(matches!(error, CheckpointError::Superseded { .. }), "{error}");
    zombie.superseded();
    for _ in 0..7 {
        zombie.next_offset = 4;
        owner.advance().await.unwrap();
        assert!(!zombie.writer.is_silent().await.unwrap());
        // Not even all of its state, while the other writes or is ahead.
        let error = zombie.write(true).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Superseded { .. }), "{error}");
    }
    assert_eq!(newest(&store).await.0, 12);
    assert!(store.sequences(SHARD).await.unwrap().len() <= 3);
}

#[tokio::test]
async fn the_owner_before_writes_again_when_the_other_is_silent_and_not_ahead() {
    let store = store();
    let mut one = Owner::open(&store).await;
    one.advance().await.unwrap();
    let mut other = Owner::open(&store).await;
    other.advance().await.unwrap();
    one.next_offset = 2;
    assert!(one.write(false).await.is_err());
    one.superseded();
    assert!(!one.writer.is_silent().await.unwrap());
    assert!(one.writer.is_silent().await.unwrap());
    one.write(true).await.unwrap();
    one.advance().await.unwrap();
    assert_eq!(newest(&store).await.0, 3);
    let error = other.advance().await.unwrap_err();
    assert!(matches!(error, CheckpointError::Superseded { .. }), "{error}");
}

/// Owners come and go, stay on as zombies, and write in any order: the newest checkpoint is always whole, and never
/// behind one before.
#[tokio::test]
async fn whoever_writes_the_newest_checkpoint_is_whole() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let store = store();
        let mut owners = vec![Owner::open(&store).await];
        let mut reached = 0;
        for _ in 0..80 {
            if random.random_bool(0.08) {
                owners.push(Owner::open(&store).await);
            }
            let chosen = random.random_range(0..owners.len());
            let owner = &mut owners[chosen];
            if owner.is_superseded && random.random_bool(0.3) {
                let _ = owner.writer.is_silent().await.unwrap();
            }
            owner.next_offset += random.random_range(0..3);
            let is_full = random.random_bool(0.1);
            if let Err(error) = owner.write(is_full).await {
                assert!(matches!(error, CheckpointError::Superseded { .. }), "seed {seed}: {error}");
                owner.superseded();
            }
            let (next_offset, _) = newest(&store).await;
            assert!(next_offset >= reached, "seed {seed}: from {reached} back to {next_offset}");
            reached = next_offset;
        }
    }
}
