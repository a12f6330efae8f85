import { Connection, type ConnectionState, type Socket } from "./connection.ts";
import { Conversations } from "./conversations.ts";
import { Directory } from "./directory.ts";
import { TidingsError, asTidingsError } from "./errors.ts";
import { HttpApi, type MessagesQuery, type Page } from "./http.ts";
import { TIMELINES_MAX } from "./limits.ts";
import { Members } from "./members.ts";
import { Observable, type Watchable } from "./observable.ts";
import { Outbox, type OutboxEntry } from "./outbox.ts";
import { Presences } from "./presences.ts";
import { Receipts } from "./receipts.ts";
import type { KeyValueStorage } from "./storage.ts";
import { Synchroniser } from "./synchroniser.ts";
import { Timeline } from "./timeline.ts";
import type { Conversation, Member, Message, Role, Session, Update } from "./types.ts";
import { Typing } from "./typing.ts";
import { newUuid } from "./uuid.ts";
import { type Json, decodeConversation, decodeError, decodeMessage, decodePresence, decodeUpdate, object, text } from "./wire.ts";

/** How to make a {@link TidingsClient}. */
export interface ClientOptions {
  /** Where the edge is: `https://chat.example.org`. */
  baseUrl: string;
  session: Session;
  /** Names this device among the user's. A newer session with the same name ends the older one. */
  deviceId: string;
  /** Where messages wait that could not be sent yet. */
  storage: KeyValueStorage;
  fetch?: typeof fetch;
  openSocket?: (url: string, protocol: string) => Socket;
  newId?: () => string;
  random?: () => number;
  backoffBaseMs?: number;
  backoffCapMs?: number;
}

/**
 * A signed-in user's view of Tidings, kept up to date: conversations, messages, receipts, presence, typing; and the
 * commands that change them. `start` connects; everything else may be called at any time, connected or not.
 */
export class TidingsClient {
  readonly userId: string;
  readonly http: HttpApi;
  readonly conversations = new Conversations();
  readonly directory: Directory;
  readonly members: Members;
  readonly outbox: Outbox;
  readonly presences: Presences;
  readonly typing: Typing;
  readonly #connection: Connection;
  readonly #receipts: Receipts;
  readonly #synchroniser: Synchroniser;
  readonly #timelines = new Map<string, Timeline>();
  readonly #arrivals = new Set<(message: Message) => void>();
  readonly #loaded = new Observable(false);

  constructor(options: ClientOptions) {
    const { session, baseUrl } = options;
    this.userId = session.userId;
    this.http = new HttpApi(baseUrl, () => session.token, options.fetch);
    this.directory = new Directory((userId) => this.http.user(userId));
    this.members = new Members((conversationId) => this.#readMembers(conversationId));
    this.#synchroniser = new Synchroniser({
      http: this.http,
      apply: (update) => this.#apply(update),
      reloaded: (conversations) => this.#reloaded(conversations),
      broken: () => this.#connection.drop(),
    });
    this.#connection = new Connection({
      ...options,
      url: `${baseUrl.replace(/^http/, "ws")}/v1/connect`,
      token: () => session.token,
      resume: () => this.#synchroniser.position,
      onWelcome: (welcome) => this.#synchroniser.welcomed(welcome),
      onPush: (frame) => this.#pushed(frame),
    });
    this.outbox = new Outbox({
      storage: options.storage,
      keyPrefix: `tidings.outbox.${session.userId}.`,
      send: (entry) => this.#send(entry),
      onSent: (message) => this.#arrived(message),
      newId: options.newId ?? newUuid,
      ...(options.random === undefined ? {} : { random: options.random }),
    });
    this.#receipts = new Receipts(async (conversation_id, { deliveredSeq, seenSeq }) => {
      const receipt: Json = { conversation_id, delivered_seq: String(deliveredSeq) };
      if (seenSeq > 0) receipt["seen_seq"] = String(seenSeq);
      await this.#connection.request({ receipt });
    });
    this.typing = new Typing((conversation_id) => this.#connection.notify({ typing: { conversation_id } }));
    this.presences = new Presences((command, user_ids) => {
      // If this is lost, so is the session, and the next one is told everything anew.
      this.#connection.request({ [command]: { user_ids } }).catch(() => {});
    });
    this.#connection.state.subscribe((state) => this.#connectionChanged(state));
  }

  /** Whether there is a connection, and if not, why. */
  get state(): Watchable<ConnectionState> {
    return this.#connection.state;
  }

  /** Whether the conversations have been read. */
  get loaded(): Watchable<boolean> {
    return this.#loaded;
  }

  /** Connects, and stays connected. Also: tries again now, after a stop or in the middle of a back-off. */
  start(): void {
    this.#connection.connect();
  }

  /** Ends the session. The client cannot be used any more. */
  stop(): void {
    this.#connection.close();
    this.#receipts.close();
    this.outbox.close();
    this.typing.close();
    this.#synchroniser.close();
    for (const timeline of this.#timelines.values()) timeline.close();
  }

  /** Finds out within the time (milliseconds) whether the connection still lives, and otherwise makes a new one. */
  probe(timeoutMs = 4_000): void {
    this.#connection.probe(timeoutMs);
  }

  /** Whether nobody is looking. */
  setIdle(idle: boolean): void {
    this.#connection.setIdle(idle);
  }

  /** Calls `listener` with every message that comes in live, from whomever, until the returned function is called. */
  onArrival(listener: (message: Message) => void): () => void {
    this.#arrivals.add(listener);
    return () => this.#arrivals.delete(listener);
  }

  /** The messages of a conversation. `open` them to have them read. */
  timeline(conversationId: string): Timeline {
    let timeline = this.#timelines.get(conversationId);
    if (timeline === undefined) {
      timeline = new Timeline((query) => this.#readMessages(conversationId, query));
    }
    // Kept in the order of last use, so that the first is the one to let go.
    this.#timelines.delete(conversationId);
    this.#timelines.set(conversationId, timeline);
    const [oldest] = this.#timelines;
    if (this.#timelines.size > TIMELINES_MAX && oldest !== undefined) {
      oldest[1].close();
      this.#timelines.delete(oldest[0]);
    }
    return timeline;
  }

  /** Sends a text: at once if there is a connection, else as soon as there is one. Watch `outbox` for what becomes of it. */
  send(conversationId: string, body: string, replyTo?: string): OutboxEntry {
    this.typing.ended(conversationId);
    return this.outbox.add(conversationId, body, replyTo);
  }

  /** The user has looked at everything up to `seq`. */
  markSeen(conversationId: string, seq: number): void {
    const conversation = this.conversations.get(conversationId);
    if (conversation === undefined || conversation.role === "" || seq <= conversation.seenSeq) return;
    this.conversations.put({ ...conversation, deliveredSeq: Math.max(seq, conversation.deliveredSeq), seenSeq: seq });
    this.#receipts.seen(conversationId, seq);
  }

  async editMessage(message: Message, body: string): Promise<void> {
    const { conversationId: conversation_id, messageId: message_id } = message;
    this.#changed(decodeMessage((await this.#request({ edit_message: { conversation_id, message_id, text: body } }))["message"]));
  }

  async deleteMessage(message: Message): Promise<void> {
    const { conversationId: conversation_id, messageId: message_id } = message;
    this.#changed(decodeMessage((await this.#request({ delete_message: { conversation_id, message_id } }))["message"]));
  }

  /** The direct chat with a user: a new one, or the one there is. */
  startDirect(userId: string): Promise<Conversation> {
    return this.#change({ create_conversation: { kind: "direct", member_ids: [userId] } });
  }

  createGroup(title: string, memberIds: readonly string[]): Promise<Conversation> {
    return this.#change({ create_conversation: { kind: "group", title, member_ids: memberIds } });
  }

  addMember(conversation_id: string, user_id: string): Promise<Conversation> {
    return this.#change({ add_member: { conversation_id, user_id, role: "member" } });
  }

  setRole(conversation_id: string, user_id: string, role: Exclude<Role, "">): Promise<Conversation> {
    return this.#change({ set_role: { conversation_id, user_id, role } });
  }

  removeMember(conversation_id: string, user_id: string): Promise<Conversation> {
    return this.#change({ remove_member: { conversation_id, user_id } });
  }

  leave(conversationId: string): Promise<Conversation> {
    return this.removeMember(conversationId, this.userId);
  }

  rename(conversation_id: string, title: string): Promise<Conversation> {
    return this.#change({ rename_conversation: { conversation_id, title } });
  }

  deleteConversation(conversation_id: string): Promise<Conversation> {
    return this.#change({ delete_conversation: { conversation_id } });
  }

  async #change(command: Json): Promise<Conversation> {
    const conversation = decodeConversation((await this.#request(command))["conversation"]);
    this.#putConversation(conversation);
    this.members.invalidate(conversation.conversationId);
    return conversation;
  }

  async #request(command: Json): Promise<Json> {
    return this.#connection.request(command);
  }

  async #send(entry: OutboxEntry): Promise<Message | undefined> {
    const send: Json = {
      conversation_id: entry.conversationId,
      client_message_id: entry.clientMessageId,
      text: entry.text,
    };
    if (entry.replyTo !== undefined) send["reply_to"] = entry.replyTo;
    const reply = await this.#connection.request({ send });
    const sent = reply["sent"];
    return sent === undefined ? undefined : decodeMessage(object(sent)["message"]);
  }

  #connectionChanged(state: ConnectionState): void {
    const online = state.status === "online";
    this.presences.setOnline(online);
    this.#receipts.setOnline(online);
    this.outbox.setOnline(online);
    this.#synchroniser.setOnline(online);
    if (!online) return;
    for (const timeline of this.#timelines.values()) if (timeline.state.value.error !== undefined) void timeline.loadOlder();
  }

  #pushed(frame: Json): void {
    if (frame["update"] !== undefined) {
      this.#synchroniser.received(decodeUpdate(frame["update"]));
    } else if (frame["typing"] !== undefined) {
      const typing = object(frame["typing"]);
      this.typing.received(text(typing["conversation_id"]), text(typing["user_id"]));
    } else if (frame["presence"] !== undefined) {
      this.presences.received(decodePresence(frame["presence"]));
    } else if (frame["rejected"] !== undefined) {
      const rejected = object(frame["rejected"]);
      this.outbox.reject(text(rejected["client_message_id"]), decodeError(rejected["error"]));
    }
  }

  #apply(update: Update): void {
    switch (update.kind) {
      case "message":
        this.#arrived(update.message);
        for (const listener of this.#arrivals) listener(update.message);
        break;
      case "message_changed":
        this.#changed(update.message);
        break;
      case "receipt":
        this.conversations.moveCursors(update.receipt, this.userId);
        break;
      case "conversation":
        this.#putConversation(update.conversation);
        this.members.invalidate(update.conversation.conversationId);
        break;
      case "unknown":
        break;
    }
  }

  #arrived(message: Message): void {
    const { conversationId, senderId } = message;
    if (senderId === this.userId) this.outbox.settle(message.clientMessageId);
    if (this.conversations.get(conversationId) === undefined) this.#learnConversation(conversationId);
    this.conversations.addMessage(message, this.userId);
    this.#timelines.get(conversationId)?.add(message);
    this.typing.stopped(conversationId, senderId);
    if (message.kind === "membership") this.members.invalidate(conversationId);
    if (senderId !== this.userId) this.#receipts.delivered(conversationId, message.seq);
  }

  #changed(message: Message): void {
    this.conversations.changeMessage(message);
    this.#timelines.get(message.conversationId)?.replace(message);
  }

  #putConversation(conversation: Conversation): void {
    if (conversation.conversationId === "") throw new TidingsError("internal", "the server's reply names no conversation");
    if (conversation.peer !== undefined) this.directory.learn(conversation.peer);
    this.conversations.put(conversation);
    const { lastSeq, deliveredSeq, role, conversationId } = this.conversations.get(conversation.conversationId) ?? conversation;
    if (role !== "" && lastSeq > deliveredSeq) this.#receipts.delivered(conversationId, lastSeq);
  }

  #learnConversation(conversationId: string): void {
    this.http
      .conversation(conversationId)
      .then((conversation) => this.#putConversation(conversation))
      // Not a member any more: then there is nothing to show.
      .catch(() => {});
  }

  #reloaded(conversations: readonly Conversation[]): void {
    this.conversations.batch(() => {
      this.conversations.replaceAll(conversations);
      for (const conversation of conversations) this.#putConversation(conversation);
    });
    this.members.invalidateAll();
    for (const timeline of this.#timelines.values()) void timeline.refresh();
    this.#loaded.set(true);
  }

  /** A page. One that was on its way when the connection broke and came back is asked for once more. */
  async #readMessages(conversationId: string, query: MessagesQuery): Promise<Page<Message>> {
    try {
      return await this.http.messages(conversationId, query);
    } catch (thrown) {
      if (asTidingsError(thrown).code !== "network" || this.state.value.status !== "online") throw thrown;
      return await this.http.messages(conversationId, query);
    }
  }

  async #readMembers(conversationId: string): Promise<Member[]> {
    const members = await this.http.members(conversationId);
    for (const member of members) this.directory.learn(member);
    return members;
  }
}
