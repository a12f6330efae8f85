import { PRESENCE_WATCHES_MAX } from "./limits.ts";
import { Observable, type Watchable } from "./observable.ts";
import type { Presence } from "./types.ts";

interface Watch {
  readonly cell: Observable<Presence | undefined>;
  watchers: number;
}

/**
 * Who is online. Those who look at a user's presence are counted, changes of the watched set go to the server in one
 * command for each turn of the event loop, and the whole set goes again after a reconnect.
 */
export class Presences {
  readonly #send: (command: "watch_presence" | "unwatch_presence", userIds: string[]) => void;
  readonly #watches = new Map<string, Watch>();
  /** What the server has been told in this session. */
  readonly #told = new Set<string>();
  #online = false;
  #scheduled = false;

  constructor(send: (command: "watch_presence" | "unwatch_presence", userIds: string[]) => void) {
    this.#send = send;
  }

  /** A user's presence, to look at; undefined while unknown. Costs nothing until somebody `watch`es. */
  of(userId: string): Watchable<Presence | undefined> {
    return this.#entry(userId).cell;
  }

  /** Keeps a user's presence up to date until the returned function is called. */
  watch(userId: string): () => void {
    const entry = this.#entry(userId);
    entry.watchers += 1;
    this.#schedule();
    let active = true;
    return () => {
      if (!active) return;
      active = false;
      entry.watchers -= 1;
      this.#schedule();
    };
  }

  /** What the server tells. */
  received(presence: Presence): void {
    this.#entry(presence.userId).cell.set(presence);
  }

  /** A new session has no watches. */
  setOnline(online: boolean): void {
    this.#online = online;
    this.#told.clear();
    if (online) this.#schedule();
  }

  #entry(userId: string): Watch {
    let entry = this.#watches.get(userId);
    if (entry === undefined) {
      entry = { cell: new Observable<Presence | undefined>(undefined), watchers: 0 };
      this.#watches.set(userId, entry);
    }
    return entry;
  }

  #schedule(): void {
    if (!this.#online || this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.#online) this.#tell();
    });
  }

  #tell(): void {
    const wanted = new Set<string>();
    for (const [userId, { watchers }] of this.#watches) {
      if (watchers > 0 && wanted.size < PRESENCE_WATCHES_MAX) wanted.add(userId);
    }
    const gone = [...this.#told].filter((userId) => !wanted.has(userId));
    const fresh = [...wanted].filter((userId) => !this.#told.has(userId));
    for (const userId of gone) this.#told.delete(userId);
    for (const userId of fresh) this.#told.add(userId);
    if (gone.length > 0) this.#send("unwatch_presence", gone);
    if (fresh.length > 0) this.#send("watch_presence", fresh);
  }
}
