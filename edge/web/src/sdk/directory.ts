import { DIRECTORY_USERS_MAX } from "./limits.ts";
import { Observable, type Watchable } from "./observable.ts";
import type { User } from "./types.ts";

/** Names of users, learnt from whatever names them and otherwise read once. */
export class Directory {
  readonly #fetch: (userId: string) => Promise<User>;
  readonly #users = new Map<string, Observable<User | undefined>>();
  readonly #asking = new Set<string>();

  constructor(fetch: (userId: string) => Promise<User>) {
    this.#fetch = fetch;
  }

  /** A user, to watch; undefined until known, which this sees to. */
  user(userId: string): Watchable<User | undefined> {
    const cell = this.#cell(userId);
    if (cell.value === undefined && userId !== "" && !this.#asking.has(userId)) {
      this.#asking.add(userId);
      this.#fetch(userId)
        .then((user) => this.learn(user))
        .catch(() => {})
        .finally(() => this.#asking.delete(userId));
    }
    return cell;
  }

  /** What is known of a user right now. */
  peek(userId: string): User | undefined {
    return this.#users.get(userId)?.value;
  }

  learn(user: User): void {
    if (user.userId === "" || (user.username === "" && user.displayName === "")) return;
    const known = this.#cell(user.userId);
    const same = known.value?.username === user.username && known.value.displayName === user.displayName;
    if (!same) known.set({ userId: user.userId, username: user.username, displayName: user.displayName });
  }

  #cell(userId: string): Observable<User | undefined> {
    let cell = this.#users.get(userId);
    if (cell === undefined) {
      if (this.#users.size >= DIRECTORY_USERS_MAX) {
        const [oldest] = this.#users.keys();
        if (oldest !== undefined) this.#users.delete(oldest);
      }
      cell = new Observable<User | undefined>(undefined);
      this.#users.set(userId, cell);
    }
    return cell;
  }
}
