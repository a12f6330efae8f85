/** A value that can be watched. Values are replaced, never changed in place, so `===` tells whether there is news. */
export interface Watchable<T> {
  readonly value: T;
  /** Calls `listener` after every change, until the returned function is called. */
  subscribe(listener: (value: T) => void): () => void;
}

/** The writable side of a {@link Watchable}. */
export class Observable<T> implements Watchable<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of Array.from(this.#listeners)) listener(value);
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }

  subscribe(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
