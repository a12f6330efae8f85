import type { TidingsClient } from "../../sdk/index.ts";
import { Observable } from "../../sdk/observable.ts";

/** A break shorter than this is not worth a word. */
const QUIET_MS = 900;

/** Whether there has been no connection for long enough to say so: then presence is unknown, too. */
export const offline = new Observable(false);

/** Follows a client's connection until the signal. */
export function followConnection(client: TidingsClient, signal: AbortSignal): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const follow = (): void => {
    if (client.state.value.status === "online") {
      clearTimeout(timer);
      timer = undefined;
      offline.set(false);
    } else {
      timer ??= setTimeout(() => offline.set(true), QUIET_MS);
    }
  };
  const unsubscribe = client.state.subscribe(follow);
  signal.addEventListener("abort", () => {
    unsubscribe();
    clearTimeout(timer);
    offline.set(false);
  });
  follow();
}
