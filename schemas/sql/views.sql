-- The views that people ask, described in docs/ANALYTICS.md. Each fact shows once; every column says what it is.
--
-- These are made anew whenever this text changes: change it here, and there is nothing to migrate.
--
-- They are written so that a condition on a conversation, a recipient or a time reaches the tables' indexes: whoever
-- groups or numbers rows does it by those columns. What an entry is (`kind`) never changes between message and
-- membership, so FINAL may come after that condition (PREWHERE), and need not merge what is not asked for.

CREATE OR REPLACE VIEW messages
(
    conversation_id UUID COMMENT 'the conversation',
    seq UInt64 COMMENT 'place in the conversation; membership entries have places, too',
    message_id UUID COMMENT 'unique, sorts by time',
    client_message_id String COMMENT 'chosen by the sender',
    sender_id UUID COMMENT 'who sent it',
    sent_at DateTime64(3, 'UTC') COMMENT 'when it was accepted',
    kind LowCardinality(String) COMMENT 'text, media or encrypted',
    text String COMMENT 'the text as it now is: after the last edit; empty when deleted or encrypted',
    attachments Array(Tuple(media_id String, content_type String, name String, size UInt64)) COMMENT 'what is attached; nothing when deleted',
    reply_to Nullable(UUID) COMMENT 'message_id of the message that it answers',
    edited_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when it was last edited',
    deleted_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when it was deleted'
)
AS SELECT
    entry.conversation_id AS conversation_id,
    entry.seq AS seq,
    entry.message_id AS message_id,
    entry.client_message_id AS client_message_id,
    entry.sender_id AS sender_id,
    entry.sent_at AS sent_at,
    entry.kind AS kind,
    multiIf(change.is_deleted, '', change.is_edited, change.text, entry.text) AS text,
    if(change.is_deleted, [], entry.attachments) AS attachments,
    entry.reply_to AS reply_to,
    if(change.is_edited AND NOT change.is_deleted, change.changed_at, NULL) AS edited_at,
    if(change.is_deleted, change.changed_at, NULL) AS deleted_at
FROM
(
    SELECT conversation_id, seq, message_id, client_message_id, sender_id, sent_at, kind, text, attachments, reply_to
    FROM timeline_entries FINAL
    WHERE kind != 'membership'
) AS entry
LEFT JOIN
(
    -- A deletion is final; among edits the last one counts. The time of sending, the same in both, lets a condition on it
    -- leave out months here, too.
    SELECT
        conversation_id,
        seq,
        sent_at,
        true AS is_edited,
        max(kind = 'deleted') AS is_deleted,
        argMax(text, (kind = 'deleted', source_offset)) AS text,
        argMax(changed_at, (kind = 'deleted', source_offset)) AS changed_at
    FROM message_changes
    GROUP BY conversation_id, seq, sent_at
) AS change ON entry.conversation_id = change.conversation_id AND entry.seq = change.seq AND entry.sent_at = change.sent_at
COMMENT 'messages that people sent, as they now are';

CREATE OR REPLACE VIEW conversations
(
    conversation_id UUID COMMENT 'the conversation',
    kind LowCardinality(String) COMMENT 'direct or group',
    title String COMMENT 'the title that it now has; empty for a direct conversation',
    created_at DateTime64(3, 'UTC') COMMENT 'when it was created',
    created_by UUID COMMENT 'who created it',
    members UInt64 COMMENT 'how many are in it now',
    messages UInt64 COMMENT 'how many messages were sent, those that were deleted included',
    last_message_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the last one was sent'
)
AS SELECT
    conversation_id,
    anyIf(conversation_kind, membership_action = 'created') AS kind,
    argMaxIf(membership_title, seq, membership_action IN ('created', 'renamed')) AS title,
    minIf(sent_at, membership_action = 'created') AS created_at,
    anyIf(sender_id, membership_action = 'created') AS created_by,
    toUInt64(greatest(0, sum(multiIf(
        membership_action = 'created', toInt64(length(membership_member_ids)),
        membership_action = 'added', 1,
        membership_action IN ('removed', 'left'), -1,
        0)))) AS members,
    countIf(timeline_entries.kind != 'membership') AS messages,
    maxOrNullIf(sent_at, timeline_entries.kind != 'membership') AS last_message_at
FROM timeline_entries FINAL
GROUP BY conversation_id
COMMENT 'conversations as they now are';

CREATE OR REPLACE VIEW membership_changes
(
    conversation_id UUID COMMENT 'the conversation',
    seq UInt64 COMMENT 'place in the conversation',
    changed_at DateTime64(3, 'UTC') COMMENT 'when it was',
    action LowCardinality(String) COMMENT 'created, added, removed, left, role or renamed',
    user_id Nullable(UUID) COMMENT 'whom it is about',
    changed_by Nullable(UUID) COMMENT 'who did it',
    role LowCardinality(String) COMMENT 'owner, admin or member; empty when no role is given',
    title String COMMENT 'the title that was given',
    member_ids Array(UUID) COMMENT 'created only: everyone in it from the start, the creator first',
    conversation_kind LowCardinality(String) COMMENT 'created only: direct or group'
)
AS SELECT
    conversation_id,
    seq,
    sent_at AS changed_at,
    membership_action AS action,
    membership_user_id AS user_id,
    membership_by AS changed_by,
    membership_role AS role,
    membership_title AS title,
    membership_member_ids AS member_ids,
    conversation_kind
FROM timeline_entries FINAL
PREWHERE kind = 'membership'
COMMENT 'who was added to, removed from and left which conversation, was given which role, and what it was named';

CREATE OR REPLACE VIEW membership_roles
(
    conversation_id UUID COMMENT 'the conversation',
    user_id UUID COMMENT 'the member',
    stay UInt64 COMMENT '1 for the first time that the user was in it, 2 for the next',
    role LowCardinality(String) COMMENT 'owner, admin or member',
    since_at DateTime64(3, 'UTC') COMMENT 'from when the user had that role',
    since_seq UInt64 COMMENT 'the entry that gave it',
    until_at Nullable(DateTime64(3, 'UTC')) COMMENT 'until when; NULL: now',
    until_seq Nullable(UInt64) COMMENT 'the entry that took it; NULL: none'
)
AS SELECT conversation_id, user_id, stay, role, at AS since_at, seq AS since_seq, next_at AS until_at, next_seq AS until_seq
FROM
(
    SELECT
        conversation_id,
        user_id,
        seq,
        at,
        action,
        role,
        countIf(action IN ('created', 'added')) OVER (PARTITION BY conversation_id, user_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS stay,
        leadInFrame(toNullable(at)) OVER (PARTITION BY conversation_id, user_id ORDER BY seq ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next_at,
        leadInFrame(toNullable(seq)) OVER (PARTITION BY conversation_id, user_id ORDER BY seq ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next_seq
    FROM
    (
        SELECT
            conversation_id,
            seq,
            sent_at AS at,
            membership_action AS action,
            user_id,
            multiIf(
                membership_action = 'created', if(conversation_kind = 'group' AND user_id = membership_member_ids[1], 'owner', 'member'),
                membership_action = 'added' AND membership_role = '', 'member',
                membership_role) AS role
        FROM timeline_entries FINAL
        ARRAY JOIN if(membership_action = 'created', membership_member_ids, [assumeNotNull(membership_user_id)]) AS user_id
        PREWHERE kind = 'membership'
        WHERE membership_action IN ('created', 'added', 'removed', 'left', 'role')
    )
)
WHERE action NOT IN ('removed', 'left')
COMMENT 'which role each member had from when until when';

CREATE OR REPLACE VIEW memberships
(
    conversation_id UUID COMMENT 'the conversation',
    user_id UUID COMMENT 'the member',
    stay UInt64 COMMENT '1 for the first time that the user was in it, 2 for the next',
    role LowCardinality(String) COMMENT 'owner, admin or member: the one that the user has, or had last',
    joined_at DateTime64(3, 'UTC') COMMENT 'when the user came',
    joined_seq UInt64 COMMENT 'the entry of it: the user gets what comes after',
    left_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the user left or was removed; NULL: still in it',
    left_seq Nullable(UInt64) COMMENT 'the entry of it; NULL: still in it'
)
AS SELECT
    conversation_id,
    user_id,
    stay,
    argMax(role, since_seq) AS role,
    min(since_at) AS joined_at,
    min(since_seq) AS joined_seq,
    if(countIf(until_seq IS NULL) > 0, NULL, max(until_at)) AS left_at,
    if(countIf(until_seq IS NULL) > 0, NULL, max(until_seq)) AS left_seq
FROM membership_roles
GROUP BY conversation_id, user_id, stay
COMMENT 'who was in which conversation from when until when';

CREATE OR REPLACE VIEW message_status
(
    conversation_id UUID COMMENT 'the conversation',
    seq UInt64 COMMENT 'place in the conversation',
    message_id UUID COMMENT 'the message',
    sender_id UUID COMMENT 'who sent it',
    recipient_id UUID COMMENT 'a member at that time, other than the sender',
    sent_at DateTime64(3, 'UTC') COMMENT 'when it was accepted',
    delivered_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the recipient''s client said that it had it; NULL: not yet',
    seen_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the recipient had seen it; NULL: not yet'
)
AS SELECT
    conversation_id,
    seq,
    message_id,
    sender_id,
    user_id AS recipient_id,
    sent_at,
    -- A cursor that passed it in a later stay is no sign that it was delivered in this one.
    if(delivered <= ifNull(left_at, delivered), delivered, NULL) AS delivered_at,
    if(seen <= ifNull(left_at, seen), seen, NULL) AS seen_at
FROM
(
    -- From the highest place down: the earliest move of a cursor to this place or beyond it is when it was passed.
    SELECT
        *,
        minOrNullIf(moved_at, what = 'delivered') OVER (PARTITION BY conversation_id, user_id ORDER BY seq DESC RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS delivered,
        minOrNullIf(moved_at, what = 'seen') OVER (PARTITION BY conversation_id, user_id ORDER BY seq DESC RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS seen
    FROM
    (
        SELECT
            entry.conversation_id AS conversation_id,
            member.user_id AS user_id,
            entry.seq AS seq,
            'sent' AS what,
            entry.message_id AS message_id,
            entry.sender_id AS sender_id,
            entry.sent_at AS sent_at,
            member.left_at AS left_at,
            entry.sent_at AS moved_at
        FROM
        (
            SELECT conversation_id, seq, message_id, sender_id, sent_at
            FROM timeline_entries FINAL
            WHERE kind != 'membership'
        ) AS entry
        INNER JOIN memberships AS member ON entry.conversation_id = member.conversation_id
        WHERE member.user_id != entry.sender_id
            AND entry.seq > member.joined_seq
            AND entry.seq < ifNull(member.left_seq, 18446744073709551615)
        UNION ALL
        SELECT conversation_id, user_id, cursor.1 AS seq, cursor.2 AS what, toUUID('00000000-0000-0000-0000-000000000000') AS message_id,
            toUUID('00000000-0000-0000-0000-000000000000') AS sender_id, moved_at AS sent_at, CAST(NULL AS Nullable(DateTime64(3, 'UTC'))) AS left_at, moved_at
        FROM receipts
        ARRAY JOIN [(delivered_seq, 'delivered'), (seen_seq, 'seen')] AS cursor
    )
)
WHERE what = 'sent'
COMMENT 'each message for each recipient: when it was delivered and when it was seen';

CREATE OR REPLACE VIEW deliveries
(
    recipient_id UUID COMMENT 'whose stream of updates',
    offset UInt64 COMMENT 'place in that stream: 1, 2, 3 without a gap',
    routed_at DateTime64(3, 'UTC') COMMENT 'the time of the event that it tells of',
    kind LowCardinality(String) COMMENT 'entry, change, receipt or conversation',
    conversation_id UUID COMMENT 'the conversation that it is about',
    seq Nullable(UInt64) COMMENT 'entry and change: the place in the conversation',
    message_id Nullable(UUID) COMMENT 'entry and change: the message'
)
AS SELECT
    recipient_id,
    inbox_entries.offset AS offset,
    at AS routed_at,
    kind,
    conversation_id,
    if(kind IN ('entry', 'change'), inbox_entries.seq, NULL) AS seq,
    if(kind IN ('entry', 'change'), inbox_entries.message_id, NULL) AS message_id
FROM inbox_entries FINAL
COMMENT 'each recipient''s stream of updates: what was sent to whom';

CREATE OR REPLACE VIEW presence_sessions
(
    user_id UUID COMMENT 'whose session',
    session_id UInt64 COMMENT 'the session',
    device_id String COMMENT 'the client''s name for its device',
    edge_id UInt32 COMMENT 'the edge that had it',
    opened_at DateTime64(3, 'UTC') COMMENT 'when it was opened',
    closed_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when it was closed; where the edge was stopped, when it was first heard of again; NULL: still open',
    closed_by LowCardinality(String) COMMENT 'client (said goodbye), connection (it broke) or edge (stopped); empty: still open'
)
AS SELECT
    session.user_id AS user_id,
    session.session_id AS session_id,
    session.device_id AS device_id,
    session.edge_id AS edge_id,
    session.opened_at AS opened_at,
    coalesce(session.ended_at, run.next_run_at) AS closed_at,
    multiIf(
        session.ended_at IS NOT NULL, if(session.is_clean, 'client', 'connection'),
        run.next_run_at IS NOT NULL, 'edge',
        '') AS closed_by
FROM
(
    SELECT
        user_id,
        session_id,
        edge_id,
        edge_run,
        anyIf(session_events.device_id, kind = 'opened') AS device_id,
        minIf(at, kind = 'opened') AS opened_at,
        minOrNullIf(at, kind = 'closed') AS ended_at,
        argMinIf(session_events.is_clean, at, kind = 'closed') AS is_clean
    FROM session_events
    GROUP BY user_id, session_id, edge_id, edge_run
    HAVING countIf(kind = 'opened') > 0
) AS session
LEFT JOIN
(
    SELECT
        edge_id,
        edge_run,
        leadInFrame(toNullable(first_at)) OVER (PARTITION BY edge_id ORDER BY edge_run ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next_run_at
    FROM (SELECT edge_id, edge_run, min(at) AS first_at FROM session_events GROUP BY edge_id, edge_run)
) AS run ON session.edge_id = run.edge_id AND session.edge_run = run.edge_run
COMMENT 'when which user was connected';

CREATE OR REPLACE VIEW conversation_activity
(
    conversation_id UUID COMMENT 'the conversation',
    day Date COMMENT 'the day, in UTC',
    messages UInt64 COMMENT 'messages sent, those that were deleted later included',
    senders UInt64 COMMENT 'users who sent one',
    media_messages UInt64 COMMENT 'those of kind media',
    replies UInt64 COMMENT 'those that answer another one',
    first_message_at DateTime64(3, 'UTC') COMMENT 'when the first one was sent',
    last_message_at DateTime64(3, 'UTC') COMMENT 'when the last one was sent'
)
AS SELECT
    conversation_id,
    toDate(sent_at) AS day,
    count() AS messages,
    uniqExact(sender_id) AS senders,
    countIf(kind = 'media') AS media_messages,
    countIf(reply_to IS NOT NULL) AS replies,
    min(sent_at) AS first_message_at,
    max(sent_at) AS last_message_at
FROM timeline_entries FINAL
WHERE kind != 'membership'
GROUP BY conversation_id, day
COMMENT 'what was said in each conversation on each day';

-- What needs every message's recipients, for a stretch of time: over all of history, fifty million messages take more memory
-- than a query has. Called with their parameters: SELECT … FROM message_status_between(since = …, until = …).

-- As message_status, of the messages that were sent in a stretch of time, as far as it was known at the moment `by`: it reads
-- those, and of memberships and receipts only what belongs to their conversations. (Cursors only move forward, so the
-- least that is not below a message is the first that passed it.)
CREATE OR REPLACE VIEW message_status_known
AS SELECT
    entry.conversation_id AS conversation_id,
    entry.seq AS seq,
    entry.message_id AS message_id,
    entry.sender_id AS sender_id,
    entry.user_id AS recipient_id,
    entry.sent_at AS sent_at,
    if(delivery.passed_at IS NOT NULL AND delivery.passed_at <= ifNull(entry.left_at, delivery.passed_at), delivery.passed_at, NULL) AS delivered_at,
    if(sight.passed_at IS NOT NULL AND sight.passed_at <= ifNull(entry.left_at, sight.passed_at), sight.passed_at, NULL) AS seen_at
FROM
(
    SELECT sent.conversation_id AS conversation_id, sent.seq AS seq, sent.message_id AS message_id, sent.sender_id AS sender_id,
        sent.sent_at AS sent_at, member.user_id AS user_id, member.left_at AS left_at
    FROM
    (
        SELECT conversation_id, seq, message_id, sender_id, sent_at
        FROM timeline_entries FINAL
        PREWHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
    ) AS sent
    INNER JOIN
    (
        SELECT conversation_id, user_id, joined_seq, left_seq, left_at
        FROM memberships
        WHERE conversation_id IN
        (
            SELECT conversation_id FROM timeline_entries
            WHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
        )
    ) AS member ON sent.conversation_id = member.conversation_id
    WHERE member.user_id != sent.sender_id
        AND sent.seq > member.joined_seq
        AND sent.seq < ifNull(member.left_seq, 18446744073709551615)
) AS entry
ASOF LEFT JOIN
(
    SELECT conversation_id, user_id, delivered_seq, min(toNullable(moved_at)) AS passed_at
    FROM receipts
    WHERE moved_at >= {since:DateTime64(3, 'UTC')} AND moved_at < {by:DateTime64(3, 'UTC')} AND conversation_id IN
    (
        SELECT conversation_id FROM timeline_entries
        WHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
    )
    GROUP BY conversation_id, user_id, delivered_seq
) AS delivery ON entry.conversation_id = delivery.conversation_id AND entry.user_id = delivery.user_id AND entry.seq <= delivery.delivered_seq
ASOF LEFT JOIN
(
    SELECT conversation_id, user_id, seen_seq, min(toNullable(moved_at)) AS passed_at
    FROM receipts
    WHERE moved_at >= {since:DateTime64(3, 'UTC')} AND moved_at < {by:DateTime64(3, 'UTC')} AND conversation_id IN
    (
        SELECT conversation_id FROM timeline_entries
        WHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
    )
    GROUP BY conversation_id, user_id, seen_seq
) AS sight ON entry.conversation_id = sight.conversation_id AND entry.user_id = sight.user_id AND entry.seq <= sight.seen_seq
COMMENT 'message_status of the messages sent from one moment until another, as known at a third one';

-- As message_status, of the messages that were sent in a stretch of time, with all that is known.
CREATE OR REPLACE VIEW message_status_between
AS SELECT *
FROM message_status_known(since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')}, by = toDateTime64('2290-01-01 00:00:00', 3, 'UTC'))
COMMENT 'message_status of the messages sent from one moment until another';

-- The same for any stretch of time; hours that are over have it written down (see delivery_latency). What comes later than
-- a day does not change percentiles that people look at, and would have every hour counted anew for ever.
CREATE OR REPLACE VIEW delivery_latency_between
AS SELECT
    toStartOfHour(toDateTime(sent_at, 'UTC')) AS hour,
    count() AS deliveries,
    countIf(delivered_seconds IS NOT NULL) AS delivered,
    countIf(seen_seconds IS NOT NULL) AS seen,
    quantileTDigestOrNull(0.5)(delivered_seconds) AS delivered_seconds_p50,
    quantileTDigestOrNull(0.95)(delivered_seconds) AS delivered_seconds_p95,
    quantileTDigestOrNull(0.99)(delivered_seconds) AS delivered_seconds_p99,
    quantileTDigestOrNull(0.5)(seen_seconds) AS seen_seconds_p50,
    quantileTDigestOrNull(0.95)(seen_seconds) AS seen_seconds_p95
FROM
(
    SELECT
        sent_at,
        if(delivered_at < sent_at + INTERVAL 1 DAY, dateDiff('millisecond', sent_at, delivered_at) / 1000, NULL) AS delivered_seconds,
        if(seen_at < sent_at + INTERVAL 1 DAY, dateDiff('millisecond', sent_at, seen_at) / 1000, NULL) AS seen_seconds
    FROM message_status_known(since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')}, by = {until:DateTime64(3, 'UTC')} + INTERVAL 1 DAY)
)
GROUP BY hour
COMMENT 'delivery_latency of the messages sent from one moment until another';

CREATE OR REPLACE VIEW daily_active_users_between
AS SELECT
    day,
    count() AS active_users,
    countIf(bitTest(did, 0)) AS senders,
    countIf(bitTest(did, 1)) AS readers,
    countIf(bitTest(did, 2)) AS connected_users
FROM
(
    SELECT day, user_id, groupBitOr(what) AS did
    FROM
    (
        SELECT toDate(sent_at) AS day, sender_id AS user_id, 1::UInt8 AS what FROM timeline_entries
        WHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
        UNION ALL
        SELECT toDate(moved_at) AS day, user_id, 2::UInt8 AS what FROM receipts
        WHERE moved_at >= {since:DateTime64(3, 'UTC')} AND moved_at < {until:DateTime64(3, 'UTC')}
        UNION ALL
        SELECT toDate(at) AS day, user_id, 4::UInt8 AS what FROM session_events
        WHERE kind = 'opened' AND at >= {since:DateTime64(3, 'UTC')} AND at < {until:DateTime64(3, 'UTC')}
    )
    GROUP BY day, user_id
)
GROUP BY day
COMMENT 'daily_active_users of the days from one moment until another';

-- Days and hours that are over are counted once (0006, dataflow/src/archive/summaries.rs); what comes after them is counted
-- when it is asked for.

CREATE OR REPLACE VIEW daily_active_users
(
    day Date COMMENT 'the day, in UTC',
    active_users UInt64 COMMENT 'users who sent a message, moved a cursor or opened a session',
    senders UInt64 COMMENT 'users who sent a message',
    readers UInt64 COMMENT 'users whose cursors moved: something was delivered to them or seen by them',
    connected_users UInt64 COMMENT 'users who opened a session'
)
AS SELECT day, active_users, senders, readers, connected_users
FROM daily_summaries FINAL
WHERE active_users > 0
UNION ALL
SELECT day, active_users, senders, readers, connected_users
FROM daily_active_users_between(
    since = (SELECT toDateTime64(max(day) + 1, 3, 'UTC') FROM daily_summaries),
    until = toDateTime64('2290-01-01 00:00:00', 3, 'UTC'))
COMMENT 'how many users did something on each day';

CREATE OR REPLACE VIEW delivery_latency
(
    hour DateTime('UTC') COMMENT 'the hour in which the messages were sent',
    deliveries UInt64 COMMENT 'messages times their recipients',
    delivered UInt64 COMMENT 'how many of them were delivered within a day',
    seen UInt64 COMMENT 'how many of them were seen within a day',
    delivered_seconds_p50 Nullable(Float64) COMMENT 'half of those were delivered within so many seconds after they were sent',
    delivered_seconds_p95 Nullable(Float64) COMMENT '95 % were',
    delivered_seconds_p99 Nullable(Float64) COMMENT '99 % were',
    seen_seconds_p50 Nullable(Float64) COMMENT 'half of those were seen within so many seconds',
    seen_seconds_p95 Nullable(Float64) COMMENT '95 % were'
)
AS SELECT hour, deliveries, delivered, seen, delivered_seconds_p50, delivered_seconds_p95, delivered_seconds_p99, seen_seconds_p50, seen_seconds_p95
FROM hourly_summaries FINAL
WHERE deliveries > 0
UNION ALL
SELECT hour, deliveries, delivered, seen, delivered_seconds_p50, delivered_seconds_p95, delivered_seconds_p99, seen_seconds_p50, seen_seconds_p95
FROM delivery_latency_between(
    since = (SELECT toDateTime64(max(hour) + INTERVAL 1 HOUR, 3, 'UTC') FROM hourly_summaries),
    until = toDateTime64('2290-01-01 00:00:00', 3, 'UTC'))
COMMENT 'how long messages take to be delivered and to be seen, by hour';
