import { TYPING_EXPIRY_MS, TYPING_INTERVAL_MS } from "./limits.ts";
import { Observable, type Watchable } from "./observable.ts";

const NOBODY: readonly string[] = [];

/** Who is typing where: outgoing signals are throttled, incoming ones expire. */
export class Typing {
  readonly #send: (conversationId: string) => void;
  readonly #now: () => number;
  readonly #sentAt = new Map<string, number>();
  readonly #typists = new Map<string, Observable<readonly string[]>>();
  readonly #expiries = new Map<string, ReturnType<typeof setTimeout>>();

  constructor(send: (conversationId: string) => void, now: () => number = Date.now) {
    this.#send = send;
    this.#now = now;
  }

  /** The user has typed something in this conversation. */
  typed(conversationId: string): void {
    const now = this.#now();
    if (now - (this.#sentAt.get(conversationId) ?? 0) < TYPING_INTERVAL_MS) return;
    this.#sentAt.set(conversationId, now);
    this.#send(conversationId);
  }

  /** The user has sent what was typed: the next key is a new start. */
  ended(conversationId: string): void {
    this.#sentAt.delete(conversationId);
  }

  /** The ids of those who are typing in this conversation. */
  typists(conversationId: string): Watchable<readonly string[]> {
    return this.#cell(conversationId);
  }

  /** Somebody is typing, as the server tells. */
  received(conversationId: string, userId: string): void {
    const cell = this.#cell(conversationId);
    if (!cell.value.includes(userId)) cell.set([...cell.value, userId]);
    const key = `${conversationId} ${userId}`;
    clearTimeout(this.#expiries.get(key));
    this.#expiries.set(
      key,
      setTimeout(() => this.stopped(conversationId, userId), TYPING_EXPIRY_MS),
    );
  }

  /** Somebody has stopped: a message of theirs has arrived, or nothing has for a while. */
  stopped(conversationId: string, userId: string): void {
    const key = `${conversationId} ${userId}`;
    clearTimeout(this.#expiries.get(key));
    this.#expiries.delete(key);
    this.#typists.get(conversationId)?.update((ids) => {
      if (!ids.includes(userId)) return ids;
      const others = ids.filter((id) => id !== userId);
      return others.length === 0 ? NOBODY : others;
    });
  }

  /** Stops all timers. */
  close(): void {
    for (const timer of this.#expiries.values()) clearTimeout(timer);
  }

  #cell(conversationId: string): Observable<readonly string[]> {
    let cell = this.#typists.get(conversationId);
    if (cell === undefined) {
      cell = new Observable(NOBODY);
      this.#typists.set(conversationId, cell);
    }
    return cell;
  }
}
