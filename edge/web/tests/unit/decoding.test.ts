import assert from "node:assert/strict";
import test from "node:test";
import { progressOf, unreadCount } from "../../src/sdk/index.ts";
import { decodeConversation, decodeError, decodeMessage, decodeUpdate, integer, time } from "../../src/sdk/wire.ts";

test("64-bit integers come as strings or numbers, and nonsense is zero", () => {
  assert.equal(integer("9007199254740991"), 9007199254740991);
  assert.equal(integer(42), 42);
  assert.equal(integer("many"), 0);
  assert.equal(integer("9007199254740993"), 0, "beyond what a number can hold exactly");
  assert.equal(integer(undefined), 0);
});

test("times are RFC 3339", () => {
  assert.equal(time("2026-01-02T03:04:05.678Z"), Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  assert.equal(time("soon"), undefined);
});

test("missing fields take their defaults, and unknown ones are ignored", () => {
  const message = decodeMessage({ message_id: "m", seq: "7", kind: "hologram", news: 1 });
  assert.equal(message.seq, 7);
  assert.equal(message.kind, "text");
  assert.equal("editedAt" in message, false);
  assert.deepEqual(decodeMessage(null).attachments, []);
});

test("an update of an unknown kind still has its offset", () => {
  assert.deepEqual(decodeUpdate({ offset: "9", reaction: {} }), { offset: 9, kind: "unknown" });
});

test("an error keeps its code, and what to do about it", () => {
  const error = decodeError({ code: "rate_limited", message: "slow down", retryable: true, retry_after_ms: 1500 });
  assert.equal(error.code, "rate_limited");
  assert.equal(error.retryable, true);
  assert.equal(error.retryAfterMs, 1500);
});

test("unread and progress are subtracted where they are read", () => {
  const conversation = decodeConversation({
    conversation_id: "c",
    kind: "direct",
    role: "member",
    last_seq: "10",
    seen_seq: "7",
    delivered_to_all_seq: "9",
    seen_by_all_seq: "8",
  });
  assert.equal(unreadCount(conversation), 3);
  assert.equal(unreadCount({ ...conversation, role: "" }), 0);
  const at = (seq: number) => progressOf(conversation, decodeMessage({ seq }));
  assert.deepEqual([at(8), at(9), at(10)], ["seen", "delivered", "sent"]);
});
