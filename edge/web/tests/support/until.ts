import type { Watchable } from "../../src/sdk/observable.ts";

/** Resolves as soon as a watched value fulfils the condition. The test runner's time limit bounds the wait. */
export function until<T>(watchable: Watchable<T>, condition: (value: T) => boolean): Promise<T> {
  if (condition(watchable.value)) return Promise.resolve(watchable.value);
  return new Promise((resolve) => {
    const unsubscribe = watchable.subscribe((value) => {
      if (!condition(value)) return;
      unsubscribe();
      resolve(value);
    });
  });
}
