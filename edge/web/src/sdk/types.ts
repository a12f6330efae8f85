/**
 * What the contract speaks of, in the form that programs use: sequence numbers and offsets are numbers (they stay far
 * below 2^53), times are milliseconds since 1970, and names are camelCase.
 */

/** A user, as others see them. */
export interface User {
  userId: string;
  /** Unique; what people type to find somebody. */
  username: string;
  /** What is shown. Falls back to `username` when empty: see `displayName`. */
  displayName: string;
}

/** Whether a user has a live session, and when there was last a sign of life. */
export interface Presence {
  userId: string;
  online: boolean;
  /** Absent: never seen. */
  lastSeenAt?: number;
}

/** What a member may do. Empty: no longer a member. */
export type Role = "owner" | "admin" | "member" | "";

/** A direct chat has two members for good; a group changes. */
export type ConversationKind = "direct" | "group";

/** A conversation as it stands for the signed-in user. */
export interface Conversation {
  conversationId: string;
  kind: ConversationKind;
  /** A group's name; empty in a direct chat. */
  title: string;
  memberCount: number;
  /** The newest message's `seq`; 0 when there is none. */
  lastSeq: number;
  lastMessage?: Message;
  /** The user's own cursors: the last `seq` that a device received, and that was looked at. */
  deliveredSeq: number;
  seenSeq: number;
  /** The lowest cursors over the other members: up to here everybody has received or seen. */
  deliveredToAllSeq: number;
  seenByAllSeq: number;
  /** The user's own role. */
  role: Role;
  deleted: boolean;
  /** The other one in a direct chat. */
  peer?: User;
  createdAt?: number;
  lastActivityAt?: number;
}

/** What a member of a conversation looks like to the others. */
export interface Member extends User {
  role: Role;
  /** The `seq` of the entry that made them a member. */
  joinedSeq: number;
  deliveredSeq: number;
  seenSeq: number;
}

/** A change of a group, which stands in its order like a message. */
export interface Membership {
  action: "created" | "added" | "removed" | "left" | "role" | "renamed";
  /** Who was added, removed or given a role. */
  userId?: string;
  /** Who did it. */
  by: string;
  role?: Role;
  title?: string;
}

/** A file sent with a message. */
export interface Attachment {
  mediaId: string;
  contentType: string;
  name: string;
  sizeBytes: number;
  width: number;
  height: number;
}

/** One numbered entry of a conversation. */
export interface Message {
  messageId: string;
  clientMessageId: string;
  conversationId: string;
  /** 1, 2, 3 … in each conversation, the same for everyone: the order. */
  seq: number;
  senderId: string;
  sentAt: number;
  kind: "text" | "media" | "encrypted" | "membership";
  text: string;
  attachments: readonly Attachment[];
  /** The message that this one answers. */
  replyTo?: string;
  editedAt?: number;
  deletedAt?: number;
  /** Only with `kind` "membership". */
  membership?: Membership;
}

/** A move of somebody's cursors. */
export interface Receipt {
  conversationId: string;
  /** Absent in a group, where only the `ToAll` cursors are told. */
  userId?: string;
  deliveredSeq: number;
  seenSeq: number;
  deliveredToAllSeq: number;
  seenByAllSeq: number;
}

/** One entry of the user's update stream. */
export type Update = { offset: number } & (
  | { kind: "message"; message: Message }
  | { kind: "message_changed"; message: Message }
  | { kind: "receipt"; receipt: Receipt }
  | { kind: "conversation"; conversation: Conversation }
  | { kind: "unknown" }
);

/** The server's answer to `hello`. */
export interface Welcome {
  userId: string;
  sessionId: string;
  epoch: string;
  /** The end of the user's update stream at this moment. */
  offset: number;
  heartbeatIntervalMs: number;
  serverTime: number;
  resyncRequired: boolean;
}

/** A signed-in account. */
export interface Session {
  userId: string;
  token: string;
  expiresAt: number;
}

/** How far one of the user's own messages has come. */
export type Progress = "sent" | "delivered" | "seen";

/** The name to show for a user. */
export function displayName(user: User): string {
  return user.displayName.trim() === "" ? user.username : user.displayName;
}

/** Messages that the user has not looked at. Subtracted where it is read, never kept. */
export function unreadCount(conversation: Conversation): number {
  return conversation.role === "" ? 0 : Math.max(0, conversation.lastSeq - conversation.seenSeq);
}

/** How far a message of one's own has come, from the lowest cursors of the others. */
export function progressOf(conversation: Conversation, message: Message): Progress {
  if (message.seq <= conversation.seenByAllSeq) return "seen";
  return message.seq <= conversation.deliveredToAllSeq ? "delivered" : "sent";
}
