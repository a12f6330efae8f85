/** Exponential back-off with full jitter: a random wait up to a bound that doubles, so that a crowd does not come back at once. */
export class Backoff {
  readonly #baseMs: number;
  readonly #capMs: number;
  readonly #random: () => number;
  #attempt = 0;

  constructor(baseMs: number, capMs: number, random: () => number) {
    this.#baseMs = baseMs;
    this.#capMs = capMs;
    this.#random = random;
  }

  /** How often `next` was called since the last success. */
  get attempt(): number {
    return this.#attempt;
  }

  /** How long to wait now, in milliseconds: at least a tenth of the bound, so that it is never a busy loop. */
  next(): number {
    const bound = Math.min(this.#capMs, this.#baseMs * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return Math.round(bound * (0.1 + 0.9 * this.#random()));
  }

  /** After a success. */
  reset(): void {
    this.#attempt = 0;
  }
}
