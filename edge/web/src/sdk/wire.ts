/**
 * From the JSON of the contract to {@link ./types.ts}. Missing fields take protobuf's defaults and unknown ones are
 * ignored, so that an older client understands a newer server.
 */
import { TidingsError } from "./errors.ts";
import type {
  Attachment,
  Conversation,
  Member,
  Membership,
  Message,
  Presence,
  Receipt,
  Role,
  Session,
  Update,
  User,
  Welcome,
} from "./types.ts";

/** A JSON object of unknown content. */
export type Json = Record<string, unknown>;

/** The object in `value`, or an empty one. */
export function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

/** The list in `value`, or an empty one. */
export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The string in `value`, or an empty one. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A number, also when written as a string, as protobuf's JSON does with 64 bits; 0 when it is neither. */
export function integer(value: unknown): number {
  const number = typeof value === "string" || typeof value === "number" ? Number(value) : 0;
  return Number.isSafeInteger(number) ? number : 0;
}

/** Milliseconds since 1970 from RFC 3339, or undefined. */
export function time(value: unknown): number | undefined {
  const millis = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(millis) ? undefined : millis;
}

/** `{key: value}`, or nothing when the value is absent: for optional fields. */
function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

function nonEmpty(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function role(value: unknown): Role {
  return value === "owner" || value === "admin" || value === "member" ? value : "";
}

export function decodeUser(value: unknown): User {
  const json = object(value);
  return { userId: text(json["user_id"]), username: text(json["username"]), displayName: text(json["display_name"]) };
}

export function decodeSession(value: unknown): Session {
  const json = object(value);
  return {
    userId: text(json["user_id"]),
    token: text(json["token"]),
    expiresAt: time(json["expires_at"]) ?? Number.MAX_SAFE_INTEGER,
  };
}

export function decodePresence(value: unknown): Presence {
  const json = object(value);
  return {
    userId: text(json["user_id"]),
    online: json["online"] === true,
    ...optional("lastSeenAt", time(json["last_seen_at"])),
  };
}

export function decodeMember(value: unknown): Member {
  const json = object(value);
  return {
    ...decodeUser(json),
    role: role(json["role"]),
    joinedSeq: integer(json["joined_seq"]),
    deliveredSeq: integer(json["delivered_seq"]),
    seenSeq: integer(json["seen_seq"]),
  };
}

function decodeMembership(value: unknown): Membership | undefined {
  const json = object(value);
  const action = json["action"];
  switch (action) {
    case "created":
    case "added":
    case "removed":
    case "left":
    case "role":
    case "renamed":
      return {
        action,
        by: text(json["by"]),
        ...optional("userId", nonEmpty(json["user_id"])),
        ...optional("role", json["role"] === undefined ? undefined : role(json["role"])),
        ...optional("title", nonEmpty(json["title"])),
      };
    default:
      return undefined;
  }
}

function decodeAttachment(value: unknown): Attachment {
  const json = object(value);
  return {
    mediaId: text(json["media_id"]),
    contentType: text(json["content_type"]),
    name: text(json["name"]),
    sizeBytes: integer(json["size"]),
    width: integer(json["width"]),
    height: integer(json["height"]),
  };
}

export function decodeMessage(value: unknown): Message {
  const json = object(value);
  const kind = json["kind"];
  return {
    messageId: text(json["message_id"]),
    clientMessageId: text(json["client_message_id"]),
    conversationId: text(json["conversation_id"]),
    seq: integer(json["seq"]),
    senderId: text(json["sender_id"]),
    sentAt: time(json["sent_at"]) ?? 0,
    kind: kind === "media" || kind === "encrypted" || kind === "membership" ? kind : "text",
    text: text(json["text"]),
    attachments: list(json["attachments"]).map(decodeAttachment),
    ...optional("replyTo", nonEmpty(json["reply_to"])),
    ...optional("editedAt", time(json["edited_at"])),
    ...optional("deletedAt", time(json["deleted_at"])),
    ...optional("membership", json["membership"] === undefined ? undefined : decodeMembership(json["membership"])),
  };
}

export function decodeConversation(value: unknown): Conversation {
  const json = object(value);
  const peer = json["peer"] === undefined ? undefined : decodeUser(json["peer"]);
  return {
    conversationId: text(json["conversation_id"]),
    kind: json["kind"] === "direct" ? "direct" : "group",
    title: text(json["title"]),
    memberCount: integer(json["member_count"]),
    lastSeq: integer(json["last_seq"]),
    ...optional("lastMessage", json["last_message"] ? decodeMessage(json["last_message"]) : undefined),
    deliveredSeq: integer(json["delivered_seq"]),
    seenSeq: integer(json["seen_seq"]),
    deliveredToAllSeq: integer(json["delivered_to_all_seq"]),
    seenByAllSeq: integer(json["seen_by_all_seq"]),
    role: role(json["role"]),
    deleted: json["deleted"] === true,
    ...optional("peer", peer),
    ...optional("createdAt", time(json["created_at"])),
    ...optional("lastActivityAt", time(json["last_activity_at"])),
  };
}

function decodeReceipt(value: unknown): Receipt {
  const json = object(value);
  return {
    conversationId: text(json["conversation_id"]),
    ...optional("userId", nonEmpty(json["user_id"])),
    deliveredSeq: integer(json["delivered_seq"]),
    seenSeq: integer(json["seen_seq"]),
    deliveredToAllSeq: integer(json["delivered_to_all_seq"]),
    seenByAllSeq: integer(json["seen_by_all_seq"]),
  };
}

export function decodeUpdate(value: unknown): Update {
  const json = object(value);
  const offset = integer(json["offset"]);
  if (json["message"]) return { offset, kind: "message", message: decodeMessage(json["message"]) };
  if (json["message_changed"]) return { offset, kind: "message_changed", message: decodeMessage(json["message_changed"]) };
  if (json["receipt"]) return { offset, kind: "receipt", receipt: decodeReceipt(json["receipt"]) };
  if (json["conversation"]) return { offset, kind: "conversation", conversation: decodeConversation(json["conversation"]) };
  return { offset, kind: "unknown" };
}

export function decodeWelcome(value: unknown): Welcome {
  const json = object(value);
  return {
    userId: text(json["user_id"]),
    sessionId: text(json["session_id"]),
    epoch: text(json["epoch"]),
    offset: integer(json["offset"]),
    heartbeatIntervalMs: integer(json["heartbeat_interval_ms"]) || 25_000,
    serverTime: time(json["server_time"]) ?? 0,
    resyncRequired: json["resync_required"] === true,
  };
}

export function decodeError(value: unknown): TidingsError {
  const json = object(value);
  const retryAfter = json["retry_after_ms"];
  return new TidingsError(
    text(json["code"]) || "internal",
    text(json["message"]) || "the server gave no reason",
    json["retryable"] === true,
    retryAfter === undefined ? undefined : integer(retryAfter),
  );
}
