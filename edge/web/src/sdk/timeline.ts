import { TidingsError, asTidingsError } from "./errors.ts";
import type { MessagesQuery, Page } from "./http.ts";
import { GAP_WAIT_MS, HISTORY_PAGE_MESSAGES, TIMELINE_MESSAGES_MAX } from "./limits.ts";
import { Observable, type Watchable } from "./observable.ts";
import type { Message } from "./types.ts";

/** What is known of a conversation's messages: one stretch up to its end, oldest first. */
export interface TimelineState {
  readonly messages: readonly Message[];
  /** Nothing has been read yet. */
  readonly fresh: boolean;
  readonly loading: boolean;
  /** There is nothing older. */
  readonly complete: boolean;
  /** Why the last reading failed. */
  readonly error?: TidingsError;
}

const EMPTY: TimelineState = { messages: [], fresh: true, loading: false, complete: false };

/**
 * The messages of one conversation, kept in the order of `seq`: pages of history are put in front as they are read, and
 * what the update stream brings is put behind. A hole that the stream does not fill by itself is read by HTTP.
 */
export class Timeline {
  readonly #fetchPage: (query: MessagesQuery) => Promise<Page<Message>>;
  readonly #state = new Observable<TimelineState>(EMPTY);
  readonly #gapWaitMs: number;
  #gapTimer: ReturnType<typeof setTimeout> | undefined;
  /** Holes up to here have been asked for: what is missing was said while the user was not a member. */
  #checkedSeq = 0;

  constructor(fetchPage: (query: MessagesQuery) => Promise<Page<Message>>, gapWaitMs: number = GAP_WAIT_MS) {
    this.#fetchPage = fetchPage;
    this.#gapWaitMs = gapWaitMs;
  }

  get state(): Watchable<TimelineState> {
    return this.#state;
  }

  /** Reads the newest page, unless it has been read. */
  async open(): Promise<void> {
    if (this.#state.value.fresh) await this.#read({ limit: HISTORY_PAGE_MESSAGES }, true);
  }

  /** Reads the page before the oldest message that is known. */
  async loadOlder(): Promise<void> {
    const { messages, fresh, complete } = this.#state.value;
    const oldest = messages[0];
    if (fresh) return this.open();
    if (complete || oldest === undefined) return;
    await this.#read({ limit: HISTORY_PAGE_MESSAGES, beforeSeq: oldest.seq }, false);
  }

  /** After a resync: reads the newest page, and starts over with it when it does not touch what is known. */
  async refresh(): Promise<void> {
    if (!this.#state.value.fresh) await this.#read({ limit: HISTORY_PAGE_MESSAGES }, true);
  }

  /** A message that the stream or a reply brought. */
  add(message: Message): void {
    const { fresh, loading } = this.#state.value;
    // What comes while the first page is on its way may not be in it.
    if (fresh && !loading) return;
    this.#merge([message]);
    this.#watchGap();
  }

  /** An edit or a deletion. */
  replace(message: Message): void {
    this.#state.update((state) => {
      const index = state.messages.findIndex((known) => known.messageId === message.messageId);
      return index < 0 ? state : { ...state, messages: state.messages.with(index, message) };
    });
  }

  /** Lets the oldest messages go when there are very many; they can be read again. */
  trim(): void {
    this.#state.update((state) =>
      state.messages.length <= TIMELINE_MESSAGES_MAX
        ? state
        : { ...state, messages: state.messages.slice(-TIMELINE_MESSAGES_MAX), complete: false },
    );
  }

  /** Stops all timers. */
  close(): void {
    clearTimeout(this.#gapTimer);
  }

  async #read(query: MessagesQuery, newest: boolean): Promise<void> {
    if (this.#state.value.loading) return;
    const { error: _, ...before } = this.#state.value;
    this.#state.set({ ...before, loading: true });
    try {
      const page = await this.#fetchPage(query);
      const items = page.items.toSorted((a, b) => a.seq - b.seq);
      const first = items[0];
      const knownSeq = before.messages.at(-1)?.seq;
      const detached = newest && first !== undefined && knownSeq !== undefined && first.seq > knownSeq + 1;
      if (detached) {
        this.#state.update((state) => ({ ...state, messages: state.messages.filter((message) => message.seq > knownSeq) }));
      }
      this.#merge(items);
      const lastPage = page.nextPageToken === "" || first?.seq === 1;
      const atStart = lastPage && (!newest || detached || before.fresh || items.length === 0);
      this.#state.update((state) => ({ ...state, fresh: false, loading: false, complete: atStart || (!detached && state.complete) }));
      this.#checkedSeq = Math.max(this.#checkedSeq, items.at(-1)?.seq ?? 0);
    } catch (thrown) {
      this.#state.update((state) => ({ ...state, loading: false, error: asTidingsError(thrown) }));
    }
  }

  #merge(arrivals: readonly Message[]): void {
    this.#state.update((state) => {
      const last = state.messages.at(-1);
      const [only] = arrivals;
      // By far the most frequent case: the next one.
      if (arrivals.length === 1 && only !== undefined && (last === undefined || only.seq > last.seq)) {
        return { ...state, messages: [...state.messages, only] };
      }
      const bySeq = new Map(state.messages.map((message) => [message.seq, message]));
      for (const message of arrivals) bySeq.set(message.seq, newerOf(bySeq.get(message.seq), message));
      return { ...state, messages: [...bySeq.values()].sort((a, b) => a.seq - b.seq) };
    });
  }

  #watchGap(): void {
    if (this.#gapTimer !== undefined || this.#firstGap() === undefined) return;
    this.#gapTimer = setTimeout(() => {
      this.#gapTimer = undefined;
      void this.#fillGap();
    }, this.#gapWaitMs);
  }

  /** The last `seq` before the first hole that has not been asked for. */
  #firstGap(): { afterSeq: number; beforeSeq: number } | undefined {
    const { messages } = this.#state.value;
    for (let index = messages.length - 1; index > 0; index -= 1) {
      const [before, after] = [messages[index - 1], messages[index]];
      if (before === undefined || after === undefined || after.seq <= this.#checkedSeq) return undefined;
      if (after.seq > before.seq + 1) return { afterSeq: before.seq, beforeSeq: after.seq };
    }
    return undefined;
  }

  async #fillGap(): Promise<void> {
    const gap = this.#firstGap();
    if (gap === undefined) return;
    try {
      const limit = Math.min(gap.beforeSeq - gap.afterSeq - 1, 200);
      const page = await this.#fetchPage({ afterSeq: gap.afterSeq, limit });
      this.#merge(page.items);
      const reached = page.items.at(-1)?.seq ?? gap.beforeSeq;
      if (page.items.length === 0 || reached >= gap.beforeSeq - 1) this.#checkedSeq = gap.beforeSeq;
    } catch {
      // Asked again with the next message, or after a resync.
      return;
    }
    this.#watchGap();
  }
}

/** A page may be older than an edit that the stream has already brought. */
function newerOf(known: Message | undefined, arrival: Message): Message {
  if (known === undefined) return arrival;
  const version = (message: Message): number => Math.max(message.editedAt ?? 0, message.deletedAt ?? 0);
  return version(arrival) >= version(known) ? arrival : known;
}
