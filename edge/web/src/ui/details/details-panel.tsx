import { useEffect, useState } from "preact/hooks";
import { type Conversation, displayName } from "../../sdk/index.ts";
import { Avatar, UserAvatar } from "../parts/avatar.tsx";
import { ConfirmDialog } from "../parts/confirm-dialog.tsx";
import { useClient, useWatch } from "../parts/hooks.ts";
import { IconAdd, IconClose, IconDelete, IconEdit, IconLeave } from "../parts/icons.tsx";
import { PresenceText } from "../parts/presence-text.tsx";
import { go } from "../parts/route.ts";
import { sayError } from "../parts/toasts.tsx";
import { UserFinder } from "../parts/user-finder.tsx";
import { titleOf } from "../words/people.ts";
import { MemberRow } from "./member-row.tsx";

type Question = "leave" | "delete" | undefined;

/** Everything about a conversation: who is in it, and what one may do about that. */
export function DetailsPanel(props: { conversation: Conversation; onClose: () => void }) {
  const { conversation } = props;
  return (
    <aside class="details" aria-label="Details">
      <header class="details-head">
        <h2>{conversation.kind === "group" ? "Group" : "Contact"}</h2>
        <button type="button" class="icon-button" aria-label="Close details" onClick={props.onClose}>
          <IconClose />
        </button>
      </header>
      <div class="details-scroll">{conversation.kind === "group" ? <Group {...props} /> : <Contact {...props} />}</div>
    </aside>
  );
}

function Contact(props: { conversation: Conversation }) {
  const { peer } = props.conversation;
  if (peer === undefined) return null;
  return (
    <div class="details-card">
      <UserAvatar userId={peer.userId} size="large" />
      <h3>{displayName(peer)}</h3>
      <span class="handle">@{peer.username}</span>
      <PresenceText userId={peer.userId} />
    </div>
  );
}

function Group(props: { conversation: Conversation }) {
  const { conversation } = props;
  const { conversationId, role } = conversation;
  const client = useClient();
  const members = useWatch(client.members.of(conversationId));
  const [question, setQuestion] = useState<Question>();
  const [adding, setAdding] = useState(false);
  const manages = role === "owner" || role === "admin";
  usePresences(members?.map(({ userId }) => userId) ?? []);

  return (
    <>
      <div class="details-card">
        <Avatar id={conversationId} name={titleOf(conversation)} group size="large" />
        <Title conversation={conversation} editable={manages} />
        <span class="chat-sub">
          {conversation.memberCount} {conversation.memberCount === 1 ? "member" : "members"}
        </span>
      </div>
      {manages && (
        <section class="details-section">
          {adding ? (
            <UserFinder
              label="Add a member"
              action="Add"
              autofocus
              onFound={async (user) => {
                await client.addMember(conversationId, user.userId);
                setAdding(false);
              }}
            />
          ) : (
            <button type="button" class="details-action" onClick={() => setAdding(true)}>
              <IconAdd /> Add a member
            </button>
          )}
        </section>
      )}
      <ul class="details-section members" aria-label="Members">
        {members?.map((member) => (
          <MemberRow key={member.userId} member={member} conversation={conversation} />
        ))}
        {members === undefined && <li class="details-quiet">Reading the members…</li>}
      </ul>
      {role !== "" && (
        <section class="details-section">
          <button type="button" class="details-action details-danger" onClick={() => setQuestion("leave")}>
            <IconLeave /> Leave the group
          </button>
          {role === "owner" && (
            <button type="button" class="details-action details-danger" onClick={() => setQuestion("delete")}>
              <IconDelete /> Delete the group
            </button>
          )}
        </section>
      )}
      {question === "leave" && (
        <ConfirmDialog
          title="Leave this group?"
          text="You will not get its messages any more. Somebody in the group can add you again."
          action="Leave"
          onConfirm={() => client.leave(conversationId).catch(sayError)}
          onClose={() => setQuestion(undefined)}
        />
      )}
      {question === "delete" && (
        <ConfirmDialog
          title="Delete this group?"
          text="It disappears for all its members, with everything that was said in it."
          action="Delete group"
          onConfirm={() => client.deleteConversation(conversationId).then(() => go(undefined), sayError)}
          onClose={() => setQuestion(undefined)}
        />
      )}
    </>
  );
}

function Title(props: { conversation: Conversation; editable: boolean }) {
  const { conversation } = props;
  const client = useClient();
  const [text, setText] = useState<string>();
  if (text === undefined) {
    return (
      <h3>
        {titleOf(conversation)}
        {props.editable && (
          <button type="button" class="icon-button" aria-label="Rename" title="Rename" onClick={() => setText(conversation.title)}>
            <IconEdit />
          </button>
        )}
      </h3>
    );
  }
  const save = (event: Event): void => {
    event.preventDefault();
    setText(undefined);
    const title = text.trim();
    if (title !== "" && title !== conversation.title) client.rename(conversation.conversationId, title).catch(sayError);
  };
  return (
    <form class="rename" onSubmit={save}>
      <input
        value={text}
        aria-label="Name of the group"
        maxLength={128}
        autofocus
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          setText(undefined);
        }}
      />
      <button type="submit" class="button button-primary">
        Save
      </button>
    </form>
  );
}

/** Watches these users' presence while they are shown. */
function usePresences(userIds: readonly string[]): void {
  const client = useClient();
  const key = userIds.join(" ");
  useEffect(() => {
    const stops = userIds.map((userId) => client.presences.watch(userId));
    return () => {
      for (const stop of stops) stop();
    };
  }, [client, key]);
}
