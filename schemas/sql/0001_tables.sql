-- The archive's tables, the same for a ClickHouse server and for the embedded engine.
--
-- Every table is a ReplacingMergeTree whose key names a fact once: an insert that is repeated after a crash, or a whole
-- rebuild from the log, leaves the same facts. Read with FINAL, or through the views of 0002, to see each of them once.
-- The engine's own deduplication of inserts (non_replicated_deduplication_window) is not used: it remembers an insert
-- before the insert is there, so after a crash in between it drops the repeat, and the rows are lost.
-- Parts are synced before an insert is acknowledged: the position in `source_positions` never claims more than there is.
-- ${RETENTION_DAYS} is a setting; whole months are dropped once all in them is older.

CREATE TABLE IF NOT EXISTS timeline_entries
(
    conversation_id UUID COMMENT 'the conversation',
    seq UInt64 COMMENT 'place in the conversation: 1, 2, 3 without a gap' CODEC(Delta(8), ZSTD(1)),
    message_id UUID COMMENT 'unique, sorts by time',
    client_message_id String COMMENT 'chosen by the sender; empty for a membership entry' CODEC(ZSTD(1)),
    sender_id UUID COMMENT 'who did it',
    sent_at DateTime64(3, 'UTC') COMMENT 'when it was accepted' CODEC(Delta(8), ZSTD(1)),
    kind LowCardinality(String) COMMENT 'text, media, encrypted or membership',
    text String COMMENT 'as it was sent; see messages for the text as it now is' CODEC(ZSTD(1)),
    attachments Array(Tuple(media_id String, content_type String, name String, size UInt64)) CODEC(ZSTD(1)),
    reply_to Nullable(UUID) COMMENT 'message_id of the message that it answers',
    membership_action LowCardinality(String) COMMENT 'created, added, removed, left, role or renamed; empty for a message',
    membership_user_id Nullable(UUID) COMMENT 'whom it is about',
    membership_by Nullable(UUID) COMMENT 'who did it',
    membership_role LowCardinality(String) COMMENT 'owner, admin or member; empty when no role is given',
    membership_title String COMMENT 'the title that was given' CODEC(ZSTD(1)),
    membership_member_ids Array(UUID) COMMENT 'created only: everyone in it from the start, the creator first',
    conversation_kind LowCardinality(String) COMMENT 'created only: direct or group',
    event String COMMENT 'the original record of topic events, byte for byte (protobuf tidings.v1.Event); empty for a membership entry' CODEC(ZSTD(1)),
    source_partition UInt32 COMMENT 'partition of topic events that it came from',
    source_offset UInt64 COMMENT 'offset in that partition' CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(sent_at)
ORDER BY (conversation_id, seq)
TTL toDateTime(sent_at) + INTERVAL ${RETENTION_DAYS} DAY
SETTINGS index_granularity = 1024, ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS message_changes
(
    conversation_id UUID COMMENT 'the conversation',
    seq UInt64 COMMENT 'the message that was changed' CODEC(Delta(8), ZSTD(1)),
    message_id UUID COMMENT 'the message that was changed',
    sender_id UUID COMMENT 'who had sent it',
    sent_at DateTime64(3, 'UTC') COMMENT 'when it had been sent' CODEC(Delta(8), ZSTD(1)),
    changed_at DateTime64(3, 'UTC') COMMENT 'when it was edited or deleted' CODEC(Delta(8), ZSTD(1)),
    changed_by UUID COMMENT 'who edited or deleted it',
    kind LowCardinality(String) COMMENT 'edited or deleted',
    text String COMMENT 'the text after the edit' CODEC(ZSTD(1)),
    event String COMMENT 'the original record of the send, byte for byte; empty after a deletion' CODEC(ZSTD(1)),
    source_partition UInt32 COMMENT 'partition of topic events that it came from',
    source_offset UInt64 COMMENT 'offset in that partition' CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(sent_at)
ORDER BY (conversation_id, seq, source_partition, source_offset)
TTL toDateTime(sent_at) + INTERVAL ${RETENTION_DAYS} DAY
SETTINGS index_granularity = 1024, ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS inbox_entries
(
    recipient_id UUID COMMENT 'whose stream of updates',
    offset UInt64 COMMENT 'place in that stream: 1, 2, 3 without a gap' CODEC(Delta(8), LZ4),
    at DateTime64(3, 'UTC') COMMENT 'the time of the event' CODEC(Delta(8), LZ4),
    kind LowCardinality(String) COMMENT 'entry, change, receipt or conversation',
    conversation_id UUID COMMENT 'the conversation that it is about',
    seq UInt64 COMMENT 'entry and change: the place in the conversation' CODEC(Delta(8), LZ4),
    message_id UUID COMMENT 'entry and change: the message',
    receipt String COMMENT 'receipt: the cursors (protobuf tidings.v1.ReceiptUpdate)',
    events_partition UInt32 COMMENT 'partition of topic events that it goes back to',
    events_offset UInt64 COMMENT 'offset in that partition' CODEC(Delta(8), LZ4)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (recipient_id, offset)
TTL toDateTime(at) + INTERVAL ${RETENTION_DAYS} DAY
SETTINGS index_granularity = 4096, ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS receipts
(
    conversation_id UUID COMMENT 'the conversation',
    user_id UUID COMMENT 'whose cursors moved',
    delivered_seq UInt64 COMMENT 'delivered up to here' CODEC(Delta(8), LZ4),
    seen_seq UInt64 COMMENT 'seen up to here' CODEC(Delta(8), LZ4),
    moved_at DateTime64(3, 'UTC') COMMENT 'the time of the event' CODEC(Delta(8), LZ4),
    source_partition UInt32 COMMENT 'partition of topic events that it came from',
    source_offset UInt64 COMMENT 'offset in that partition' CODEC(Delta(8), LZ4)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(moved_at)
ORDER BY (conversation_id, user_id, source_partition, source_offset)
TTL toDateTime(moved_at) + INTERVAL ${RETENTION_DAYS} DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;

-- How far each partition of the log has been archived. `planned_end` above `next_offset` says that the records between
-- them are being inserted in the batch `batch`: after a crash the same range is inserted again under the same token.
CREATE TABLE IF NOT EXISTS source_positions
(
    topic LowCardinality(String) COMMENT 'topic of the log, such as timeline.v1',
    partition UInt32 COMMENT 'its partition',
    next_offset UInt64 COMMENT 'everything below is in the archive',
    next_source_offset UInt64 COMMENT 'everything that came from below this offset of the topic before is in the archive: a repeat is dropped',
    planned_end UInt64 COMMENT 'the end of the range that is being inserted; equal to next_offset when there is none',
    batch String COMMENT 'the batch that is being inserted, or was last',
    version UInt64 COMMENT 'the newest row counts',
    written_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when this row was written'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
