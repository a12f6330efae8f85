import { Observable, type Watchable } from "./observable.ts";
import type { Member } from "./types.ts";

interface Roster {
  readonly cell: Observable<readonly Member[] | undefined>;
  watchers: number;
  reading: boolean;
  stale: boolean;
}

/** Who is in a conversation: read when first looked at, and again after changes while somebody looks. */
export class Members {
  readonly #fetch: (conversationId: string) => Promise<readonly Member[]>;
  readonly #rosters = new Map<string, Roster>();

  constructor(fetch: (conversationId: string) => Promise<readonly Member[]>) {
    this.#fetch = fetch;
  }

  /** The members, to watch; undefined until they have been read. */
  of(conversationId: string): Watchable<readonly Member[] | undefined> {
    const roster = this.#roster(conversationId);
    return {
      get value() {
        return roster.cell.value;
      },
      subscribe: (listener) => {
        roster.watchers += 1;
        if (roster.stale) this.#read(conversationId, roster);
        const unsubscribe = roster.cell.subscribe(listener);
        return () => {
          roster.watchers -= 1;
          unsubscribe();
        };
      },
    };
  }

  /** They have changed. Moves of their cursors are no reason: a busy group would have them read all the time. */
  invalidate(conversationId: string): void {
    const roster = this.#rosters.get(conversationId);
    if (roster === undefined) return;
    roster.stale = true;
    if (roster.watchers > 0) this.#read(conversationId, roster);
  }

  /** Everything may have changed. */
  invalidateAll(): void {
    for (const conversationId of this.#rosters.keys()) this.invalidate(conversationId);
  }

  #roster(conversationId: string): Roster {
    let roster = this.#rosters.get(conversationId);
    if (roster === undefined) {
      roster = { cell: new Observable<readonly Member[] | undefined>(undefined), watchers: 0, reading: false, stale: true };
      this.#rosters.set(conversationId, roster);
    }
    return roster;
  }

  #read(conversationId: string, roster: Roster): void {
    if (roster.reading) return;
    roster.reading = true;
    roster.stale = false;
    this.#fetch(conversationId)
      .then((members) => roster.cell.set(members))
      // No longer a member, or no connection: what was known stands until somebody looks again.
      .catch(() => (roster.stale = true))
      .then((failed) => {
        roster.reading = false;
        if (roster.stale && failed !== true && roster.watchers > 0) this.#read(conversationId, roster);
      });
  }
}
