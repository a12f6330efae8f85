import { Observable } from "../../sdk/observable.ts";

/** What the address names: a conversation, or nothing. In the hash, so that Back works and no server has to know. */
export const openConversation = new Observable<string | undefined>(read());

window.addEventListener("hashchange", () => openConversation.set(read()));

/** The address of a conversation. */
export function conversationHref(conversationId: string): string {
  return `#/c/${encodeURIComponent(conversationId)}`;
}

/** Goes to a conversation, or to the list. */
export function go(conversationId: string | undefined): void {
  location.hash = conversationId === undefined ? "#/" : conversationHref(conversationId);
}

function read(): string | undefined {
  const match = /^#\/c\/(.+)$/.exec(location.hash);
  try {
    return match?.[1] === undefined ? undefined : decodeURIComponent(match[1]);
  } catch {
    return undefined;
  }
}
