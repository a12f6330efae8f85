import { type Conversation, type Message, activityAt, progressOf, unreadCount } from "../../sdk/index.ts";
import { Avatar, UserAvatar } from "../parts/avatar.tsx";
import { classes, memo, useClient, useWatch } from "../parts/hooks.ts";
import { IconAlert, IconClock } from "../parts/icons.tsx";
import { ProgressMark } from "../parts/progress-mark.tsx";
import { conversationHref } from "../parts/route.ts";
import { shortMoment } from "../words/format.ts";
import { membershipText, nameOf, namedIn, previewText, titleOf, useName, useNames } from "../words/people.ts";

/** One conversation in the list. `now` is in minutes: it makes the row fresh once a minute. */
export const ConversationRow = memo(function ConversationRow(props: { conversation: Conversation; open: boolean; now: number }) {
  const { conversation, open } = props;
  const unread = unreadCount(conversation);
  const title = titleOf(conversation);
  return (
    <a
      href={conversationHref(conversation.conversationId)}
      class={classes("row", open && "row-open", unread > 0 && "row-unread")}
      aria-current={open ? "page" : undefined}
    >
      {conversation.peer !== undefined ? (
        <UserAvatar userId={conversation.peer.userId} />
      ) : (
        <Avatar id={conversation.conversationId} name={title} group />
      )}
      <span class="row-body">
        <span class="row-line">
          <span class="row-title">{title}</span>
          <time class="row-time">{activityAt(conversation) > 0 && shortMoment(activityAt(conversation), Date.now())}</time>
        </span>
        <span class="row-line">
          <Preview conversation={conversation} />
          {unread > 0 && (
            <span class="badge">
              {unread > 99 ? "99+" : unread}
              <span class="visually-hidden"> unread</span>
            </span>
          )}
        </span>
      </span>
    </a>
  );
});

function Preview(props: { conversation: Conversation }) {
  const { conversation } = props;
  const client = useClient();
  const typists = useWatch(client.typing.typists(conversation.conversationId));
  const pending = useWatch(client.outbox.entries).findLast((entry) => entry.conversationId === conversation.conversationId);
  if (typists.length > 0) return <TypingPreview userId={typists[0] ?? ""} group={conversation.kind === "group"} />;
  if (pending !== undefined) {
    return (
      <span class={classes("row-preview", pending.failure && "row-failed")}>
        {pending.failure === undefined ? <IconClock /> : <IconAlert />} {pending.failure === undefined ? pending.text : `Not sent: ${pending.text}`}
      </span>
    );
  }
  const message = conversation.lastMessage;
  if (message === undefined) return <span class="row-preview row-quiet">No messages yet</span>;
  return <LastMessage conversation={conversation} message={message} />;
}

function LastMessage(props: { conversation: Conversation; message: Message }) {
  const { conversation, message } = props;
  const client = useClient();
  useNames(namedIn(message));
  if (message.kind === "membership") return <span class="row-preview row-quiet">{membershipText(client, message)}</span>;
  const own = message.senderId === client.userId;
  const prefix = conversation.kind === "group" && !own ? `${nameOf(client, message.senderId).split(" ")[0]}: ` : "";
  return (
    <span class={classes("row-preview", message.deletedAt !== undefined && "row-quiet")}>
      {own && message.deletedAt === undefined && <ProgressMark progress={progressOf(conversation, message)} />}
      {prefix}
      {message.deletedAt === undefined ? previewText(message) : "Message deleted"}
    </span>
  );
}

function TypingPreview(props: { userId: string; group: boolean }) {
  const name = useName(props.userId);
  return <span class="row-preview row-typing">{props.group ? `${name} is typing…` : "typing…"}</span>;
}
