import { asTidingsError } from "../../sdk/index.ts";
import { Observable } from "../../sdk/observable.ts";
import { useWatch } from "./hooks.ts";

interface Toast {
  id: number;
  text: string;
}

const SHOWN_MS = 6_000;
const TOASTS_MAX = 3;
const toasts = new Observable<readonly Toast[]>([]);
let lastId = 0;

/** Shows a short text for a while. */
export function say(text: string): void {
  const id = (lastId += 1);
  toasts.update((shown) => [...shown, { id, text }].slice(-TOASTS_MAX));
  setTimeout(() => toasts.update((shown) => shown.filter((toast) => toast.id !== id)), SHOWN_MS);
}

/** Shows why something did not work. */
export function sayError(thrown: unknown): void {
  say(capitalised(asTidingsError(thrown).message));
}

/** A server's message as a sentence. */
export function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Where they show. */
export function Toasts() {
  const shown = useWatch(toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.map((toast) => (
        <div key={toast.id} class="toast">
          {toast.text}
        </div>
      ))}
    </div>
  );
}
