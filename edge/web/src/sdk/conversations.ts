import { Observable, type Watchable } from "./observable.ts";
import type { Conversation, Message, Receipt } from "./types.ts";

/** The user's conversations, kept up to date from the update stream. */
export class Conversations {
  readonly #byId = new Map<string, Observable<Conversation | undefined>>();
  readonly #sorted = new Observable<readonly Conversation[]>([]);
  #batched = 0;

  /** Those that the user is in, newest activity first. One that was deleted or left, here or elsewhere, is gone from it. */
  get sorted(): Watchable<readonly Conversation[]> {
    return this.#sorted;
  }

  get(conversationId: string): Conversation | undefined {
    return this.#byId.get(conversationId)?.value;
  }

  /**
   * One conversation, to watch; its value is undefined while it is not known. One that was left stays for those who look
   * at it, with no `role`: nothing can be said there any more.
   */
  watch(conversationId: string): Watchable<Conversation | undefined> {
    return this.#cell(conversationId);
  }

  /** The whole list, anew. What it does not name any more is gone. */
  replaceAll(conversations: readonly Conversation[]): void {
    this.batch(() => {
      const kept = new Set(conversations.map((conversation) => conversation.conversationId));
      for (const [id, cell] of this.#byId) if (!kept.has(id)) cell.set(undefined);
      for (const conversation of conversations) this.put(conversation);
    });
  }

  /** A conversation as it now stands. Cursors only move forward, whichever way they came. */
  put(conversation: Conversation): void {
    const known = this.get(conversation.conversationId);
    this.#set(known === undefined ? conversation : merge(known, conversation));
  }

  /** A new message. Whoever sends one has seen what is above it: no receipt says so. */
  addMessage(message: Message, ownUserId: string): void {
    const known = this.get(message.conversationId);
    if (known === undefined || message.seq <= known.lastSeq) return;
    const { seq } = message;
    const own = message.senderId === ownUserId;
    this.#set({
      ...known,
      lastSeq: seq,
      lastMessage: message,
      lastActivityAt: message.sentAt,
      ...(own ? { deliveredSeq: seq, seenSeq: seq } : {}),
      ...(!own && known.kind === "direct" ? { deliveredToAllSeq: seq, seenByAllSeq: seq } : {}),
    });
  }

  /** An edit or a deletion: shows if it was the last message. */
  changeMessage(message: Message): void {
    const known = this.get(message.conversationId);
    if (known?.lastMessage?.messageId === message.messageId) this.#set({ ...known, lastMessage: message });
  }

  /** Moves cursors, never back. */
  moveCursors(receipt: Receipt, ownUserId: string): void {
    const known = this.get(receipt.conversationId);
    if (known === undefined) return;
    const own = receipt.userId === ownUserId;
    // In a direct chat the other's cursors are the lowest over all others.
    const others = known.kind === "direct" && receipt.userId !== undefined && !own;
    this.#set({
      ...known,
      deliveredSeq: Math.max(known.deliveredSeq, own ? Math.max(receipt.deliveredSeq, receipt.seenSeq) : 0),
      seenSeq: Math.max(known.seenSeq, own ? receipt.seenSeq : 0),
      deliveredToAllSeq: Math.max(known.deliveredToAllSeq, receipt.deliveredToAllSeq, others ? receipt.deliveredSeq : 0),
      seenByAllSeq: Math.max(known.seenByAllSeq, receipt.seenByAllSeq, others ? receipt.seenSeq : 0),
    });
  }

  /** Several changes, told as one. */
  batch(change: () => void): void {
    this.#batched += 1;
    try {
      change();
    } finally {
      this.#batched -= 1;
      this.#sort();
    }
  }

  #cell(conversationId: string): Observable<Conversation | undefined> {
    let cell = this.#byId.get(conversationId);
    if (cell === undefined) {
      cell = new Observable<Conversation | undefined>(undefined);
      this.#byId.set(conversationId, cell);
    }
    return cell;
  }

  #set(conversation: Conversation): void {
    this.#cell(conversation.conversationId).set(conversation);
    this.#sort();
  }

  #sort(): void {
    if (this.#batched > 0) return;
    const all = [...this.#byId.values()].map((cell) => cell.value).filter((value) => value !== undefined);
    const listed = all.filter((conversation) => !conversation.deleted && conversation.role !== "");
    this.#sorted.set(listed.sort((a, b) => activityAt(b) - activityAt(a) || (a.conversationId < b.conversationId ? -1 : 1)));
  }
}

/** When something was last said or changed, in milliseconds since 1970. */
export function activityAt(conversation: Conversation): number {
  return Math.max(conversation.lastActivityAt ?? 0, conversation.lastMessage?.sentAt ?? 0, conversation.createdAt ?? 0);
}

function merge(known: Conversation, arrival: Conversation): Conversation {
  const behind = arrival.lastSeq < known.lastSeq;
  const lastMessage = behind ? known.lastMessage : (arrival.lastMessage ?? (arrival.lastSeq === known.lastSeq ? known.lastMessage : undefined));
  const { lastMessage: _, ...rest } = arrival;
  return {
    ...rest,
    ...(arrival.peer === undefined && known.peer !== undefined ? { peer: known.peer } : {}),
    ...(lastMessage === undefined ? {} : { lastMessage }),
    lastSeq: Math.max(known.lastSeq, arrival.lastSeq),
    deliveredSeq: Math.max(known.deliveredSeq, arrival.deliveredSeq),
    seenSeq: Math.max(known.seenSeq, arrival.seenSeq),
    deliveredToAllSeq: Math.max(known.deliveredToAllSeq, arrival.deliveredToAllSeq),
    seenByAllSeq: Math.max(known.seenByAllSeq, arrival.seenByAllSeq),
  };
}
