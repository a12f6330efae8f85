-- Sessions, from topic `signals`: opened and closed. (Heartbeats are not archived: there are as many as seconds.)

CREATE TABLE IF NOT EXISTS session_events
(
    user_id UUID COMMENT 'whose session',
    session_id UInt64 COMMENT 'the session, by the edge that has it',
    kind LowCardinality(String) COMMENT 'opened or closed',
    at DateTime64(3, 'UTC') COMMENT 'when, by the edge''s clock' CODEC(Delta(8), LZ4),
    device_id String COMMENT 'opened only: the client''s name for its device' CODEC(ZSTD(1)),
    is_clean Bool COMMENT 'closed only: whether the client said goodbye',
    edge_id UInt32 COMMENT 'the edge that has the session',
    edge_run UInt64 COMMENT 'grows with each start of that edge: sessions of an earlier run are gone',
    source_partition UInt32 COMMENT 'partition of topic signals that it came from',
    source_offset UInt64 COMMENT 'offset in that partition' CODEC(Delta(8), LZ4)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (user_id, session_id, kind, source_partition, source_offset)
TTL toDateTime(at) + INTERVAL ${RETENTION_DAYS} DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;
