import { asTidingsError } from "./errors.ts";
import { RECEIPT_INTERVAL_MS } from "./limits.ts";

interface Cursors {
  deliveredSeq: number;
  seenSeq: number;
}

/**
 * Tells the server how far the user has received and seen: only the newest position counts, so moves are gathered into at
 * most one frame for each conversation in each interval. What could not be told is told after the reconnect.
 */
export class Receipts {
  readonly #send: (conversationId: string, cursors: Cursors) => Promise<void>;
  readonly #intervalMs: number;
  readonly #waiting = new Map<string, Cursors>();
  readonly #told = new Map<string, Cursors>();
  readonly #resting = new Map<string, ReturnType<typeof setTimeout>>();
  #online = false;

  constructor(send: (conversationId: string, cursors: Cursors) => Promise<void>, intervalMs: number = RECEIPT_INTERVAL_MS) {
    this.#send = send;
    this.#intervalMs = intervalMs;
  }

  /** Messages up to `seq` have reached this device. */
  delivered(conversationId: string, seq: number): void {
    this.#move(conversationId, { deliveredSeq: seq, seenSeq: 0 });
  }

  /** Messages up to `seq` have been looked at. */
  seen(conversationId: string, seq: number): void {
    this.#move(conversationId, { deliveredSeq: seq, seenSeq: seq });
  }

  setOnline(online: boolean): void {
    this.#online = online;
    if (online) for (const conversationId of Array.from(this.#waiting.keys())) this.#flush(conversationId);
  }

  /** Stops all timers. */
  close(): void {
    this.#online = false;
    for (const timer of this.#resting.values()) clearTimeout(timer);
  }

  #move(conversationId: string, move: Cursors): void {
    const told = this.#told.get(conversationId);
    if (told !== undefined && move.deliveredSeq <= told.deliveredSeq && move.seenSeq <= told.seenSeq) return;
    this.#waiting.set(conversationId, highest(this.#waiting.get(conversationId), move));
    this.#flush(conversationId);
  }

  #flush(conversationId: string): void {
    const cursors = this.#waiting.get(conversationId);
    if (!this.#online || cursors === undefined || this.#resting.has(conversationId)) return;
    this.#waiting.delete(conversationId);
    const before = this.#told.get(conversationId);
    this.#told.set(conversationId, highest(before, cursors));
    const rest = setTimeout(() => {
      this.#resting.delete(conversationId);
      this.#flush(conversationId);
    }, this.#intervalMs);
    this.#resting.set(conversationId, rest);
    this.#send(conversationId, cursors).catch((thrown: unknown) => {
      // Anything that will not get better (no longer a member, say) is dropped: the cursor is of use to nobody then.
      if (!asTidingsError(thrown).retryable) return;
      if (before === undefined) this.#told.delete(conversationId);
      else this.#told.set(conversationId, before);
      this.#waiting.set(conversationId, highest(this.#waiting.get(conversationId), cursors));
    });
  }
}

function highest(a: Cursors | undefined, b: Cursors): Cursors {
  if (a === undefined) return b;
  return { deliveredSeq: Math.max(a.deliveredSeq, b.deliveredSeq), seenSeq: Math.max(a.seenSeq, b.seenSeq) };
}
