import { useState } from "preact/hooks";
import { type Conversation, type Member, displayName } from "../../sdk/index.ts";
import { UserAvatar } from "../parts/avatar.tsx";
import { offline } from "../parts/connectivity.ts";
import { useClient, useWatch } from "../parts/hooks.ts";
import { IconMore } from "../parts/icons.tsx";
import { go } from "../parts/route.ts";
import { sayError } from "../parts/toasts.tsx";
import { lastSeen } from "../words/format.ts";

/** A member of a group, with what one may do about them. */
export function MemberRow(props: { member: Member; conversation: Conversation }) {
  const { member, conversation } = props;
  const { conversationId, role } = conversation;
  const client = useClient();
  const presence = useWatch(client.presences.of(member.userId));
  const unknown = useWatch(offline);
  const [open, setOpen] = useState(false);
  const self = member.userId === client.userId;
  const manages = !self && (role === "owner" || role === "admin") && member.role !== "owner";
  const run = (act: () => Promise<unknown>): void => {
    setOpen(false);
    act().catch(sayError);
  };
  return (
    <li class="member">
      <UserAvatar userId={member.userId} />
      <span class="member-names">
        <strong>
          {displayName(member)}
          {self && " (you)"}
        </strong>
        <span class="chat-sub">
          {presence?.online && !unknown ? "online" : presence?.lastSeenAt !== undefined ? lastSeen(presence.lastSeenAt, Date.now()) : `@${member.username}`}
        </span>
      </span>
      {member.role !== "member" && <span class={`role role-${member.role}`}>{member.role}</span>}
      {!self && (
        <button
          type="button"
          class="icon-button"
          aria-label={`Actions for ${displayName(member)}`}
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          <IconMore />
        </button>
      )}
      {open && (
        <div class="member-actions">
          <button type="button" onClick={() => run(() => client.startDirect(member.userId).then((chat) => go(chat.conversationId)))}>
            Message
          </button>
          {manages && role === "owner" && (
            <button
              type="button"
              onClick={() => run(() => client.setRole(conversationId, member.userId, member.role === "admin" ? "member" : "admin"))}
            >
              {member.role === "admin" ? "Make a member" : "Make an admin"}
            </button>
          )}
          {manages && role === "owner" && (
            <button type="button" onClick={() => run(() => client.setRole(conversationId, member.userId, "owner"))}>
              Make the owner
            </button>
          )}
          {manages && (role === "owner" || member.role === "member") && (
            <button type="button" class="is-danger" onClick={() => run(() => client.removeMember(conversationId, member.userId))}>
              Remove
            </button>
          )}
        </div>
      )}
    </li>
  );
}
