import type { Message, OutboxEntry } from "../../sdk/index.ts";
import { daysBetween } from "../words/format.ts";

/** One line of a chat, in order. */
export type Line =
  | { kind: "day"; key: string; at: number }
  | { kind: "unread"; key: string }
  | { kind: "membership"; key: string; message: Message }
  | { kind: "message"; key: string; message: Message; first: boolean; last: boolean }
  | { kind: "pending"; key: string; entry: OutboxEntry; first: boolean; last: boolean };

/** Messages of one sender that follow each other within this are drawn as one group. */
const GROUP_MS = 5 * 60_000;

interface Said {
  sender: string;
  at: number;
}

/** Lays messages out: a separator for each day, groups of bubbles, and a mark before the first unread message. */
export function layOut(
  messages: readonly Message[],
  pending: readonly OutboxEntry[],
  options: { ownUserId: string; firstUnreadSeq: number | undefined },
): Line[] {
  const lines: Line[] = [];
  let previous: Said | undefined;
  let previousAt: number | undefined;
  const open = (at: number, sender: string): boolean => {
    if (previousAt === undefined || daysBetween(previousAt, at) !== 0) {
      lines.push({ kind: "day", key: `day ${at}`, at });
      previous = undefined;
    }
    previousAt = at;
    const joins = previous?.sender === sender && at - previous.at < GROUP_MS;
    const before = lines.at(-1);
    if (joins && before !== undefined && "last" in before) before.last = false;
    return !joins;
  };
  for (const message of messages) {
    if (message.seq === options.firstUnreadSeq && lines.length > 0) {
      lines.push({ kind: "unread", key: "unread" });
      previous = undefined;
    }
    if (message.kind === "membership") {
      open(message.sentAt, "");
      lines.push({ kind: "membership", key: keyOf(message), message });
      previous = undefined;
      continue;
    }
    const first = open(message.sentAt, message.senderId);
    lines.push({ kind: "message", key: keyOf(message), message, first, last: true });
    previous = { sender: message.senderId, at: message.sentAt };
  }
  for (const entry of pending) {
    const at = Math.max(entry.createdAt, previousAt ?? 0);
    const first = open(at, options.ownUserId);
    lines.push({ kind: "pending", key: entry.clientMessageId, entry, first, last: true });
    previous = { sender: options.ownUserId, at };
  }
  return lines;
}

/** The same before and after a message of one's own has got its place, so that its bubble stays where it is. */
function keyOf(message: Message): string {
  return message.clientMessageId === "" ? message.messageId : message.clientMessageId;
}
