//! Every bound in the system, by name, with its unit last. What happens at each is said here; nothing grows without one.
//! Those that an operator may change are settings whose defaults stand here.

use std::time::Duration;

// ---- client contract ----

/// Text of a message, in bytes of UTF-8. Over: `too_large`.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Attachments of a message. Over: `invalid_argument`.
pub const MESSAGE_ATTACHMENTS_MAX: usize = 10;
/// A WebSocket frame (and message) from a client. Over: close 4504.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// An HTTP body that is not media. Over: `too_large`.
pub const HTTP_BODY_BYTES_MAX: usize = 256 * 1024;
/// An id, a device id or a client_message_id, in bytes. Over: `invalid_argument`.
pub const ID_BYTES_MAX: usize = 64;
/// A user name, in characters. Over: `invalid_argument`.
pub const USERNAME_CHARS_MAX: usize = 64;
/// A display name or a conversation's title, in characters. Over: `invalid_argument`.
pub const TITLE_CHARS_MAX: usize = 128;
/// A password, in bytes: as short and as long as one may be. Outside: `invalid_argument`.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;
/// Members of a group, by default. Over: `conversation_full`.
pub const GROUP_MEMBERS_DEFAULT_MAX: u32 = 100;
/// Members of a group, at the most that the setting allows.
pub const GROUP_MEMBERS_SETTING_MAX: u32 = 1_000;
/// Users whose presence a session watches. Over: `invalid_argument`.
pub const PRESENCE_WATCHES_MAX: usize = 1_000;
/// Items in a page of HTTP results: the default and the most.
pub const PAGE_ITEMS_DEFAULT: usize = 50;
/// See [`PAGE_ITEMS_DEFAULT`]. Over: cut to it.
pub const PAGE_ITEMS_MAX: usize = 200;
/// Items in a page of `/v1/updates`.
pub const UPDATES_PAGE_ITEMS_MAX: usize = 1_000;

/// `hello` must come within this. Else: close 4500.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a client is asked to send `heartbeat`.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(25);
/// Heartbeats that may be missed before a session without a goodbye counts as offline.
pub const HEARTBEATS_MISSED_MAX: u32 = 2;
/// After a goodbye, a user is offline only after this, so that a reconnect shows no flicker.
pub const PRESENCE_GRACE: Duration = Duration::from_secs(10);
/// The server pings a connection this often.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Unanswered pings before close 4002.
pub const PINGS_UNANSWERED_MAX: u32 = 2;
/// How long a command waits for its verdict before `queued` (a send) or `unavailable` (the rest).
pub const VERDICT_TIMEOUT: Duration = Duration::from_secs(5);

// ---- conversations stage ----

/// A repeat of a client_message_id within this much event time yields the first message.
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// Messages of a shard whose client_message_id is remembered. Over: the oldest are forgotten before their time, counted.
pub const DEDUPE_ENTRIES_MAX: u64 = 8_388_608;
/// Deleted messages of a shard that are remembered for the same time. Over: the oldest are forgotten.
pub const DELETIONS_REMEMBERED_MAX: usize = 1_048_576;
/// How far an edge's stamp may stand from the record's append time. Beyond: moved to this bound.
pub const STAMP_SKEW_MAX: Duration = Duration::from_secs(60);
/// Earlier stays of a member that are kept, so that what was said in them stays readable. More: the oldest is forgotten.
pub const PAST_STAYS_MAX: usize = 16;

// ---- the log ----

/// One record's key and value. Over: refused.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Keys and values of one append call, which becomes durable as one. Over: refused.
pub const APPEND_CALL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What one write and sync of the log takes from its queue, if it is not a single larger call.
pub const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One file of the log's journal; the file is written whole when made, and used again.
pub const JOURNAL_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Journal files that wait to be split into partitions. Over: appends wait, then `unavailable`.
pub const JOURNAL_SEGMENTS_SEALED_MAX: usize = 16;
/// One file of a partition: what retention drops at a time.
pub const PARTITION_SEGMENT_BYTES: u64 = 128 * 1024 * 1024;
/// A partition's file is closed at this age, so that retention by time can drop it.
pub const PARTITION_SEGMENT_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// One checksummed block of a partition's file, if it is not a single larger record.
pub const PARTITION_BLOCK_BYTES: usize = 64 * 1024;
/// Partitions of all topics of one embedded log. Over: it is not made.
pub const PARTITIONS_MAX: usize = 4_096;
/// How often retention looks for files to drop.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes waiting to be appended in one process. Over: `unavailable`.
pub const APPEND_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Records waiting to be appended in one process. Over: `unavailable`.
pub const APPEND_QUEUE_RECORDS_MAX: usize = 262_144;
/// Recent records of a partition that are kept in memory for live readers. Over: the oldest leave.
pub const TAIL_CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records of one partition that are on their way to Kafka together, if they are not of a single larger call.
pub const KAFKA_GROUP_RECORDS_MAX: usize = 10_000;
/// One batch of records as Kafka stores it, if it is not a single larger record.
pub const KAFKA_BATCH_BYTES: usize = 1024 * 1024;
/// A reader that need not have each record by itself waits for so much from a broker of Kafka at a time, or for so long.
pub const KAFKA_STEADY_FETCH_BYTES: usize = 32 * 1024;
/// See [`KAFKA_STEADY_FETCH_BYTES`].
pub const KAFKA_STEADY_FETCH_WAIT: Duration = Duration::from_millis(20);
/// A reader that is in no hurry waits for so much from a broker of Kafka at a time, or for so long.
pub const KAFKA_PATIENT_FETCH_BYTES: usize = 256 * 1024;
/// See [`KAFKA_PATIENT_FETCH_BYTES`].
pub const KAFKA_PATIENT_FETCH_WAIT: Duration = Duration::from_millis(250);
/// How long a reader of Kafka may have nothing before it is asked whether there is more: at first, and at the most.
pub const KAFKA_SILENCE_MIN: Duration = Duration::from_secs(3);
/// See [`KAFKA_SILENCE_MIN`].
pub const KAFKA_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Readers of one partition of Kafka in one process, of each kind. Over: no more can be opened.
pub const KAFKA_READERS_PER_PARTITION_MAX: usize = 16;
/// Who waits to be told what a partition of Kafka holds, in one process. Over: `unavailable`.
pub const KAFKA_RANGES_WAITING_MAX: usize = 65_536;
/// How long a replay waits for records that are on the log. Over: it ends with an error.
pub const SCAN_PATIENCE: Duration = Duration::from_secs(30);
/// How long one reader of a replay may give nothing of what is there, before another is opened in its place.
pub const SCAN_REOPEN_AFTER: Duration = Duration::from_secs(3);
/// How far the log's clock is taken to have stepped back at most, where records are looked for by time. More: records are
/// missed at the ends of the range.
pub const CLOCK_STEP_BACK_MAX: Duration = Duration::from_secs(60 * 60);
/// Direct chats whose two users a replay keeps in mind to map ids. Over: it ends with an error.
pub const REPLAY_DIRECT_CHATS_MAX: usize = 8 * 1024 * 1024;
/// Records of one partition that verification keeps in mind to say that they are out of order, not missing. Over: they are
/// counted as missing.
pub const VERIFY_REMEMBERED_MAX: usize = 65_536;
/// Shards that a thread of verification takes through side by side, all with their state in memory, to read `fanout` once.
pub const VERIFY_TOGETHER_MAX: usize = 16;
/// Bytes of `fanout` that a thread of verification puts by for another of them. Over: one reads on alone.
pub const VERIFY_PUT_BY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How far from its inbox record a push is looked for when an event is traced. Pushed later: it is not found.
pub const TRACE_PUSH_DELAY_MAX: Duration = Duration::from_secs(10);
/// Events that a derivation takes through the stages in one turn.
pub const DERIVE_TURN_EVENTS_MAX: usize = 1_024;
/// One line of what another program has derived. Over: it is not believed.
pub const DERIVE_LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Turns of each side of a comparison that wait for the other side.
pub const DIFF_TURNS_WAITING_MAX: usize = 4;
/// Owners whose rows in old and new views seem to differ and are looked at again, side by side. Over: the rest is said to
/// be undecided.
pub const REBUILD_SUSPECTS_MAX: usize = 1_000_000;
/// So many of them are looked at together, and so often while their rows change.
pub const REBUILD_SUSPECTS_TOGETHER: usize = 256;
/// See [`REBUILD_SUSPECTS_TOGETHER`].
pub const REBUILD_LOOKS_MAX: usize = 20;
/// How long the old views may take to be where the new ones are. Over: what differs is undecided.
pub const REBUILD_OLD_WAIT: Duration = Duration::from_secs(10);
/// How often a switch from the old to the new views is tried: it needs a moment in which nothing was applied to the old
/// that is not in the new.
pub const REBUILD_SWITCHES_MAX: usize = 1_000;
/// Rows of a table of the archive whose hashes are compared at a time. More: the table is compared in slices.
pub const REBUILD_SLICE_ROWS: u64 = 4_000_000;
/// How often a rebuild follows the archive's writer before it takes the old tables' place.
pub const REBUILD_ROUNDS_MAX: usize = 8;
/// Parts by key in which verification compares the log with the archive.
pub const VERIFY_ARCHIVE_BUCKETS: u32 = 4_096;
/// Rows of the archive that verification holds at a time to say which of them differ.
pub const VERIFY_ARCHIVE_ROWS_MAX: u64 = 200_000;
/// Rows of one group of a Parquet file, which is made in memory.
pub const PARQUET_GROUP_ROWS: usize = 65_536;
/// Bytes of one.
pub const PARQUET_GROUP_BYTES: usize = 64 * 1024 * 1024;
/// What a reader takes in one poll.
pub const POLL_BYTES_MAX: usize = 1024 * 1024;

// ---- dataflow ----

/// Records that a shard takes in before it lets its outputs out.
pub const SHARD_BATCH_RECORDS_MAX: usize = 4_096;
/// Bytes of output of a shard that are not yet durable. Over: it takes in nothing more.
pub const SHARD_IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Output of a shard in one append. Over: the rest goes in the next.
pub const SHARD_APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Output of one turn of a shard past which its next turn takes in fewer records.
pub const SHARD_TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a shard takes in from one topic in one turn.
pub const SHARD_POLL_BYTES_MAX: usize = 512 * 1024;
/// How often a shard is checkpointed.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Deltas after which a new base is written.
pub const CHECKPOINT_DELTAS_MAX: usize = 32;
/// Size of one object of a checkpoint. Over: another is begun.
pub const CHECKPOINT_PART_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a checkpoint that are checked and laid over one another at once. More: on a thread for blocking work.
pub const CHECKPOINT_INLINE_BYTES_MAX: usize = 64 * 1024;
/// An owner whose shard was taken over writes checkpoints again when the other has written none for this many intervals.
pub const CHECKPOINT_SILENT_INTERVALS: u32 = 12;
/// Manifests of a shard that are kept.
pub const CHECKPOINTS_KEPT: usize = 3;
/// How long the host waits before it tries again when the log or the checkpoints cannot be read: at first, and at the most.
pub const SHARD_RETRY_BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);
/// How often the host looks how far its shards are behind the log's end.
pub const SHARD_LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How long a shard that is given up in order waits for its last outputs, and then for its last checkpoint.
pub const SHARD_SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// See [`SHARD_SETTLE_PATIENCE`].
pub const SHARD_LAST_CHECKPOINT_PATIENCE: Duration = Duration::from_secs(10);
/// How finely presence deadlines are told apart; they are rounded up to it.
pub const PRESENCE_TICK: Duration = Duration::from_secs(1);
/// Live sessions of one user. Over: the session gets no `Attached`, so its edge gives it up with `unavailable`.
pub const SESSIONS_PER_USER_MAX: usize = 64;

// ---- views ----

/// Entries of a conversation that the views keep; older ones are read from the archive.
pub const ENTRIES_TAIL_MAX: u64 = 1_000;
/// Updates of a user that the views keep; older ones are read from the archive.
pub const INBOX_TAIL_MAX: u64 = 10_000;
/// Rows of one scan.
pub const VIEW_SCAN_ROWS_MAX: usize = 10_000;
/// How long a reader waits for the views to reach a position. Over: `unavailable`.
pub const VIEW_WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The sort part of a view's key (the longest is a user name, in UTF-8). Over: the row is refused.
pub const VIEW_SORT_BYTES_MAX: usize = 512;
/// A tail is trimmed each time that it has grown by this much, so it holds up to this many rows more than its bound.
pub const VIEW_TRIM_ROWS: u64 = 1_000;
/// The embedded views' page cache, by default.
pub const VIEW_STORE_CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Rows of the embedded views in memory before they are written out to a table, by default.
pub const VIEW_STORE_MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// So many times as much may be in memory while the disk is slow. Over: a batch waits, then is refused as unavailable.
pub const VIEW_STORE_MEMTABLES_MAX: u64 = 4;
/// How long a batch waits for that.
pub const VIEW_STORE_MEMORY_WAIT: Duration = Duration::from_secs(10);
/// Tables of the embedded views that wait to be written out, or to be merged, before a batch waits, too, and for as long.
pub const VIEW_STORE_UNWRITTEN_TABLES_MAX: usize = 3;
/// See `VIEW_STORE_UNWRITTEN_TABLES_MAX`. Each costs a read a look.
pub const VIEW_STORE_UNMERGED_TABLES_MAX: usize = 25;
/// Free space on the disk without which the embedded views' store is not opened anew after an error of the disk.
pub const VIEW_STORE_ROOM_BYTES: usize = 1024 * 1024;
/// How long until that is tried: at first, and at the most.
pub const VIEW_STORE_REOPEN_BACKOFF: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(1);
/// The embedded views' journal on disk. Over: what holds its oldest part is written out.
pub const VIEW_STORE_JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// How often the embedded views' journal is synced: what a power cut may take away, to be applied again from the log.
pub const VIEW_STORE_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Keys of one read of the embedded views, and rows of one scan, that are read on the caller's own thread. More: on a
/// thread for blocking work.
pub const VIEW_INLINE_READS_MAX: usize = 128;
/// Rows that the projection of the views keeps at hand because it changes them again and again. Over: the least used leave.
pub const VIEW_PROJECTION_ROWS_CACHED_MAX: usize = 131_072;
/// What the projection of the views takes from one partition before it applies it.
pub const VIEW_PROJECTION_POLL_BYTES: usize = 64 * 1024;
/// What it takes from all partitions before it applies it: one store may do nothing else while it applies. More: the
/// other partitions come first in the next batch.
pub const VIEW_PROJECTION_BATCH_BYTES: usize = 256 * 1024;
/// How often the projection of the views looks whether their store still stands where it left it.
pub const VIEW_CONFIRM_INTERVAL: Duration = Duration::from_secs(1);
/// Under load the projection of the views applies at most this often, so that what changes again and again is written
/// once. After a pause it applies at once.
pub const VIEW_APPLY_INTERVAL: Duration = Duration::from_millis(5);
/// How long the projection of the views waits before it tries again when their store does not answer: at first, and at
/// the most.
pub const VIEW_RETRY_BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(2);
/// A call to the views in Redis, by default. Over: `unavailable`.
pub const VIEW_REDIS_CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls of one process to the views in Redis that are under way at once. More wait, up to their time-out.
pub const VIEW_REDIS_CALLS_MAX: usize = 1_024;
/// How long the connection to Redis waits before it is made again: the first time and at the most.
pub const VIEW_REDIS_RECONNECT: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);
/// How often one who waits for a position of the views in Redis looks by itself, should it not be told.
pub const VIEW_REDIS_POLL: Duration = Duration::from_millis(250);
/// Keys that are looked at, and dropped, at a time when the views in Redis are another log's.
pub const VIEW_REDIS_DROP_KEYS: usize = 1_000;
/// A process that drops the views in Redis and has not come to its end after this may be dead: another goes on with it.
pub const VIEW_REDIS_DROP_TAKEOVER: Duration = Duration::from_secs(5);

/// How long retired rows of the embedded views wait for the last who reads them. Over: they stay on the disk until the next
/// start.
pub const VIEW_RETIRE_WAIT: Duration = Duration::from_secs(30);

// ---- edge ----

/// Connections of one edge. Over: close 4003.
pub const CONNECTIONS_MAX: usize = 50_000;
/// Bytes waiting to be written to one connection. Past half of it typing and presence are dropped; past all: close 4001.
pub const OUTGOING_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Commands of one connection that wait for a verdict. Over: nothing more is read from it.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 256;
/// What clients are asked to wait before they try again what the log did not take.
pub const LOG_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Requests of one edge that wait for a verdict. Over: `unavailable`.
pub const VERDICTS_PENDING_MAX: usize = 262_144;
/// A group's receipts leave an edge at most this often, in one batch.
pub const RECEIPT_BATCH_INTERVAL: Duration = Duration::from_millis(250);
/// An edge's heartbeats leave it this often.
pub const HEARTBEAT_BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Sends of one user each second, and how many may come at once. Over: `rate_limited`.
pub const USER_SENDS_PER_SECOND: u32 = 50;
/// See [`USER_SENDS_PER_SECOND`].
pub const USER_SENDS_BURST: u32 = 200;
/// Requests without a user (accounts, tokens, connects) of one address each second, and how many may come at once.
pub const ADDRESS_REQUESTS_PER_SECOND: u32 = 20;
/// See [`ADDRESS_REQUESTS_PER_SECOND`].
pub const ADDRESS_REQUESTS_BURST: u32 = 100;
/// User profiles that an edge keeps in memory. Over: those not asked for lately leave.
pub const PROFILES_CACHED_MAX: usize = 16_384;
/// Older history that an edge keeps in memory, by default, in bytes. Over: what was not asked for lately leaves.
pub const HISTORY_CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Entries that it keeps or drops at a time.
pub const HISTORY_BLOCK_ENTRIES: u64 = 64;
/// How long it keeps them at the most, so that what retention takes from the archive goes here, too.
pub const HISTORY_CACHE_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// Password hashes that an edge works on at once, and requests that may wait for that. Over: `unavailable`.
pub const PASSWORD_HASHES_RUNNING_MAX: usize = 2;
/// See [`PASSWORD_HASHES_RUNNING_MAX`].
pub const PASSWORD_HASHES_WAITING_MAX: usize = 256;
/// A token, in bytes. Over: `unauthenticated`.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Tokens of one user that were ended before their time and are remembered until they expire. Over: all tokens as old as
/// the oldest of them end with it, so that none comes back.
pub const REVOKED_TOKENS_MAX: usize = 64;
/// Users whose tokens' standing an edge remembers. Over: all are forgotten and read again.
pub const TOKEN_STANDINGS_CACHED_MAX: usize = 65_536;
/// How long an edge takes a token's standing for known without reading it again. An edge learns of an ended token from
/// the log long before; this bounds what a read that crossed with it can do.
pub const TOKEN_STANDING_AGE_MAX: Duration = Duration::from_secs(5);
/// How long a token that the edge gives is valid, by default.
pub const TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// An HTTP request from its head to its response. Over: `unavailable`.
pub const HTTP_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Conversations of one user that are looked through for one page. Over: the rest are not listed, which is counted.
pub const CONVERSATIONS_LISTED_MAX: usize = 100_000;
/// Files of the built web client, all together, that an edge keeps in memory. Over: none is served.
pub const WEB_ASSETS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// An edge that has not renewed its lease for this long may lose its number to another.
pub const EDGE_LEASE_DURATION: Duration = Duration::from_secs(10);
/// An edge renews its lease this often.
pub const EDGE_LEASE_RENEW_INTERVAL: Duration = Duration::from_secs(3);
/// How long an edge that goes away waits for its clients to leave.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after `queued` a verdict is still awaited, so that a refusal reaches the client as `rejected`. Over: the
/// client learns of it by sending again.
pub const LATE_VERDICT_WAIT: Duration = Duration::from_secs(60);
/// A frame before `hello` has been accepted: enough for a token, too little to be worth an attack. Over: close 4504.
pub const HELLO_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Answers to `hello` that put the end of a user's stream before where the device is. So many: it must resync.
pub const ATTACHED_BEHIND_MAX: u32 = 3;
/// Live updates that are held for a session while it catches up. Over: they are dropped here and read again.
pub const CATCH_UP_HELD_UPDATES_MAX: usize = 256;
/// Updates that a session catching up reads at a time.
pub const CATCH_UP_PAGE_ITEMS: usize = 1_000;
/// A session's signs of life are passed on at most this often.
pub const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(5);
/// Signals of one partition that wait for an append. Over: typing is dropped; over twice as many: the rest, too (counted).
pub const SIGNALS_PENDING_MAX: usize = 65_536;
/// Conversations whose receipts are being spaced out, and receipts that wait. Over: `unavailable`.
pub const RECEIPTS_PENDING_MAX: usize = 262_144;
/// Known members that the receipts' check remembers. Over: those of an earlier round are forgotten.
pub const MEMBERSHIP_CACHE_MAX: usize = 131_072;
/// How long a remembered member is taken for one without asking again (the stage checks anyway).
pub const MEMBERSHIP_CACHE_AGE_MAX: Duration = Duration::from_secs(60);
/// One session's `typing` of one conversation is passed on at most this often. Over: dropped.
pub const TYPING_INTERVAL: Duration = Duration::from_secs(1);
/// How often an edge tells the others what users have spent of their rate limits.
pub const SPENDING_INTERVAL: Duration = Duration::from_secs(1);
/// Told is who has spent at least this part of a second's rate in it: one in so many. So one at fewer edges than this has
/// the limit of one edge, and one at more has at most so many times less than all of theirs.
pub const SPENDING_SHARE_TOLD: u32 = 8;
/// Users of whom it is told at a time: those who have spent most.
pub const SPENDING_USERS_MAX: usize = 1_024;
/// Users, and addresses, whose rates are followed. Over: the longest idle are forgotten.
pub const RATE_LIMIT_KEYS_MAX: usize = 65_536;
/// After the close frame the server waits this long for the client's.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);
/// A TLS handshake, and then the head of an HTTP request (and of the WebSocket handshake), must come within this. Else:
/// closed.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the certificate's files are looked at. What is renewed is in use within this.
pub const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(60);
/// The head of an HTTP request, in bytes. Over: 431 and closed.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;

// ---- erasure ----

/// Texts that are searched for after an erasure. More are counted, and not searched for one by one.
pub const ERASURE_NEEDLES_MAX: usize = 10_000;
/// Of each text, how many bytes must be there for it to be searched for, and how many of it are.
pub const ERASURE_NEEDLE_BYTES: std::ops::RangeInclusive<usize> = 8..=64;
/// Users who are erased in one run.
pub const ERASURE_USERS_MAX: usize = 1_000;
/// How long the archive may take to rewrite what holds erased rows.
pub const ERASURE_ARCHIVE_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);
/// How often the archive takes the content of deleted messages out of its rows: at the latest so long after the deletion, and
/// after the time that rewriting takes, it is gone from there, too.
pub const ARCHIVE_ERASURE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

// ---- archive ----

/// Rows of one insert.
pub const ARCHIVE_BATCH_ROWS_MAX: usize = 65_536;
/// Bytes of one insert.
pub const ARCHIVE_BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// From the start of one insert to the start of the next, at the least, unless there is a whole batch: what comes meanwhile
/// goes into one insert. A row is to be seen within two seconds of its event, on a busy machine too.
pub const ARCHIVE_BATCH_INTERVAL: Duration = Duration::from_millis(600);
/// After a round of inserts in which each partition has its own, as in a fleet.
pub const ARCHIVE_ROUND_PAUSE: Duration = Duration::from_secs(1);
/// How long the first record after a pause waits for those that come with it.
pub const ARCHIVE_BATCH_GATHER: Duration = Duration::from_millis(100);
/// Records of a partition of `signals` without a session in them that the archive reads before it writes down how far it
/// is. After a restart it reads so many again at the most.
pub const ARCHIVE_ROWLESS_RECORDS_MAX: u64 = 10_000;
/// A call to the archive. Over: `unavailable`.
pub const ARCHIVE_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// An insert into the archive. Over: it is tried again.
pub const ARCHIVE_INSERT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an insert that failed waits before it is tried again: the first time and at the most.
pub const ARCHIVE_RETRY_DELAY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(10);
/// Memory of the embedded engine's queries, inserts and merges, in bytes. Over: the statement fails.
pub const ARCHIVE_MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Reads of history that run at once. More wait.
pub const ARCHIVE_READERS_MAX: usize = 2;
/// Reads of history that wait. Over: `unavailable`.
pub const ARCHIVE_READS_WAITING_MAX: usize = 256;
/// Reads of history from a ClickHouse server that one process runs at once. More wait, up to the time-out of a call.
pub const ARCHIVE_HTTP_READS_MAX: usize = 32;
/// Rows of one read of history. Over: cut to it.
pub const ARCHIVE_READ_ROWS_MAX: usize = 1_000;
/// How long rows stay in the archive, in days: a setting's default.
pub const ARCHIVE_RETENTION_DAYS: u32 = 365;
/// How often the archive counts the days and hours that are over.
pub const ARCHIVE_SUMMARY_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long after its end a day or an hour is counted for the first time: all of it is in the archive by then.
pub const ARCHIVE_SUMMARY_SETTLE: Duration = Duration::from_secs(5 * 60);
/// Hours that are counted together have at most this many messages, unless it is one hour; and are at most this many.
pub const ARCHIVE_SUMMARY_MESSAGES_MAX: u64 = 1_000_000;
/// See [`ARCHIVE_SUMMARY_MESSAGES_MAX`].
pub const ARCHIVE_SUMMARY_HOURS_MAX: u64 = 24;
/// How long counting them may take, so many at a time. The end of the program may have to wait for it.
pub const ARCHIVE_SUMMARY_TIMEOUT: Duration = Duration::from_secs(60);
/// What counting them may take of the embedded engine's memory.
pub const ARCHIVE_SUMMARY_MEMORY_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Connections to the archive's SQL port. Over: they wait to be accepted.
pub const ARCHIVE_SQL_CONNECTIONS_MAX: usize = 64;
/// SQL statements of analysts that run at once. More wait, at most `ARCHIVE_SQL_WAIT_MAX`; then refused with 503.
pub const ARCHIVE_SQL_QUERIES_MAX: usize = 2;
/// See [`ARCHIVE_SQL_QUERIES_MAX`].
pub const ARCHIVE_SQL_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long an analyst's SQL statement may run: a setting's default. Over: cancelled.
pub const ARCHIVE_SQL_TIME_MAX: Duration = Duration::from_secs(60);
/// Rows of the result of an analyst's SQL statement: a setting's default. Over: refused.
pub const ARCHIVE_SQL_RESULT_ROWS_MAX: u64 = 1_000_000;
/// Rows that an analyst's SQL statement reads from tables: a setting's default. Over: refused.
pub const ARCHIVE_SQL_ROWS_TO_READ_MAX: u64 = 2_000_000_000;
/// Threads of one SQL statement.
pub const ARCHIVE_SQL_THREADS_MAX: usize = 2;
/// An analyst's SQL statement, in bytes. Over: 400.
pub const ARCHIVE_SQL_QUERY_BYTES_MAX: usize = 256 * 1024;
/// A body sent to the archive's SQL port. Over: 413.
pub const ARCHIVE_SQL_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The result of an analyst's SQL statement, in bytes. Over: refused (read less, or in pages).
pub const ARCHIVE_SQL_RESULT_BYTES_MAX: usize = 64 * 1024 * 1024;
