-- What needs every message's recipients, for a stretch of time: over all of history, fifty million messages take more memory
-- than a query has. Called with their parameters: SELECT … FROM message_status_between(since = …, until = …).

-- As message_status, of the messages that were sent in a stretch of time: it reads those, and of memberships and receipts
-- only what belongs to their conversations. (Cursors only move forward, so the least that is not below a message is the
-- first that passed it.)
CREATE OR REPLACE VIEW message_status_between
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
        WHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
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
    WHERE moved_at >= {since:DateTime64(3, 'UTC')} AND conversation_id IN
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
    WHERE moved_at >= {since:DateTime64(3, 'UTC')} AND conversation_id IN
    (
        SELECT conversation_id FROM timeline_entries
        WHERE kind != 'membership' AND sent_at >= {since:DateTime64(3, 'UTC')} AND sent_at < {until:DateTime64(3, 'UTC')}
    )
    GROUP BY conversation_id, user_id, seen_seq
) AS sight ON entry.conversation_id = sight.conversation_id AND entry.user_id = sight.user_id AND entry.seq <= sight.seen_seq
COMMENT 'message_status of the messages sent from one moment until another';

-- As delivery_latency, of the messages that were sent in a stretch of time.
CREATE OR REPLACE VIEW delivery_latency_between
AS SELECT
    toStartOfHour(toDateTime(sent_at, 'UTC')) AS hour,
    count() AS deliveries,
    countIf(delivered_at IS NOT NULL) AS delivered,
    countIf(seen_at IS NOT NULL) AS seen,
    quantileTDigestOrNull(0.5)(dateDiff('millisecond', sent_at, delivered_at) / 1000) AS delivered_seconds_p50,
    quantileTDigestOrNull(0.95)(dateDiff('millisecond', sent_at, delivered_at) / 1000) AS delivered_seconds_p95,
    quantileTDigestOrNull(0.99)(dateDiff('millisecond', sent_at, delivered_at) / 1000) AS delivered_seconds_p99,
    quantileTDigestOrNull(0.5)(dateDiff('millisecond', sent_at, seen_at) / 1000) AS seen_seconds_p50,
    quantileTDigestOrNull(0.95)(dateDiff('millisecond', sent_at, seen_at) / 1000) AS seen_seconds_p95
FROM message_status_between(since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')})
GROUP BY hour
COMMENT 'delivery_latency of the messages sent from one moment until another';
