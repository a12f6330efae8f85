/**
 * The contract's state in memory, without durability or limits: enough of an edge to test the SDK against, and to work on
 * the client without the real one. What counts as done is decided by the browser tests, which use the real program.
 */
import { randomUUID } from "node:crypto";

export interface Account {
  user_id: string;
  username: string;
  display_name: string;
  password: string;
  /** The update stream; `updates[i]` has the offset i + 1. */
  updates: object[];
  lastSeenAt: string | undefined;
}

export interface Stay {
  role: string;
  joined_seq: number;
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
  reply_to?: string;
  edited_at?: string;
  deleted_at?: string;
  membership?: object;
}

export interface Room {
  conversation_id: string;
  kind: string;
  title: string;
  deleted: boolean;
  created_at: string;
  members: Map<string, Stay>;
  left: Set<string>;
  entries: Entry[];
}

/** An error as the contract has it. */
export class Refusal extends Error {
  readonly code: string;
  readonly retryable: boolean;
  constructor(code: string, message: string, retryable = false) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

export class World {
  readonly accounts = new Map<string, Account>();
  readonly rooms = new Map<string, Room>();
  readonly epoch = randomUUID();
  /** Called with every update as it is numbered. */
  onUpdate: (userId: string, update: object) => void = () => {};
  #clock = Date.now();

  now(): string {
    this.#clock = Math.max(this.#clock + 1, Date.now());
    return new Date(this.#clock).toISOString();
  }

  createAccount(username: string, password: string, displayName: string): Account {
    if (this.byName(username)) throw new Refusal("already_exists", "that user name is taken; choose another");
    const account: Account = {
      user_id: randomUUID(),
      username,
      display_name: displayName || username,
      password,
      updates: [],
      lastSeenAt: undefined,
    };
    this.accounts.set(account.user_id, account);
    return account;
  }

  byName(username: string): Account | undefined {
    return [...this.accounts.values()].find((account) => account.username === username);
  }

  account(userId: string): Account {
    const account = this.accounts.get(userId);
    if (account === undefined) throw new Refusal("not_found", "there is no such user");
    return account;
  }

  user(userId: string): object {
    const { user_id, username, display_name } = this.account(userId);
    return { user_id, username, display_name };
  }

  room(conversationId: string, userId: string): { room: Room; stay: Stay } {
    const room = this.rooms.get(conversationId);
    if (room === undefined || room.deleted) throw new Refusal("not_found", "there is no such conversation");
    const stay = room.members.get(userId);
    if (stay === undefined) throw new Refusal("not_a_member", "you are not a member of this conversation");
    return { room, stay };
  }

  view(room: Room, userId: string): object {
    const stay = room.members.get(userId);
    const others = [...room.members].filter(([id]) => id !== userId).map(([, other]) => other);
    const lowest = (of: (stay: Stay) => number): string => String(others.length ? Math.min(...others.map(of)) : 0);
    const peerId = room.kind === "direct" ? [...room.members.keys()].find((id) => id !== userId) : undefined;
    const last = room.entries.at(-1);
    return {
      conversation_id: room.conversation_id,
      kind: room.kind,
      title: room.title,
      member_count: room.members.size,
      last_seq: String(room.entries.length),
      ...(last ? { last_message: last } : {}),
      unread_count: String(room.entries.length - (stay?.seen_seq ?? 0)),
      delivered_seq: String(stay?.delivered_seq ?? 0),
      seen_seq: String(stay?.seen_seq ?? 0),
      delivered_to_all_seq: lowest((other) => other.delivered_seq),
      seen_by_all_seq: lowest((other) => other.seen_seq),
      role: stay?.role ?? "",
      deleted: room.deleted,
      ...(peerId ? { peer: this.user(peerId) } : {}),
      created_at: room.created_at,
      last_activity_at: last?.sent_at ?? room.created_at,
    };
  }

  roomsOf(userId: string): object[] {
    const mine = [...this.rooms.values()].filter((room) => !room.deleted && (room.members.has(userId) || room.left.has(userId)));
    const activity = (room: Room): string => room.entries.at(-1)?.sent_at ?? room.created_at;
    return mine.sort((a, b) => (activity(a) < activity(b) ? 1 : -1)).map((room) => this.view(room, userId));
  }

  create(by: string, kind: string, title: string, memberIds: string[]): Room {
    for (const id of memberIds) this.account(id);
    if (kind === "direct") {
      const peer = memberIds.find((id) => id !== by) ?? "";
      const known = [...this.rooms.values()].find((room) => room.kind === "direct" && room.members.has(by) && room.members.has(peer));
      if (known) return known;
    }
    const room: Room = {
      conversation_id: randomUUID(),
      kind,
      title,
      deleted: false,
      created_at: this.now(),
      members: new Map(),
      left: new Set(),
      entries: [],
    };
    this.rooms.set(room.conversation_id, room);
    for (const id of new Set([by, ...memberIds])) {
      const role = kind === "group" && id === by ? "owner" : "member";
      room.members.set(id, { role, joined_seq: 0, delivered_seq: 0, seen_seq: 0 });
    }
    this.tellAll(room);
    if (kind === "group") this.append(room, by, { membership: { action: "created", by, title } });
    return room;
  }

  append(room: Room, by: string, content: { text?: string; clientMessageId?: string; replyTo?: string; membership?: object }): Entry {
    const again = room.entries.find((entry) => entry.client_message_id !== "" && entry.client_message_id === content.clientMessageId);
    if (again && again.sender_id === by) return again;
    const entry: Entry = {
      message_id: randomUUID(),
      client_message_id: content.clientMessageId ?? "",
      conversation_id: room.conversation_id,
      seq: String(room.entries.length + 1),
      sender_id: by,
      sent_at: this.now(),
      kind: content.membership ? "membership" : "text",
      text: content.text ?? "",
      attachments: [],
      ...(content.replyTo ? { reply_to: content.replyTo } : {}),
      ...(content.membership ? { membership: content.membership } : {}),
    };
    room.entries.push(entry);
    const own = room.members.get(by);
    if (own) own.delivered_seq = own.seen_seq = room.entries.length;
    for (const id of room.members.keys()) this.tell(id, { message: entry });
    return entry;
  }

  change(room: Room, userId: string, messageId: string, edit: (entry: Entry) => Partial<Entry>): Entry {
    const index = room.entries.findIndex((entry) => entry.message_id === messageId);
    const entry = room.entries[index];
    if (entry === undefined) throw new Refusal("not_found", "there is no such message");
    if (entry.sender_id !== userId && room.members.get(userId)?.role === "member") {
      throw new Refusal("permission_denied", "only its sender may do that");
    }
    const changed = { ...entry, ...edit(entry) };
    room.entries[index] = changed;
    for (const id of room.members.keys()) this.tell(id, { message_changed: changed });
    return changed;
  }

  receipt(room: Room, userId: string, delivered: number, seen: number): void {
    const stay = room.members.get(userId);
    if (stay === undefined) return;
    const end = room.entries.length;
    const before = JSON.stringify(stay);
    stay.seen_seq = Math.max(stay.seen_seq, Math.min(seen, end));
    stay.delivered_seq = Math.max(stay.delivered_seq, stay.seen_seq, Math.min(delivered, end));
    if (JSON.stringify(stay) === before) return;
    for (const id of room.members.keys()) {
      if (room.kind === "group" && id === userId) continue;
      const { delivered_to_all_seq, seen_by_all_seq } = this.view(room, id) as Record<string, string>;
      const cursors = { delivered_seq: String(stay.delivered_seq), seen_seq: String(stay.seen_seq) };
      this.tell(id, {
        receipt: {
          conversation_id: room.conversation_id,
          ...(room.kind === "direct" ? { user_id: userId, ...cursors } : { delivered_seq: "0", seen_seq: "0" }),
          delivered_to_all_seq,
          seen_by_all_seq,
        },
      });
    }
  }

  setMember(room: Room, by: string, userId: string, role: string): void {
    this.account(userId);
    const known = room.members.get(userId);
    if (known) {
      known.role = role;
      this.append(room, by, { membership: { action: "role", by, user_id: userId, role } });
    } else {
      const at = room.entries.length;
      room.members.set(userId, { role, joined_seq: at + 1, delivered_seq: at, seen_seq: at });
      room.left.delete(userId);
      this.append(room, by, { membership: { action: "added", by, user_id: userId, role } });
    }
    this.tellAll(room);
  }

  removeMember(room: Room, by: string, userId: string): void {
    const action = by === userId ? "left" : "removed";
    const owner = room.members.get(userId)?.role === "owner";
    this.append(room, by, { membership: { action, by, user_id: userId } });
    room.members.delete(userId);
    room.left.add(userId);
    const [heir] = room.members.values();
    if (owner && heir) {
      heir.role = "owner";
      const heirId = [...room.members.keys()][0] ?? "";
      this.append(room, by, { membership: { action: "role", by, user_id: heirId, role: "owner" } });
    }
    this.tell(userId, { conversation: this.view(room, userId) });
    this.tellAll(room);
  }

  tellAll(room: Room): void {
    for (const id of room.members.keys()) this.tell(id, { conversation: this.view(room, id) });
  }

  tell(userId: string, kind: object): void {
    const account = this.account(userId);
    const update = { offset: String(account.updates.length + 1), ...kind };
    account.updates.push(update);
    this.onUpdate(userId, update);
  }
}
