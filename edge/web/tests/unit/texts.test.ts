import assert from "node:assert/strict";
import test from "node:test";
import type { OutboxEntry } from "../../src/sdk/outbox.ts";
import { decodeMessage } from "../../src/sdk/wire.ts";
import { categories, search, unfinishedShortcode, withEmoji } from "../../src/ui/words/emoji.ts";
import { dayName, daysBetween, lastSeen } from "../../src/ui/words/format.ts";
import { layOut } from "../../src/ui/chat/grouping.ts";
import { isJumbo, pieces } from "../../src/ui/words/rich-text.ts";

test("shortcodes become emoji, and everything else stays", () => {
  assert.equal(withEmoji(":smile: and :+1:"), "😄 and 👍");
  assert.equal(withEmoji(":tada::tada:"), "🎉🎉");
  assert.equal(withEmoji("at 10:30:45, :nosuchthing: and `:smile:`"), "at 10:30:45, :nosuchthing: and `:smile:`");
});

test("every emoji of the table has a character and a shortcode of its own", () => {
  const all = categories.flatMap(({ emoji }) => emoji);
  assert.ok(all.length > 500);
  for (const { character, shortcode } of all) {
    assert.match(shortcode, /^[a-z0-9_+-]+$/);
    assert.equal(withEmoji(`:${shortcode}:`), character);
  }
});

test("suggestions come while a shortcode is being typed, the nearest first", () => {
  assert.deepEqual(unfinishedShortcode("hello :smi", 10), { typed: "smi", start: 6 });
  assert.equal(unfinishedShortcode("10:30", 5), undefined, "not inside a word");
  assert.equal(unfinishedShortcode(":s", 2), undefined, "one letter is too little");
  assert.deepEqual(search("smil", 2).map(({ shortcode }) => shortcode), ["smile", "smiley"]);
});

test("links are found, and only what is safe becomes one", () => {
  assert.deepEqual(pieces("see https://a.example/x(y), www.b.example. or javascript:alert(1)"), [
    { kind: "text", text: "see " },
    { kind: "link", text: "https://a.example/x(y)", href: "https://a.example/x(y)" },
    { kind: "text", text: ", " },
    { kind: "link", text: "www.b.example", href: "https://www.b.example/" },
    { kind: "text", text: ". or javascript:alert(1)" },
  ]);
  assert.deepEqual(pieces("(https://a.example)")[1], { kind: "link", text: "https://a.example", href: "https://a.example/" });
  assert.deepEqual(pieces("`https://a.example`"), [{ kind: "code", text: "https://a.example" }]);
});

test("the pieces of any text make up the text again", () => {
  for (const text of ["", "plain", "http://", "a http://x b https://y.z/?q=1#f. c", "www.", "https://[", "a\n\nb"]) {
    assert.equal(pieces(text).map((piece) => piece.text).join(""), text);
  }
});

test("a few emoji alone are shown large", () => {
  for (const text of ["👍", "🎉 🎉", "👨‍👩‍👧", "🇩🇪", "❤️"]) assert.equal(isJumbo(text), true, text);
  for (const text of ["", "ok 👍", "1", "#", "👍👍👍👍"]) assert.equal(isJumbo(text), false, text);
});

const noon = new Date(2026, 4, 20, 12).getTime();
const hour = 3_600_000;

test("days are counted by midnights", () => {
  assert.equal(daysBetween(noon - 13 * hour, noon), 1);
  assert.equal(daysBetween(noon - 11 * hour, noon), 0);
  assert.equal(dayName(noon, noon), "Today");
  assert.equal(dayName(noon - 24 * hour, noon), "Yesterday");
  assert.equal(lastSeen(noon - 5 * 60_000, noon), "last seen 5 minutes ago");
  assert.match(lastSeen(noon - 3 * hour, noon), /^last seen today at /);
});

const say = (seq: number, senderId: string, sentAt: number, kind = "text") => ({ ...decodeMessage({ message_id: `m${seq}`, seq, sender_id: senderId, kind }), sentAt });

test("messages are laid out in days and groups, with a mark before the first unread one", () => {
  const messages = [
    say(1, "ann", noon - 48 * hour),
    say(2, "ann", noon - 2 * hour),
    say(3, "ann", noon - 2 * hour + 60_000),
    say(4, "ben", noon - 2 * hour + 70_000),
    say(5, "ben", noon - hour),
    say(6, "ben", noon - hour, "membership"),
    say(7, "ben", noon - hour),
  ];
  const entry: OutboxEntry = { clientMessageId: "p", conversationId: "c", text: "", createdAt: noon, order: 1, attempted: false };
  const lines = layOut(messages, [entry], { ownUserId: "ann", firstUnreadSeq: 5 });
  const drawn = lines.map((line) => {
    const edges = "first" in line ? `${line.first ? "(" : "-"}${line.last ? ")" : "-"}` : "";
    return line.kind === "message" ? `${line.message.seq}${edges}` : `${line.kind}${edges}`;
  });
  assert.deepEqual(drawn, ["day", "1()", "day", "2(-", "3-)", "4()", "unread", "5()", "membership", "7()", "pending()"]);
});
