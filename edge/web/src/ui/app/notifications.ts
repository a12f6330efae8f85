import type { TidingsClient } from "../../sdk/index.ts";
import { Observable } from "../../sdk/observable.ts";
import { go } from "../parts/route.ts";
import { say } from "../parts/toasts.tsx";
import { nameOf, previewText, titleOf } from "../words/people.ts";

const KEY = "tidings.notifications";

/** Whether the user wants to be told of messages while the page is in the background. */
export const notifying = new Observable(permitted() && localStorage.getItem(KEY) === "on");

/** Turns notifications on, which asks for the browser's permission, or off. */
export async function switchNotifications(): Promise<void> {
  if (notifying.value) return set(false);
  if (!("Notification" in window) || (await Notification.requestPermission()) !== "granted") {
    return say("This browser does not allow notifications from here.");
  }
  set(true);
  say("You will be told of new messages while this page is in the background.");
}

/** Tells of what comes in while nobody is looking, one notification for each conversation. */
export function notifyOf(client: TidingsClient): () => void {
  return client.onArrival((message) => {
    const conversation = client.conversations.get(message.conversationId);
    const own = message.senderId === client.userId;
    if (!notifying.value || !document.hidden || own || message.kind === "membership" || conversation === undefined) return;
    const sender = conversation.kind === "group" ? `${nameOf(client, message.senderId)}: ` : "";
    const shown = new Notification(titleOf(conversation), { body: sender + previewText(message), tag: message.conversationId });
    shown.addEventListener("click", () => {
      window.focus();
      go(message.conversationId);
      shown.close();
    });
  });
}

function permitted(): boolean {
  return "Notification" in window && Notification.permission === "granted";
}

function set(on: boolean): void {
  localStorage.setItem(KEY, on ? "on" : "off");
  notifying.set(on);
}
