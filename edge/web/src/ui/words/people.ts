import { useEffect } from "preact/hooks";
import { type Conversation, type Message, type TidingsClient, displayName } from "../../sdk/index.ts";
import { useClient, useRedraw, useWatch } from "../parts/hooks.ts";

/** A user's name, or a placeholder until it is known. "You" for oneself, if asked so. */
export function nameOf(client: TidingsClient, userId: string, options?: { you: boolean }): string {
  if (options?.you && userId === client.userId) return "You";
  const user = client.directory.peek(userId);
  return user === undefined ? "Someone" : displayName(user);
}

/** The name of a user, kept up to date. */
export function useName(userId: string): string {
  const client = useClient();
  const user = useWatch(client.directory.user(userId));
  return user === undefined ? "…" : displayName(user);
}

/** Sees to it that these users' names are known, and draws the component again as they become known. */
export function useNames(userIds: readonly string[]): void {
  const client = useClient();
  const redraw = useRedraw();
  const key = userIds.join(" ");
  useEffect(() => {
    const stops = [...new Set(userIds)].map((userId) => client.directory.user(userId).subscribe(redraw));
    return () => {
      for (const stop of stops) stop();
    };
  }, [client, key]);
}

/** What a conversation is called: a group's title, or the other one's name. */
export function titleOf(conversation: Conversation): string {
  if (conversation.kind === "group") return conversation.title.trim() === "" ? "Group" : conversation.title;
  return conversation.peer === undefined ? "Direct chat" : displayName(conversation.peer);
}

/** A membership entry as a sentence. */
export function membershipText(client: TidingsClient, message: Message): string {
  const { membership } = message;
  if (membership === undefined) return "The group changed";
  const by = nameOf(client, membership.by, { you: true });
  const whom = membership.userId === undefined ? "somebody" : nameOf(client, membership.userId, { you: true });
  const them = whom === "You" ? "you" : whom;
  switch (membership.action) {
    case "created":
      if (client.conversations.get(message.conversationId)?.kind === "direct") return `${by} started this chat`;
      return membership.title ? `${by} created the group “${membership.title}”` : `${by} created the group`;
    case "added":
      return `${by} added ${them}`;
    case "removed":
      return `${by} removed ${them}`;
    case "left":
      return `${membership.userId === undefined ? by : whom} left`;
    case "renamed":
      return `${by} renamed the group to “${membership.title ?? ""}”`;
    case "role":
      return roleText(by, whom, membership.role ?? "member");
  }
}

function roleText(by: string, whom: string, role: string): string {
  const them = whom === "You" ? "you" : whom;
  if (role === "owner") return `${whom} ${whom === "You" ? "are" : "is"} now the owner`;
  return role === "admin" ? `${by} made ${them} an admin` : `${by} made ${them} a member again`;
}

/** A message in one line. */
export function previewText(message: Message): string {
  if (message.kind === "encrypted") return "Encrypted message";
  if (message.kind === "media") return message.text === "" ? (message.attachments[0]?.name ?? "File") : message.text;
  return message.text;
}

/** Everybody that a message names, so that their names can be read. */
export function namedIn(message: Message): string[] {
  const { membership } = message;
  return [message.senderId, membership?.by, membership?.userId].filter((id) => id !== undefined && id !== "") as string[];
}
