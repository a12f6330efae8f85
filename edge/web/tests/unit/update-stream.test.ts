import assert from "node:assert/strict";
import test from "node:test";
import { clientOf, pair } from "../support/clients.ts";
import { MemoryEdge } from "../support/memory-edge.ts";
import { until } from "../support/until.ts";

async function edgeFor(context: { after: (fn: () => Promise<void>) => void }) {
  const edge = new MemoryEdge();
  const port = await edge.listen();
  context.after(() => edge.crash());
  return { edge, port };
}

const texts = (messages: readonly { text: string }[]): string[] => messages.map(({ text }) => text);
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, index) => `m${from + index}`);

test("a client that comes back resumes where it was: nothing missing, nothing twice, in order", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  const seen: string[] = [];
  client.onArrival((message) => seen.push(message.text));
  const timeline = client.timeline(conversationId);
  await timeline.open();

  for (const text of numbers(1, 3)) edge.world.append(room, ben.user_id, { text });
  await until(timeline.state, ({ messages }) => messages.length === 3);
  await edge.crash();
  for (const text of numbers(4, 20)) edge.world.append(room, ben.user_id, { text });
  await edge.listen(port);
  await until(timeline.state, ({ messages }) => messages.length === 20);
  edge.world.append(room, ben.user_id, { text: "m21" });
  await until(timeline.state, ({ messages }) => messages.length === 21);

  assert.deepEqual(seen, numbers(1, 21));
  assert.deepEqual(texts(timeline.state.value.messages), numbers(1, 21));
});

test("a hole in the stream is healed by resuming", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  const seen: string[] = [];
  client.onArrival((message) => seen.push(message.text));
  const timeline = client.timeline(conversationId);
  await timeline.open();

  edge.deliver = (update) => (update["message"] as { text?: string } | undefined)?.text !== "m2";
  for (const text of numbers(1, 4)) edge.world.append(room, ben.user_id, { text });
  await until(timeline.state, ({ messages }) => messages.length === 4);
  assert.deepEqual(seen, numbers(1, 4));
});

test("an update that comes twice is applied once", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ann, ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  const seen: string[] = [];
  client.onArrival((message) => seen.push(message.text));
  const timeline = client.timeline(conversationId);
  await timeline.open();
  edge.world.append(room, ben.user_id, { text: "m1" });
  await until(timeline.state, ({ messages }) => messages.length === 1);
  edge.sendAll({ update: ann.updates.at(-1) });
  edge.world.append(room, ben.user_id, { text: "m2" });
  await until(timeline.state, ({ messages }) => messages.length === 2);
  assert.deepEqual(seen, ["m1", "m2"]);
});

test("when the server cannot resume, conversations and messages are read anew", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  const timeline = client.timeline(conversationId);
  await timeline.open();
  edge.world.append(room, ben.user_id, { text: "m1" });
  await until(timeline.state, ({ messages }) => messages.length === 1);
  await edge.crash();
  edge.resync = true;
  // More than a page, so that what was known before does not touch the new page.
  for (const text of numbers(2, 120)) edge.world.append(room, ben.user_id, { text });
  await edge.listen(port);
  await until(timeline.state, ({ messages }) => messages.at(-1)?.text === "m120");
  assert.deepEqual(texts(timeline.state.value.messages), numbers(71, 120), "the stretch has no hole in it");
  assert.equal(client.conversations.get(conversationId)?.lastSeq, 120);
  await timeline.loadOlder();
  await timeline.loadOlder();
  assert.deepEqual(texts(timeline.state.value.messages), numbers(1, 120));
  assert.equal(timeline.state.value.complete, true);
});

test("what happens while the conversations are read is not lost", async (context) => {
  const { edge, port } = await edgeFor(context);
  const ann = edge.world.createAccount("ann");
  const ben = edge.world.createAccount("ben");
  const room = edge.world.createDirect(ann.user_id, ben.user_id);
  const client = clientOf(port, ann.user_id);
  context.after(() => client.stop());
  client.start();
  // Online is before the reading: this message comes live, in the middle of it.
  await until(client.state, ({ status }) => status === "online");
  edge.world.append(room, ben.user_id, { text: "in between" });
  const cell = client.conversations.watch(room.conversation_id);
  const conversation = await until(cell, (value) => value?.lastSeq === 1);
  assert.equal(conversation?.lastMessage?.text, "in between");
});

test("a close code that says stay away is obeyed, until the user says otherwise", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { client } = await pair(edge, port);
  context.after(() => client.stop());
  edge.drop(4503);
  const stopped = await until(client.state, ({ status }) => status === "stopped");
  assert.deepEqual(stopped, { status: "stopped", reason: "session_replaced" });
  client.start();
  await until(client.state, ({ status }) => status === "online");
});

test("a close code that says come back brings the client back", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { client } = await pair(edge, port);
  context.after(() => client.stop());
  edge.sendAll({ goaway: { reconnect_after_ms: 5 } });
  edge.drop(4000);
  await until(client.state, ({ status }) => status === "waiting");
  await until(client.state, ({ status }) => status === "online");
});

test("receipts move ticks, and never back", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ann, ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  edge.world.append(room, ann.user_id, { text: "hello" });
  edge.world.receipt(room, ben.user_id, 1, 0);
  const cell = client.conversations.watch(conversationId);
  await until(cell, (value) => value?.deliveredToAllSeq === 1);
  edge.world.receipt(room, ben.user_id, 1, 1);
  await until(cell, (value) => value?.seenByAllSeq === 1);
  edge.world.tell(ann.user_id, {
    receipt: { conversation_id: conversationId, delivered_seq: "0", seen_seq: "0", delivered_to_all_seq: "0", seen_by_all_seq: "0" },
  });
  edge.world.append(room, ann.user_id, { text: "later" });
  await until(cell, (value) => value?.lastSeq === 2);
  assert.equal(cell.value?.seenByAllSeq, 1);
});

test("a connection that died in silence is noticed, and replaced", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { client } = await pair(edge, port);
  context.after(() => client.stop());
  edge.intercept = () => "silence";
  client.probe(20);
  await until(client.state, ({ status }) => status === "waiting");
  edge.intercept = () => {};
  await until(client.state, ({ status }) => status === "online");
});

test("a hole that resuming does not heal leads to a fresh start, not to a circle", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ann, ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  // The server has lost an update for good: the stream goes on after it.
  edge.world.append(room, ben.user_id, { text: "m1" });
  await until(client.conversations.watch(conversationId), (value) => value?.lastSeq === 1);
  edge.deliver = () => false;
  edge.world.append(room, ben.user_id, { text: "m2" });
  edge.deliver = () => true;
  ann.updates.splice(ann.updates.length - 1, 1, { offset: String(ann.updates.length + 50), receipt: { conversation_id: conversationId } });
  edge.sendAll({ update: ann.updates.at(-1) });
  await until(client.conversations.watch(conversationId), (value) => value?.lastSeq === 2);
});

test("messages that could not be read without a connection are read when it is back", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ben, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  edge.world.append(room, ben.user_id, { text: "m1" });
  await edge.crash();
  const timeline = client.timeline(conversationId);
  await timeline.open();
  assert.equal(timeline.state.value.error?.code, "network");
  await edge.listen(port);
  const { messages } = await until(timeline.state, ({ fresh }) => !fresh);
  assert.deepEqual(texts(messages), ["m1"]);
  assert.equal(timeline.state.value.error, undefined);
});

test("a conversation that the user is no longer in leaves the list at once and comes back with them", async (context) => {
  const { edge, port } = await edgeFor(context);
  const { ann, room, client, conversationId } = await pair(edge, port);
  context.after(() => client.stop());
  const { sorted } = client.conversations;
  assert.equal(sorted.value.length, 1);

  edge.world.tell(ann.user_id, { conversation: { ...edge.world.view(room, ann.user_id), role: "" } });
  await until(sorted, (conversations) => conversations.length === 0);
  assert.equal(client.conversations.get(conversationId)?.role, "", "who looks at it can see that it is closed");
  edge.world.tell(ann.user_id, { conversation: edge.world.view(room, ann.user_id) });
  await until(sorted, (conversations) => conversations.length === 1);
});
