import { Backoff } from "./backoff.ts";
import { TidingsError, asTidingsError } from "./errors.ts";
import { MESSAGE_TEXT_BYTES_MAX, OUTBOX_ENTRIES_MAX, OUTBOX_RETRY_AGE_MS_MAX } from "./limits.ts";
import { Observable, type Watchable } from "./observable.ts";
import type { KeyValueStorage } from "./storage.ts";
import type { Message } from "./types.ts";

/** A message that the user has sent and the server has not yet given a place. */
export interface OutboxEntry {
  /** Chosen once, and the same in every retry: the server never makes two messages of it. */
  readonly clientMessageId: string;
  readonly conversationId: string;
  readonly text: string;
  readonly replyTo?: string;
  readonly createdAt: number;
  /** Orders entries of the same millisecond. */
  readonly order: number;
  /** Whether it may have reached the server already. */
  readonly attempted: boolean;
  /** Set when it will not be retried on its own: why. */
  readonly failure?: { readonly code: string; readonly message: string };
}

/** What an outbox needs from its owner. */
export interface OutboxOptions {
  storage: KeyValueStorage;
  /** Keys are `PREFIX` + client_message_id: one for each entry, so that two tabs do not overwrite each other. */
  keyPrefix: string;
  /**
   * Tries once. Resolves with the message; or with undefined when the server has it but its place is not known yet (the
   * stream brings the message, or `rejected`). Rejects with a {@link TidingsError}.
   */
  send: (entry: OutboxEntry) => Promise<Message | undefined>;
  /** Called with each message that got its place by a reply. */
  onSent: (message: Message) => void;
  newId: () => string;
  now?: () => number;
  random?: () => number;
  retryBaseMs?: number;
}

/**
 * Messages on their way out. They survive a reload, go out in order within a conversation, and are retried with the
 * same `client_message_id` until the server has given each its place or has refused it for good.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #now: () => number;
  readonly #entries: Observable<readonly OutboxEntry[]>;
  /** Conversations with a send under way, or waiting before the next attempt. */
  readonly #busy = new Map<string, ReturnType<typeof setTimeout> | undefined>();
  /** On the server, but not yet placed. Sent again after a reconnect. */
  readonly #placing = new Set<string>();
  readonly #backoff: Backoff;
  #online = false;
  #lastOrder = 0;

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#backoff = new Backoff(options.retryBaseMs ?? 1_000, 30_000, options.random ?? Math.random);
    this.#entries = new Observable(this.#load());
  }

  /** All entries, oldest first. */
  get entries(): Watchable<readonly OutboxEntry[]> {
    return this.#entries;
  }

  /** Queues a message and starts on it when there is a connection. Throws when it can never be sent, or the outbox is full. */
  add(conversationId: string, text: string, replyTo?: string): OutboxEntry {
    if (new TextEncoder().encode(text).length > MESSAGE_TEXT_BYTES_MAX) {
      throw new TidingsError("too_large", `a message may have ${MESSAGE_TEXT_BYTES_MAX / 1024} KiB of text; send it in parts`);
    }
    if (this.#entries.value.length >= OUTBOX_ENTRIES_MAX) {
      throw new TidingsError("unavailable", "too many messages are waiting to be sent; wait until the connection is back", true);
    }
    const createdAt = this.#now();
    this.#lastOrder = Math.max(this.#lastOrder + 1, createdAt * 1_000);
    const entry: OutboxEntry = {
      clientMessageId: this.#options.newId(),
      conversationId,
      text,
      createdAt,
      order: this.#lastOrder,
      attempted: false,
      ...(replyTo === undefined ? {} : { replyTo }),
    };
    this.#put(entry);
    this.#advance(conversationId);
    return entry;
  }

  /** The connection came or went. When it comes, everything that waits goes out again. */
  setOnline(online: boolean): void {
    this.#online = online;
    if (!online) return;
    this.#placing.clear();
    this.#backoff.reset();
    for (const [conversationId, timer] of Array.from(this.#busy)) {
      if (timer === undefined) continue;
      clearTimeout(timer);
      this.#busy.delete(conversationId);
    }
    for (const conversationId of new Set(this.#entries.value.map((entry) => entry.conversationId))) this.#advance(conversationId);
  }

  /** The message has its place, as the update stream tells: the entry is done. */
  settle(clientMessageId: string): void {
    const entry = this.#find(clientMessageId);
    if (entry === undefined) return;
    this.#placing.delete(clientMessageId);
    this.#options.storage.remove(this.#options.keyPrefix + clientMessageId);
    this.#entries.update((entries) => entries.filter((other) => other.clientMessageId !== clientMessageId));
    this.#advance(entry.conversationId);
  }

  /** The server refused it after all. */
  reject(clientMessageId: string, error: TidingsError): void {
    const entry = this.#find(clientMessageId);
    if (entry === undefined) return;
    this.#placing.delete(clientMessageId);
    if (error.retryable) this.#again(entry, error);
    else this.#fail(entry, error);
  }

  /** Tries an entry again that failed for good: the user wants it so. */
  retry(clientMessageId: string): void {
    const entry = this.#find(clientMessageId);
    if (entry?.failure === undefined) return;
    const { failure: _, ...rest } = entry;
    // Beyond the server's memory for client_message_ids a new id says honestly that this is a new message.
    const expired = this.#now() - entry.createdAt > OUTBOX_RETRY_AGE_MS_MAX;
    if (expired) {
      this.discard(clientMessageId);
      this.add(entry.conversationId, entry.text, entry.replyTo);
      return;
    }
    this.#put(rest);
    this.#advance(entry.conversationId);
  }

  /** Forgets an entry. */
  discard(clientMessageId: string): void {
    this.settle(clientMessageId);
  }

  /** Stops all timers, for good. */
  close(): void {
    this.#online = false;
    for (const timer of this.#busy.values()) clearTimeout(timer);
  }

  #find(clientMessageId: string): OutboxEntry | undefined {
    return this.#entries.value.find((entry) => entry.clientMessageId === clientMessageId);
  }

  /** Starts on the conversation's oldest entry that can go out, unless one is under way. */
  #advance(conversationId: string): void {
    if (!this.#online || this.#busy.has(conversationId)) return;
    const entry = this.#entries.value.find(
      (candidate) =>
        candidate.conversationId === conversationId &&
        candidate.failure === undefined &&
        !this.#placing.has(candidate.clientMessageId),
    );
    if (entry === undefined) return;
    if (entry.attempted && this.#now() - entry.createdAt > OUTBOX_RETRY_AGE_MS_MAX) {
      this.#fail(entry, new TidingsError("expired", "this waited for more than a day; look whether it arrived before you send it again"));
      return;
    }
    this.#busy.set(conversationId, undefined);
    const attempt = entry.attempted ? entry : { ...entry, attempted: true };
    if (attempt !== entry) this.#put(attempt);
    void this.#attempt(attempt);
  }

  async #attempt(entry: OutboxEntry): Promise<void> {
    try {
      const message = await this.#options.send(entry);
      this.#busy.delete(entry.conversationId);
      this.#backoff.reset();
      if (message === undefined) {
        // It is in the log: what comes after it in this conversation may follow.
        if (this.#find(entry.clientMessageId) !== undefined) this.#placing.add(entry.clientMessageId);
        this.#advance(entry.conversationId);
        return;
      }
      this.#options.onSent(message);
      this.settle(entry.clientMessageId);
      // The stream may have settled it before the reply came, while this conversation was still busy.
      this.#advance(entry.conversationId);
    } catch (thrown) {
      this.#busy.delete(entry.conversationId);
      const error = asTidingsError(thrown);
      if (this.#find(entry.clientMessageId) === undefined) this.#advance(entry.conversationId);
      else if (error.retryable) this.#again(entry, error);
      else this.#fail(entry, error);
    }
  }

  /** Waits, then goes on with the conversation. Offline, `setOnline` goes on with it. */
  #again(entry: OutboxEntry, error: TidingsError): void {
    if (!this.#online || this.#busy.has(entry.conversationId)) return;
    const waitMs = Math.max(error.retryAfterMs ?? 0, this.#backoff.next());
    const timer = setTimeout(() => {
      this.#busy.delete(entry.conversationId);
      this.#advance(entry.conversationId);
    }, waitMs);
    this.#busy.set(entry.conversationId, timer);
  }

  #fail(entry: OutboxEntry, error: TidingsError): void {
    this.#put({ ...entry, failure: { code: error.code, message: error.message } });
    this.#advance(entry.conversationId);
  }

  /** Adds or replaces an entry, in storage first. A full storage is no reason to lose what is in memory. */
  #put(entry: OutboxEntry): void {
    try {
      this.#options.storage.set(this.#options.keyPrefix + entry.clientMessageId, JSON.stringify(entry));
    } catch {
      // It will not survive a reload, but it is still sent.
    }
    this.#entries.update((entries) =>
      [...entries.filter((other) => other.clientMessageId !== entry.clientMessageId), entry].sort((a, b) => a.order - b.order),
    );
  }

  #load(): readonly OutboxEntry[] {
    const { storage, keyPrefix } = this.#options;
    const entries: OutboxEntry[] = [];
    for (const key of storage.keys()) {
      if (!key.startsWith(keyPrefix)) continue;
      try {
        const entry = JSON.parse(storage.get(key) ?? "") as OutboxEntry;
        if (typeof entry.clientMessageId === "string" && typeof entry.conversationId === "string") entries.push(entry);
      } catch {
        storage.remove(key);
      }
    }
    return entries.sort((a, b) => a.order - b.order).slice(0, OUTBOX_ENTRIES_MAX);
  }
}
