import assert from "node:assert/strict";
import test from "node:test";
import { limits, memoryStorage } from "../../src/sdk/index.ts";
import { TidingsError } from "../../src/sdk/errors.ts";
import { Outbox, type OutboxEntry } from "../../src/sdk/outbox.ts";
import type { Message } from "../../src/sdk/types.ts";
import { decodeMessage } from "../../src/sdk/wire.ts";
import { clientOf, pair } from "../support/clients.ts";
import { MemoryEdge } from "../support/memory-edge.ts";
import { Refusal } from "../support/world.ts";
import { until } from "../support/until.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

/** An outbox whose sends the test answers by hand. */
function manual(options: { now?: () => number; storage?: ReturnType<typeof memoryStorage> } = {}) {
  const attempts: { entry: OutboxEntry; resolve: (message: Message | undefined) => void; reject: (error: TidingsError) => void }[] = [];
  const waiters: (() => void)[] = [];
  let ids = 0;
  const outbox = new Outbox({
    storage: options.storage ?? memoryStorage(),
    keyPrefix: "outbox.",
    send: (entry) =>
      new Promise((resolve, reject) => {
        attempts.push({ entry, resolve, reject });
        for (const wake of waiters.splice(0)) wake();
      }),
    onSent: () => {},
    newId: () => `id-${(ids += 1)}`,
    random: () => 0,
    retryBaseMs: 10,
    ...(options.now === undefined ? {} : { now: options.now }),
  });
  const attempt = async (index: number) => {
    while (attempts.length <= index) await new Promise<void>((resolve) => waiters.push(resolve));
    const found = attempts[index];
    assert.ok(found);
    return found;
  };
  const sent = (entry: OutboxEntry) => decodeMessage({ message_id: "m", client_message_id: entry.clientMessageId });
  return { outbox, attempts, attempt, sent };
}

test("messages of a conversation go out one after the other; other conversations do not wait", async () => {
  const { outbox, attempts, attempt, sent } = manual();
  outbox.setOnline(true);
  outbox.add("a", "first");
  outbox.add("a", "second");
  outbox.add("b", "elsewhere");
  assert.deepEqual(attempts.map(({ entry }) => entry.text), ["first", "elsewhere"]);
  const first = await attempt(0);
  first.resolve(sent(first.entry));
  assert.equal((await attempt(2)).entry.text, "second");
});

test("a failure that can pass is retried with the same client_message_id, before what was written later", async () => {
  const { outbox, attempt } = manual();
  outbox.setOnline(true);
  outbox.add("a", "first");
  outbox.add("a", "second");
  (await attempt(0)).reject(new TidingsError("unavailable", "later", true));
  const again = await attempt(1);
  assert.equal(again.entry.clientMessageId, "id-1");
});

test("rate_limited is obeyed", async () => {
  const { outbox, attempts, attempt } = manual();
  outbox.setOnline(true);
  outbox.add("a", "first");
  const before = performance.now();
  (await attempt(0)).reject(new TidingsError("rate_limited", "slow down", true, 80));
  await attempt(1);
  assert.ok(performance.now() - before >= 79);
  assert.equal(attempts.length, 2);
});

test("a refusal for good is marked, and lets the next one pass; the user may try again", async () => {
  const { outbox, attempt, sent } = manual();
  outbox.setOnline(true);
  outbox.add("a", "first");
  outbox.add("a", "second");
  (await attempt(0)).reject(new TidingsError("not_a_member", "you are not a member", false));
  const second = await attempt(1);
  assert.equal(second.entry.text, "second");
  second.resolve(sent(second.entry));
  await until(outbox.entries, (entries) => entries.length === 1);
  assert.equal(outbox.entries.value[0]?.failure?.code, "not_a_member");
  outbox.retry("id-1");
  assert.equal((await attempt(2)).entry.clientMessageId, "id-1");
});

test("an entry that the server has taken in waits for its place, and does not hold up the next", async () => {
  const { outbox, attempts, attempt } = manual();
  outbox.setOnline(true);
  outbox.add("a", "first");
  outbox.add("a", "second");
  (await attempt(0)).resolve(undefined);
  assert.equal((await attempt(1)).entry.text, "second");
  assert.equal(outbox.entries.value.length, 2);
  outbox.settle("id-1");
  assert.deepEqual(outbox.entries.value.map(({ text }) => text), ["second"]);
  outbox.reject("id-2", new TidingsError("not_a_member", "too late", false));
  assert.equal(outbox.entries.value[0]?.failure?.code, "not_a_member");
  assert.equal(attempts.length, 2);
});

test("what waits survives a reload, in its order", async () => {
  const storage = memoryStorage();
  const before = manual({ storage });
  before.outbox.add("a", "first");
  before.outbox.add("a", "second", "answered");
  const after = manual({ storage });
  assert.deepEqual(after.outbox.entries.value.map(({ text }) => text), ["first", "second"]);
  assert.equal(after.outbox.entries.value[1]?.replyTo, "answered");
  after.outbox.setOnline(true);
  assert.equal((await after.attempt(0)).entry.text, "first");
});

test("what may have arrived and is older than the server remembers is not sent again by itself", async () => {
  let now = 1_000_000;
  const { outbox, attempt, attempts } = manual({ now: () => now });
  outbox.setOnline(true);
  outbox.add("a", "first");
  (await attempt(0)).reject(new TidingsError("network", "broken", true));
  outbox.setOnline(false);
  now += DAY_MS;
  outbox.setOnline(true);
  await until(outbox.entries, (entries) => entries[0]?.failure !== undefined);
  assert.equal(attempts.length, 1);
  outbox.retry("id-1");
  assert.equal((await attempt(1)).entry.clientMessageId, "id-2", "beyond the server's memory it is a new message");
});

test("the outbox and a text have their limits", () => {
  const { outbox } = manual();
  assert.throws(() => outbox.add("a", "é".repeat(limits.MESSAGE_TEXT_BYTES_MAX / 2 + 1)), { code: "too_large" });
  for (let index = 0; index < limits.OUTBOX_ENTRIES_MAX; index += 1) outbox.add("a", "x");
  assert.throws(() => outbox.add("a", "one too many"), { code: "unavailable" });
  assert.equal(outbox.entries.value.length, limits.OUTBOX_ENTRIES_MAX);
});

test("a send whose reply is lost is sent again, and there is one message", async (context) => {
  const edge = new MemoryEdge();
  const port = await edge.listen();
  context.after(() => edge.crash());
  const { room, client, conversationId, ben } = await pair(edge, port);
  context.after(() => client.stop());
  // The message gets its place, but neither the reply nor the update comes: the connection breaks first.
  edge.deliver = () => false;
  edge.intercept = (command) => {
    if (command["send"] === undefined) return;
    edge.intercept = () => {};
    const { text, client_message_id: clientMessageId } = command["send"] as Record<string, string>;
    edge.world.append(room, client.userId, { text: text ?? "", clientMessageId: clientMessageId ?? "" });
    edge.deliver = () => true;
    edge.drop(4001);
    return "silence" as const;
  };
  client.send(conversationId, "once");
  await until(client.outbox.entries, (entries) => entries.length === 0);
  edge.world.append(room, ben.user_id, { text: "end" });
  await until(client.conversations.watch(conversationId), (value) => value?.lastSeq === 2);
  assert.deepEqual(room.entries.map(({ text }) => text), ["once", "end"]);
});

test("messages written offline go out on the connection that comes, in order", async (context) => {
  const edge = new MemoryEdge();
  const port = await edge.listen();
  context.after(() => edge.crash());
  const { room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  await edge.crash();
  await until(client.state, ({ status }) => status !== "online");
  for (const text of ["one", "two", "three"]) client.send(conversationId, text);
  assert.equal(client.outbox.entries.value.length, 3);
  await edge.listen(port);
  await until(client.outbox.entries, (entries) => entries.length === 0);
  assert.deepEqual(room.entries.map(({ text }) => text), ["one", "two", "three"]);
});

test("queued and then rejected: the message is marked as failed", async (context) => {
  const edge = new MemoryEdge();
  const port = await edge.listen();
  context.after(() => edge.crash());
  const { client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  edge.intercept = () => {
    throw new Refusal("not_a_member", "you are not a member of this conversation");
  };
  const entry = client.send(conversationId, "hello");
  const failed = await until(client.outbox.entries, (entries) => entries[0]?.failure !== undefined);
  assert.equal(failed[0]?.clientMessageId, entry.clientMessageId);
  edge.intercept = () => {};
  client.outbox.retry(entry.clientMessageId);
  await until(client.outbox.entries, (entries) => entries.length === 0);
});

test("a second client of the same user sees what the first sends, and its own seen cursor", async (context) => {
  const edge = new MemoryEdge();
  const port = await edge.listen();
  context.after(() => edge.crash());
  const { ann, ben, room, client, conversationId } = await pair(edge, port);
  const other = clientOf(port, ann.user_id);
  other.start();
  context.after(() => {
    client.stop();
    other.stop();
  });
  await until(other.loaded, Boolean);
  client.send(conversationId, "from the phone");
  await until(other.conversations.watch(conversationId), (value) => value?.lastMessage?.text === "from the phone");
  edge.world.append(room, ben.user_id, { text: "answer" });
  await until(client.conversations.watch(conversationId), (value) => value?.lastSeq === 2);
  client.markSeen(conversationId, 2);
  await until(other.conversations.watch(conversationId), (value) => value?.seenSeq === 2);
});
