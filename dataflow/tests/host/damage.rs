//! Checkpoints that cannot be used: each is refused with its reason, the one before is used, and the outcome is the same.

use std::{fs, path::Path, sync::Arc};

use prost::Message;
use tidings_dataflow::{
    checkpoints::{CheckpointError, CheckpointStore, open_folder},
    shard::{ShardId, Stage},
};
use tidings_ingest::{Log, OffsetRange};
use tidings_schemas::{topics::Topic, wire::CheckpointManifest};

use crate::{
    PARTITIONS, append_lots, assert_as_modelled, histories,
    support::{checkpoint_files, config, open_log, start},
};

const SHARD: ShardId = ShardId { stage: Stage::Conversations, partition: 0 };

/// A log and a few checkpoints of it.
async fn prepared(folder: &Path) -> Arc<dyn Log> {
    let log = open_log(folder, PARTITIONS);
    let mut histories = histories(21);
    for _ in 0..4 {
        let host = start(config(folder, 1, 60_000), Arc::clone(&log));
        append_lots(&*log, &mut histories, 100).await;
        assert_as_modelled(&*log).await;
        host.shutdown().await;
    }
    log
}

fn newest(folder: &Path, ending: &str) -> std::path::PathBuf {
    let files = checkpoint_files(folder, "conversations-0");
    files.into_iter().rfind(|file| file.to_string_lossy().ends_with(ending)).unwrap()
}

/// The last part that the newest manifest names.
fn last_part(folder: &Path) -> std::path::PathBuf {
    let bytes = fs::read(newest(folder, "manifest")).unwrap();
    let manifest = CheckpointManifest::decode(&bytes[8..]).unwrap();
    newest(folder, &manifest.parts.last().unwrap().name)
}

fn held(log: &dyn Log) -> impl Fn(Topic) -> OffsetRange {
    move |topic| log.range(topic, 0).unwrap()
}

/// Why the newest checkpoint cannot be used; and that the one before can.
async fn refusal(folder: &Path, log: &dyn Log) -> CheckpointError {
    let store = CheckpointStore::new(open_folder(&folder.join("checkpoints")).unwrap(), log.log_id());
    let sequences = store.sequences(SHARD).await.unwrap();
    store.load(SHARD, sequences[1], held(log)).await.unwrap();
    store.load(SHARD, sequences[0], held(log)).await.unwrap_err()
}

/// Damages something, and sees that it is refused so, and that the host comes to the same all the same.
async fn after(damage: impl Fn(&Path), is_refusal: impl Fn(&CheckpointError) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let log = prepared(folder.path()).await;
    damage(folder.path());
    let error = refusal(folder.path(), &*log).await;
    assert!(is_refusal(&error), "{error}");
    let host = start(config(folder.path(), 1, 10), Arc::clone(&log));
    let mut more = histories(22);
    append_lots(&*log, &mut more, 50).await;
    assert_as_modelled(&*log).await;
    host.shutdown().await;
    // What was written since can be used.
    let store = CheckpointStore::new(open_folder(&folder.path().join("checkpoints")).unwrap(), log.log_id());
    let sequences = store.sequences(SHARD).await.unwrap();
    store.load(SHARD, sequences[0], held(&*log)).await.unwrap();
    // Three that can be used, and one that a newer program may come back to.
    assert!(sequences.len() <= 4, "{sequences:?}");
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_part_is_refused() {
    after(|folder| flip(&last_part(folder)), |error| matches!(error, CheckpointError::Damaged { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_part_is_refused() {
    let damage = |folder: &Path| fs::remove_file(last_part(folder)).unwrap();
    after(damage, |error| matches!(error, CheckpointError::Damaged { what: "it is missing", .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_manifest_is_refused() {
    after(|folder| flip(&newest(folder, "manifest")), |error| matches!(error, CheckpointError::Damaged { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_manifest_is_refused() {
    let damage = |folder: &Path| fs::write(newest(folder, "manifest"), b"TD").unwrap();
    after(damage, |error| matches!(error, CheckpointError::Damaged { .. })).await;
}

/// Writes a manifest anew after a change.
fn rewrite(folder: &Path, change: impl Fn(&mut CheckpointManifest)) {
    let file = newest(folder, "manifest");
    let bytes = fs::read(&file).unwrap();
    let mut manifest = CheckpointManifest::decode(&bytes[8..]).unwrap();
    change(&mut manifest);
    let body = manifest.encode_to_vec();
    let mut bytes = b"TDCM".to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused() {
    let damage = |folder: &Path| rewrite(folder, |manifest| manifest.schema_version += 1);
    after(damage, |error| matches!(error, CheckpointError::NewerSchema { found: 2, .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_log_is_refused() {
    let damage = |folder: &Path| rewrite(folder, |manifest| manifest.log_id_low ^= 1);
    after(damage, |error| matches!(error, CheckpointError::OtherLog { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_past_the_end_of_the_log_is_refused() {
    let damage = |folder: &Path| rewrite(folder, |manifest| manifest.inputs[0].next_offset += 1_000);
    after(damage, |error| matches!(error, CheckpointError::OutsideLog { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_mean_nothing_are_refused_by_the_shard() {
    let folder = tempfile::tempdir().unwrap();
    let log = prepared(folder.path()).await;
    // A part with a sound checksum and a row of no known table.
    let part = last_part(folder.path());
    let mut bytes = fs::read(&part).unwrap();
    bytes.extend_from_slice(&[1, 1, b'?']);
    fs::write(&part, &bytes).unwrap();
    rewrite(folder.path(), |manifest| {
        let last = manifest.parts.last_mut().unwrap();
        (last.size, last.crc32c) = (bytes.len() as u64, crc32c::crc32c(&bytes));
    });
    let host = start(config(folder.path(), 1, 10), Arc::clone(&log));
    append_lots(&*log, &mut histories(23), 50).await;
    assert_as_modelled(&*log).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_usable_checkpoint_the_log_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = prepared(folder.path()).await;
    for shard in ["conversations-0", "conversations-1", "recipients-0", "recipients-1"] {
        for file in checkpoint_files(folder.path(), shard) {
            flip(&file);
        }
    }
    let host = start(config(folder.path(), 1, 10), Arc::clone(&log));
    append_lots(&*log, &mut histories(24), 50).await;
    assert_as_modelled(&*log).await;
    host.shutdown().await;
}
