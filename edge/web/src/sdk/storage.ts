/** Where a client keeps what must survive a reload: strings by key. `localStorage` and `sessionStorage` fit. */
export interface KeyValueStorage {
  get(key: string): string | null;
  /** Throws when there is no room. */
  set(key: string, value: string): void;
  remove(key: string): void;
  keys(): string[];
}

/** A {@link KeyValueStorage} over a browser's `localStorage` or `sessionStorage`. */
export function webStorage(storage: Storage): KeyValueStorage {
  return {
    get: (key) => storage.getItem(key),
    set: (key, value) => storage.setItem(key, value),
    remove: (key) => storage.removeItem(key),
    keys: () => Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? ""),
  };
}

/** A {@link KeyValueStorage} that lasts as long as the program. */
export function memoryStorage(): KeyValueStorage {
  const entries = new Map<string, string>();
  return {
    get: (key) => entries.get(key) ?? null,
    set: (key, value) => void entries.set(key, value),
    remove: (key) => void entries.delete(key),
    keys: () => [...entries.keys()],
  };
}
