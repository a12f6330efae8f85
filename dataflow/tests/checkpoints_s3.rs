//! Checkpoints in an S3-compatible store: written, loaded, pruned, and kept apart between two owners. `ops/test s3` starts such a
//! store and names it in TIDINGS_TEST_S3 (its address; the bucket is `tidings`).

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{env, sync::Arc};

use tidings_dataflow::{
    checkpoints::{
        self, CheckpointConfig, CheckpointError, CheckpointStore, CheckpointWriter, PartWriter, S3Config, Snapshot,
    },
    shard::{InputPosition, ShardId, Stage, StateSink},
};
use tidings_ingest::OffsetRange;
use tidings_schemas::{
    clock::{Entropy as _, SystemClock, SystemEntropy},
    topics::Topic,
};

const SHARD: ShardId = ShardId { stage: Stage::Conversations, partition: 3 };
const LOG: u128 = 7;

/// Checkpoints of which nobody else knows.
fn store() -> CheckpointStore {
    let endpoint = env::var("TIDINGS_TEST_S3").expect("TIDINGS_TEST_S3 names an S3-compatible store (ops/test s3)");
    let s3 = S3Config {
        bucket: "tidings".to_owned(),
        prefix: format!("test-{:016x}", SystemEntropy.next_u64()),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint),
    };
    let config = CheckpointConfig { s3: Some(s3), ..CheckpointConfig::default() };
    CheckpointStore::new(checkpoints::open(&config).unwrap().expect("a store"), LOG)
}

async fn owner(store: &CheckpointStore) -> CheckpointWriter {
    CheckpointWriter::take_over(store.clone(), SHARD, Arc::new(SystemClock::new()), (2, 3)).await.unwrap()
}

/// One more row, at the offset below the next.
async fn write(writer: &mut CheckpointWriter, next_offset: u64, is_full: bool) -> Result<(), CheckpointError> {
    let mut parts = PartWriter::default();
    for offset in if is_full { 0 } else { next_offset - 1 }..next_offset {
        parts.put(&offset.to_be_bytes(), b"row");
    }
    let positions = vec![InputPosition { topic: Topic::Events, next_offset }];
    writer.write(&Snapshot { positions, parts: parts.finish(), is_full }).await.map(|_| ())
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: ./ops/test s3"]
async fn what_was_written_is_loaded_and_old_ones_are_pruned() {
    let store = store();
    assert_eq!(store.sequences(SHARD).await.unwrap(), [0_u64; 0], "nothing at first");
    let mut writer = owner(&store).await;
    for offset in 1..=8 {
        write(&mut writer, offset, offset == 1).await.unwrap();
    }
    let sequences = store.sequences(SHARD).await.unwrap();
    assert!(sequences.len() <= 4, "old ones are pruned: {sequences:?}");
    let restored = store.load(SHARD, sequences[0], |_| OffsetRange { start: 0, end: 100 }).await.unwrap();
    assert_eq!(restored.state.next_offset(Topic::Events), 8);
    assert_eq!(restored.state.rows.len(), 8);
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: ./ops/test s3"]
async fn who_was_taken_over_writes_nothing_more() {
    let store = store();
    let mut first = owner(&store).await;
    write(&mut first, 1, true).await.unwrap();
    let mut second = owner(&store).await;
    write(&mut second, 1, true).await.unwrap();
    let refused = write(&mut first, 2, false).await.unwrap_err();
    assert!(matches!(refused, CheckpointError::Superseded { .. }), "the store gave one number out twice: {refused}");
    write(&mut second, 2, false).await.unwrap();
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: ./ops/test s3"]
async fn a_bucket_that_is_not_there_is_said() {
    let endpoint = env::var("TIDINGS_TEST_S3").expect("TIDINGS_TEST_S3");
    let s3 = S3Config {
        bucket: "no-such-bucket".to_owned(),
        prefix: String::new(),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint),
    };
    let config = CheckpointConfig { s3: Some(s3.clone()), ..CheckpointConfig::default() };
    let store = CheckpointStore::new(checkpoints::open(&config).unwrap().expect("a store"), LOG);
    let error = store.sequences(SHARD).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("NoSuchBucket"), "{error}");
    let unnamed =
        CheckpointConfig { s3: Some(S3Config { bucket: String::new(), ..s3 }), ..CheckpointConfig::default() };
    assert!(matches!(checkpoints::open(&unnamed), Err(CheckpointError::S3 { .. })));
}
