-- Days and hours that are over, counted once: what they come from is far more than a query may read again each time.
-- Nobody is named here, so these rows stay when what was counted is gone. Written by dataflow/src/archive/summaries.rs.

CREATE TABLE IF NOT EXISTS daily_summaries
(
    day Date COMMENT 'the day, in UTC',
    active_users UInt64 COMMENT 'users who sent a message, moved a cursor or opened a session',
    senders UInt64 COMMENT 'users who sent a message',
    readers UInt64 COMMENT 'users whose cursors moved',
    connected_users UInt64 COMMENT 'users who opened a session',
    known_at DateTime64(3, 'UTC') COMMENT 'what was in the archive then is counted',
    written_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'the row written last counts'
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY day
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS hourly_summaries
(
    hour DateTime('UTC') COMMENT 'the hour in which the messages were sent',
    deliveries UInt64 COMMENT 'messages times their recipients',
    delivered UInt64 COMMENT 'how many of them were delivered within a day',
    seen UInt64 COMMENT 'how many of them were seen within a day',
    delivered_seconds_p50 Nullable(Float64) COMMENT 'half of those were delivered within so many seconds',
    delivered_seconds_p95 Nullable(Float64) COMMENT '95 % were',
    delivered_seconds_p99 Nullable(Float64) COMMENT '99 % were',
    seen_seconds_p50 Nullable(Float64) COMMENT 'half of those were seen within so many seconds',
    seen_seconds_p95 Nullable(Float64) COMMENT '95 % were',
    known_at DateTime64(3, 'UTC') COMMENT 'what was in the archive then is counted',
    written_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'the row written last counts'
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY hour
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
