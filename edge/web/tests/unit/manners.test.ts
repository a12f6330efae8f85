import assert from "node:assert/strict";
import test from "node:test";
import { Backoff } from "../../src/sdk/backoff.ts";
import { TidingsError } from "../../src/sdk/errors.ts";
import { Observable } from "../../src/sdk/observable.ts";
import { Presences } from "../../src/sdk/presences.ts";
import { Receipts } from "../../src/sdk/receipts.ts";
import { Timeline } from "../../src/sdk/timeline.ts";
import { Typing } from "../../src/sdk/typing.ts";
import type { Message } from "../../src/sdk/types.ts";
import { UpdateCursor } from "../../src/sdk/update-cursor.ts";
import { newUuid } from "../../src/sdk/uuid.ts";
import { decodeMessage } from "../../src/sdk/wire.ts";
import { until } from "../support/until.ts";

test("back-off doubles up to its cap, is never zero, and starts over after a success", () => {
  const high = new Backoff(100, 1_000, () => 1);
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => high.next()), [100, 200, 400, 800, 1_000, 1_000]);
  high.reset();
  assert.equal(high.next(), 100);
  assert.equal(new Backoff(100, 1_000, () => 0).next(), 10);
});

test("ids are random UUIDs", () => {
  const ids = Array.from({ length: 100 }, newUuid);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, ids.length);
});

test("the cursor handles each offset once, and sees holes", () => {
  const cursor = new UpdateCursor();
  assert.equal(cursor.judge(1), "gap", "before a welcome nothing is in order");
  cursor.start({ epoch: "e", offset: 10 });
  assert.equal(cursor.judge(10), "repeat");
  assert.equal(cursor.judge(12), "gap");
  assert.equal(cursor.judge(11), "handle");
  cursor.advance(11);
  assert.deepEqual(cursor.position, { epoch: "e", offset: 11 });
});

test("receipts are gathered: the first goes at once, the newest of the rest after the interval", async () => {
  const frames = new Observable<readonly string[]>([]);
  const receipts = new Receipts(async (id, { deliveredSeq, seenSeq }) => frames.update((sent) => [...sent, `${id} ${deliveredSeq} ${seenSeq}`]), 20);
  receipts.delivered("a", 1);
  assert.equal(frames.value.length, 0, "nothing goes out offline");
  receipts.setOnline(true);
  for (let seq = 2; seq <= 50; seq += 1) receipts.seen("a", seq);
  receipts.seen("b", 3);
  assert.deepEqual(frames.value, ["a 1 0", "b 3 3"]);
  await until(frames, (sent) => sent.length === 3);
  assert.equal(frames.value[2], "a 50 50");
  receipts.seen("a", 49);
  receipts.seen("a", 51);
  await until(frames, (sent) => sent.length === 4);
  assert.equal(frames.value[3], "a 51 51", "a move back is not told");
  receipts.close();
});

test("a receipt that broke with the connection is told again", async () => {
  const frames = new Observable<readonly number[]>([]);
  let broken = true;
  const receipts = new Receipts(async (_, { seenSeq }) => {
    frames.update((sent) => [...sent, seenSeq]);
    if (broken) throw new TidingsError("network", "broken", true);
  }, 1);
  receipts.setOnline(true);
  receipts.seen("a", 7);
  await new Promise((resolve) => setImmediate(resolve));
  receipts.setOnline(false);
  broken = false;
  receipts.setOnline(true);
  await until(frames, (sent) => sent.length === 2);
  assert.deepEqual(frames.value, [7, 7]);
  receipts.close();
});

test("typing is throttled, and starts anew after a send", () => {
  const sent: string[] = [];
  let now = 10_000;
  const typing = new Typing((id) => sent.push(id), () => now);
  for (let key = 0; key < 10; key += 1) typing.typed("a");
  typing.typed("b");
  assert.deepEqual(sent, ["a", "b"]);
  now += 3_001;
  typing.typed("a");
  typing.ended("a");
  typing.typed("a");
  assert.deepEqual(sent, ["a", "b", "a", "a"]);
});

test("those who type are listed until they send or stop", () => {
  const typing = new Typing(() => {});
  typing.received("a", "ann");
  typing.received("a", "ben");
  typing.received("a", "ann");
  assert.deepEqual(typing.typists("a").value, ["ann", "ben"]);
  typing.stopped("a", "ann");
  assert.deepEqual(typing.typists("a").value, ["ben"]);
  typing.close();
});

test("presence watches are counted, gathered, and told again in a new session", async () => {
  const sent: string[] = [];
  const presences = new Presences((command, ids) => sent.push(`${command} ${ids.join(",")}`));
  const stop = presences.watch("ann");
  presences.watch("ann");
  const stopBen = presences.watch("ben");
  presences.setOnline(true);
  await Promise.resolve();
  assert.deepEqual(sent.splice(0), ["watch_presence ann,ben"]);
  stop();
  stopBen();
  stopBen();
  await Promise.resolve();
  assert.deepEqual(sent.splice(0), ["unwatch_presence ben"], "somebody still looks at ann");
  presences.setOnline(false);
  presences.setOnline(true);
  await Promise.resolve();
  assert.deepEqual(sent.splice(0), ["watch_presence ann"]);
});

const message = (seq: number, extra: object = {}): Message => decodeMessage({ message_id: `m${seq}`, seq, text: `m${seq}`, ...extra });

test("a timeline fills a hole that the stream leaves, and asks only once for what is not there", async () => {
  const asked: string[] = [];
  const timeline = new Timeline(async ({ beforeSeq, afterSeq }) => {
    asked.push(afterSeq !== undefined ? `after ${afterSeq}` : `before ${beforeSeq ?? "end"}`);
    if (afterSeq === 2) return { items: [message(3), message(4)], nextPageToken: "" };
    return { items: afterSeq === undefined ? [message(2), message(1)] : [], nextPageToken: "" };
  }, 1);
  await timeline.open();
  timeline.add(message(5));
  await until(timeline.state, ({ messages }) => messages.length === 5);
  // 6 to 8 were said while the user was not a member.
  timeline.add(message(9));
  await until(timeline.state, ({ messages }) => messages.length === 6);
  await new Promise<void>((resolve) => {
    const look = () => (asked.length === 3 ? resolve() : setImmediate(look));
    look();
  });
  timeline.add(message(10));
  assert.deepEqual(timeline.state.value.messages.map(({ seq }) => seq), [1, 2, 3, 4, 5, 9, 10]);
  assert.deepEqual(asked, ["before end", "after 2", "after 5"]);
  timeline.close();
});

test("what arrives while the first page is on its way is kept", async () => {
  let answer: (page: { items: Message[]; nextPageToken: string }) => void = () => {};
  const timeline = new Timeline(() => new Promise((resolve) => (answer = resolve)));
  const opened = timeline.open();
  timeline.add(message(3));
  answer({ items: [message(2), message(1)], nextPageToken: "" });
  await opened;
  assert.deepEqual(timeline.state.value.messages.map(({ seq }) => seq), [1, 2, 3]);
  assert.equal(timeline.state.value.complete, true);
});

test("a page that is older than an edit does not undo it", async () => {
  const edited = message(1, { text: "new", edited_at: "2026-01-01T00:00:00Z" });
  let page = [message(1)];
  const timeline = new Timeline(async () => ({ items: page, nextPageToken: "" }));
  await timeline.open();
  timeline.replace(edited);
  page = [message(1), message(2)];
  await timeline.refresh();
  assert.deepEqual(timeline.state.value.messages.map(({ text }) => text), ["new", "m2"]);
});

test("a page that could not be read is an error that one can try again after", async () => {
  let broken = true;
  const timeline = new Timeline(async () => {
    if (broken) throw new TidingsError("network", "no connection", true);
    return { items: [message(1)], nextPageToken: "" };
  });
  await timeline.open();
  assert.equal(timeline.state.value.error?.code, "network");
  broken = false;
  await timeline.loadOlder();
  assert.equal(timeline.state.value.error, undefined);
  assert.equal(timeline.state.value.messages.length, 1);
});
