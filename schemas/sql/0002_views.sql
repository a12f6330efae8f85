-- What people ask: each message once, as it now is, and each membership change once. No repeat is ever visible.

-- Messages that people sent, with the last edit applied. A deleted message keeps its place and loses its text.
CREATE OR REPLACE VIEW messages AS
SELECT
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
    -- A deletion is final; among edits the last one counts.
    SELECT
        conversation_id,
        seq,
        true AS is_edited,
        max(kind = 'deleted') AS is_deleted,
        argMax(text, (kind = 'deleted', source_offset)) AS text,
        argMax(changed_at, (kind = 'deleted', source_offset)) AS changed_at
    FROM message_changes
    GROUP BY conversation_id, seq
) AS change ON entry.conversation_id = change.conversation_id AND entry.seq = change.seq;

-- Who was added to, removed from and left which conversation, who was given which role, and what it was named.
CREATE OR REPLACE VIEW membership_changes AS
SELECT
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
WHERE kind = 'membership';
