/** Every bound of the client, by name, with its unit last. Those that the server sets too stand in its `limits.rs`. */

/** Text of a message, in bytes of UTF-8. Over: refused by the server as `too_large`, so the outbox refuses it at once. */
export const MESSAGE_TEXT_BYTES_MAX = 16 * 1024;
/** Messages that wait in the outbox, over all conversations. Over: `send` throws, and nothing already queued is lost. */
export const OUTBOX_ENTRIES_MAX = 500;
/**
 * A message that may already have reached the server is retried on its own only this long: the server remembers a
 * `client_message_id` for 24 hours, and a retry after that could show the message twice.
 */
export const OUTBOX_RETRY_AGE_MS_MAX = 23 * 60 * 60 * 1000;
/** Messages of one conversation that are kept in memory. Over: the oldest go when the conversation is left. */
export const TIMELINE_MESSAGES_MAX = 2_000;
/** Conversations whose messages are kept in memory. Over: the one that was left longest ago goes. */
export const TIMELINES_MAX = 20;
/** Messages asked for in one page of history. */
export const HISTORY_PAGE_MESSAGES = 50;
/** Conversations asked for in one page. */
export const CONVERSATIONS_PAGE_ITEMS = 100;
/** Conversations that are listed. Over: the ones without recent activity are not read. */
export const CONVERSATIONS_MAX = 2_000;
/** Updates that wait while conversations are being read. Over: they are dropped, and the reading starts again. */
export const UPDATES_WAITING_MAX = 10_000;
/** Holes in the stream, without an update in between, after which everything is read anew. */
export const GAPS_MAX = 3;
/** Commands that wait for a reply. Over: `unavailable`. */
export const REQUESTS_IN_FLIGHT_MAX = 200;
/** A command without a reply for so long means that the connection is dead. */
export const REPLY_TIMEOUT_MS = 15_000;
/** An open socket that has not welcomed us in this time is given up. */
export const WELCOME_TIMEOUT_MS = 10_000;
/** At most one receipt frame for each conversation in this time. */
export const RECEIPT_INTERVAL_MS = 250;
/** At most one typing frame for each conversation in this time. */
export const TYPING_INTERVAL_MS = 3_000;
/** Somebody who has sent no typing frame for this long has stopped. */
export const TYPING_EXPIRY_MS = 5_000;
/** Users whose presence is watched: the server's bound. Over: the later ones are not watched. */
export const PRESENCE_WATCHES_MAX = 1_000;
/** Users whose names are remembered. Over: the one that was learnt first is forgotten, and read again when needed. */
export const DIRECTORY_USERS_MAX = 5_000;
/** A missing stretch of a conversation is read by HTTP if the stream has not brought it in this time. */
export const GAP_WAIT_MS = 1_000;
/** A call by HTTP is given up after this. */
export const HTTP_TIMEOUT_MS = 15_000;
