import { Backoff } from "./backoff.ts";
import type { HttpApi } from "./http.ts";
import { CONVERSATIONS_MAX, CONVERSATIONS_PAGE_ITEMS, GAPS_MAX, UPDATES_WAITING_MAX } from "./limits.ts";
import type { Conversation, Update, Welcome } from "./types.ts";
import { type StreamPosition, UpdateCursor } from "./update-cursor.ts";

/** What a synchroniser needs from its owner. */
export interface SynchroniserOptions {
  http: HttpApi;
  /** Handles one update; each comes once, in order. */
  apply: (update: Update) => void;
  /** Takes the conversations as they stand now, in place of all that was known. */
  reloaded: (conversations: readonly Conversation[]) => void;
  /** The stream has a hole: connect again. */
  broken: () => void;
}

/**
 * Brings the client to the present and keeps it there. After a welcome that resumed, the stream does it alone. After
 * any other, updates wait while the conversations are read by HTTP, and are applied on top: first subscribe, then
 * fetch, so that nothing can fall between the two. Applying one that the reading had already seen does no harm.
 */
export class Synchroniser {
  readonly #options: SynchroniserOptions;
  readonly #cursor = new UpdateCursor();
  readonly #backoff = new Backoff(500, 20_000, Math.random);
  /** Updates that wait while conversations are being read; undefined when nothing has to be read. */
  #waiting: Update[] | undefined;
  #reading = false;
  #online = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #gaps = 0;

  constructor(options: SynchroniserOptions) {
    this.#options = options;
  }

  /** From where to resume. */
  get position(): StreamPosition | undefined {
    return this.#cursor.position;
  }

  /** A new session. */
  welcomed(welcome: Welcome): void {
    const { position } = this.#cursor;
    if (position !== undefined && position.epoch === welcome.epoch && !welcome.resyncRequired) return;
    this.#cursor.start({ epoch: welcome.epoch, offset: welcome.offset });
    this.#waiting = [];
  }

  setOnline(online: boolean): void {
    this.#online = online;
    if (online) void this.#reload();
  }

  /** An update from the stream. */
  received(update: Update): void {
    switch (this.#cursor.judge(update.offset)) {
      case "repeat":
        return;
      case "gap":
        // Connecting again heals a hole; if it does not, start over rather than go round in circles.
        this.#gaps += 1;
        if (this.#gaps >= GAPS_MAX) this.#cursor.forget();
        this.#options.broken();
        return;
      case "handle":
        this.#gaps = 0;
        this.#cursor.advance(update.offset);
    }
    if (this.#waiting === undefined) this.#options.apply(update);
    // One more than may wait is kept, as the sign that some were dropped.
    else if (this.#waiting.length <= UPDATES_WAITING_MAX) this.#waiting.push(update);
  }

  /** Stops all timers. */
  close(): void {
    this.#online = false;
    clearTimeout(this.#retry);
  }

  async #reload(): Promise<void> {
    if (this.#waiting === undefined || this.#reading || !this.#online) return;
    this.#reading = true;
    clearTimeout(this.#retry);
    try {
      const conversations = await this.#readConversations();
      this.#backoff.reset();
      this.#reading = false;
      this.#options.reloaded(conversations);
      const waiting = this.#waiting;
      if (waiting.length > UPDATES_WAITING_MAX) {
        this.#waiting = [];
        return void this.#reload();
      }
      this.#waiting = undefined;
      for (const update of waiting) this.#options.apply(update);
    } catch {
      this.#reading = false;
      if (this.#online) this.#retry = setTimeout(() => void this.#reload(), this.#backoff.next());
    }
  }

  async #readConversations(): Promise<Conversation[]> {
    const conversations: Conversation[] = [];
    let pageToken = "";
    do {
      const page = await this.#options.http.conversations({ limit: CONVERSATIONS_PAGE_ITEMS, pageToken });
      conversations.push(...page.items);
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && conversations.length < CONVERSATIONS_MAX);
    return conversations;
  }
}
