/**
 * The contract's state in memory: accounts, conversations and update streams, without durability, limits or roles. It
 * exists so that the SDK can be tested against an edge that misbehaves on demand; what the real one does is tested by the
 * browser tests.
 */
import { randomUUID } from "node:crypto";

export interface Account {
  user_id: string;
  username: string;
  /** The update stream; `updates[i]` has the offset i + 1. */
  updates: object[];
}

export interface Cursors {
  delivered_seq: number;
  seen_seq: number;
}

export interface Entry {
  message_id: string;
  client_message_id: string;
  conversation_id: string;
  seq: string;
  sender_id: string;
  sent_at: string;
  kind: string;
  text: string;
  attachments: [];
}

/** A direct chat. */
export interface Room {
  conversation_id: string;
  members: Map<string, Cursors>;
  entries: Entry[];
}

/** An error as the contract has it. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export class World {
  readonly accounts = new Map<string, Account>();
  readonly rooms = new Map<string, Room>();
  readonly epoch = randomUUID();
  /** Called with every update as it is numbered. */
  onUpdate: (userId: string, update: object) => void = () => {};

  now(): string {
    return new Date().toISOString();
  }

  createAccount(username: string): Account {
    const account: Account = { user_id: randomUUID(), username, updates: [] };
    this.accounts.set(account.user_id, account);
    return account;
  }

  account(userId: string): Account {
    const account = this.accounts.get(userId);
    if (account === undefined) throw new Refusal("not_found", "there is no such user");
    return account;
  }

  user(userId: string): object {
    const { user_id, username } = this.account(userId);
    return { user_id, username, display_name: username };
  }

  room(conversationId: string, userId: string): Room {
    const room = this.rooms.get(conversationId);
    if (room === undefined) throw new Refusal("not_found", "there is no such conversation");
    if (!room.members.has(userId)) throw new Refusal("not_a_member", "you are not a member of this conversation");
    return room;
  }

  /** A conversation as it stands for a user. */
  view(room: Room, userId: string): object {
    const own = room.members.get(userId);
    const [peerId, peer] = [...room.members].find(([id]) => id !== userId) ?? ["", undefined];
    const last = room.entries.at(-1);
    return {
      conversation_id: room.conversation_id,
      kind: "direct",
      title: "",
      member_count: room.members.size,
      last_seq: String(room.entries.length),
      ...(last ? { last_message: last } : {}),
      unread_count: String(room.entries.length - (own?.seen_seq ?? 0)),
      delivered_seq: String(own?.delivered_seq ?? 0),
      seen_seq: String(own?.seen_seq ?? 0),
      delivered_to_all_seq: String(peer?.delivered_seq ?? 0),
      seen_by_all_seq: String(peer?.seen_seq ?? 0),
      role: "member",
      deleted: false,
      peer: this.user(peerId),
    };
  }

  roomsOf(userId: string): object[] {
    return [...this.rooms.values()].filter((room) => room.members.has(userId)).map((room) => this.view(room, userId));
  }

  createDirect(...memberIds: string[]): Room {
    const room: Room = { conversation_id: randomUUID(), members: new Map(), entries: [] };
    for (const id of memberIds) room.members.set(id, { delivered_seq: 0, seen_seq: 0 });
    this.rooms.set(room.conversation_id, room);
    for (const id of memberIds) this.tell(id, { conversation: this.view(room, id) });
    return room;
  }

  append(room: Room, by: string, content: { text: string; clientMessageId?: string }): Entry {
    const { text, clientMessageId = randomUUID() } = content;
    const again = room.entries.find((entry) => entry.client_message_id === clientMessageId && entry.sender_id === by);
    if (again !== undefined) return again;
    const entry: Entry = {
      message_id: randomUUID(),
      client_message_id: clientMessageId,
      conversation_id: room.conversation_id,
      seq: String(room.entries.length + 1),
      sender_id: by,
      sent_at: this.now(),
      kind: "text",
      text,
      attachments: [],
    };
    room.entries.push(entry);
    room.members.set(by, { delivered_seq: room.entries.length, seen_seq: room.entries.length });
    for (const id of room.members.keys()) this.tell(id, { message: entry });
    return entry;
  }

  receipt(room: Room, userId: string, delivered: number, seen: number): void {
    const known = room.members.get(userId);
    if (known === undefined) return;
    const end = room.entries.length;
    const seen_seq = Math.max(known.seen_seq, Math.min(seen, end));
    const delivered_seq = Math.max(known.delivered_seq, seen_seq, Math.min(delivered, end));
    if (seen_seq === known.seen_seq && delivered_seq === known.delivered_seq) return;
    room.members.set(userId, { delivered_seq, seen_seq });
    const { conversation_id } = room;
    const cursors = { user_id: userId, delivered_seq: String(delivered_seq), seen_seq: String(seen_seq) };
    for (const id of room.members.keys()) {
      const { delivered_to_all_seq, seen_by_all_seq } = this.view(room, id) as Record<string, string>;
      this.tell(id, { receipt: { conversation_id, ...cursors, delivered_to_all_seq, seen_by_all_seq } });
    }
  }

  /** Puts an update at the end of a user's stream. */
  tell(userId: string, kind: object): void {
    const account = this.account(userId);
    const update = { offset: String(account.updates.length + 1), ...kind };
    account.updates.push(update);
    this.onUpdate(userId, update);
  }
}
