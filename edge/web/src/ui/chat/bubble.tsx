import type { Message, OutboxEntry, Progress } from "../../sdk/index.ts";
import { Avatar, hue } from "../parts/avatar.tsx";
import { classes, memo, useClient } from "../parts/hooks.ts";
import { IconCopy, IconDelete, IconEdit, IconInfo, IconReply } from "../parts/icons.tsx";
import { ProgressMark } from "../parts/progress-mark.tsx";
import { say } from "../parts/toasts.tsx";
import { exactTime, timeOfDay } from "../words/format.ts";
import { nameOf, previewText, useName } from "../words/people.ts";
import { isJumbo } from "../words/rich-text.ts";
import type { Focus } from "./chat.tsx";
import { RichText } from "./rich-text-view.tsx";

interface BubbleProps {
  /** A message that has its place, or one that waits in the outbox. */
  message?: Message;
  entry?: OutboxEntry;
  own: boolean;
  /** Whether to say who sent it. */
  group: boolean;
  first: boolean;
  last: boolean;
  /** It came while the chat was open: then it moves in. */
  fresh: boolean;
  active: boolean;
  progress?: Progress | undefined;
  /** The message that it answers, if that is known. */
  quoted: Message | undefined;
  canReply?: boolean;
  canDelete?: boolean;
  onFocus?: (focus: Focus) => void;
  onDelete?: (message: Message) => void;
  /** Shows who has seen it. */
  onSeenBy?: ((message: Message) => void) | undefined;
  onJump: (messageId: string) => void;
  onActive: (key: string | undefined) => void;
}

/** One message. */
export const Bubble = memo(function Bubble(props: BubbleProps) {
  const { message, entry, own, group, first, last } = props;
  const client = useClient();
  const text = message?.text ?? entry?.text ?? "";
  const deleted = message?.deletedAt !== undefined;
  const replyTo = deleted ? undefined : (message?.replyTo ?? entry?.replyTo);
  const key = message?.messageId ?? entry?.clientMessageId;
  const jumbo = !deleted && replyTo === undefined && message?.kind !== "encrypted" && isJumbo(text);
  return (
    <article
      class={classes(
        "message",
        own ? "message-own" : "message-other",
        group && !own && "message-in-group",
        first && "message-first",
        last && "message-last",
        props.fresh && "message-fresh",
        props.active && "is-active",
        entry?.failure !== undefined && "message-failed",
        jumbo && "message-jumbo",
      )}
      data-message={message?.messageId}
      data-seq={message?.seq}
      tabIndex={-1}
      aria-label={`${own ? "You" : nameOf(client, message?.senderId ?? "")}, ${timeOfDay(message?.sentAt ?? entry?.createdAt ?? 0)}`}
    >
      {group && !own && <span class="message-avatar">{last && <SenderAvatar userId={message?.senderId ?? ""} />}</span>}
      <div class="message-column">
        {group && !own && first && <Sender userId={message?.senderId ?? ""} />}
        <div class={classes("bubble", deleted && "bubble-deleted")} onClick={(event) => tapped(event, props, key)}>
          {replyTo !== undefined && <Quote quoted={props.quoted} onJump={() => props.onJump(replyTo)} />}
          <span class="bubble-text">{deleted ? "This message was deleted" : <Body message={message} text={text} />}</span>
          <Meta {...props} deleted={deleted} />
        </div>
        {entry?.failure !== undefined && <Failure entry={entry} />}
      </div>
      {message !== undefined && !deleted && <Actions {...props} message={message} />}
    </article>
  );
});

/** On a touch screen a tap shows the actions; links and buttons in the bubble keep their own meaning. */
function tapped(event: MouseEvent, props: BubbleProps, key: string | undefined): void {
  if (!matchMedia("(hover: none)").matches) return;
  if (event.target instanceof Element && event.target.closest("a, button") !== null) return;
  props.onActive(props.active ? undefined : key);
  // The actions lie over the upper edge: there must be room for them.
  if (event.currentTarget instanceof Element) event.currentTarget.closest(".message")?.scrollIntoView({ block: "nearest" });
}

function Body(props: { message: Message | undefined; text: string }) {
  const { message, text } = props;
  if (message?.kind === "encrypted") return <em>Encrypted message. This client cannot read it.</em>;
  if (message?.kind === "media" && text === "") return <em>{previewText(message)}</em>;
  return <RichText text={text} />;
}

function SenderAvatar(props: { userId: string }) {
  return <Avatar id={props.userId} name={useName(props.userId)} size="small" />;
}

function Sender(props: { userId: string }) {
  return <span class={classes("message-sender", `hue-text-${hue(props.userId)}`)}>{useName(props.userId)}</span>;
}

function Meta(props: BubbleProps & { deleted: boolean }) {
  const { message, entry, own, deleted } = props;
  const at = message?.sentAt ?? entry?.createdAt ?? 0;
  const waiting = entry === undefined ? undefined : entry.failure === undefined ? "pending" : "failed";
  const progress = waiting ?? props.progress;
  return (
    <span class="bubble-meta">
      {message?.editedAt !== undefined && !deleted && <span title={exactTime(message.editedAt)}>edited</span>}
      <time title={exactTime(at)}>{timeOfDay(at)}</time>
      {own && !deleted && progress !== undefined && <ProgressMark progress={progress} />}
    </span>
  );
}

/** The message that another one answers. */
export function Quote(props: { quoted: Message | undefined; onJump?: () => void }) {
  const { quoted, onJump } = props;
  const client = useClient();
  const name = useName(quoted?.senderId ?? "");
  const own = quoted?.senderId === client.userId;
  return (
    <button type="button" class={classes("quote", quoted && `hue-text-${hue(quoted.senderId)}`)} onClick={onJump} tabIndex={onJump ? 0 : -1}>
      <strong>{quoted === undefined ? "Earlier message" : own ? "You" : name}</strong>
      <span>{quoted === undefined ? "Show it" : quoted.deletedAt === undefined ? previewText(quoted) : "This message was deleted"}</span>
    </button>
  );
}

function Failure(props: { entry: OutboxEntry }) {
  const { entry } = props;
  const client = useClient();
  return (
    <div class="failure" role="alert">
      <span>Not sent: {entry.failure?.message}</span>
      <button type="button" onClick={() => client.outbox.retry(entry.clientMessageId)}>
        Try again
      </button>
      <button type="button" onClick={() => client.outbox.discard(entry.clientMessageId)}>
        Delete
      </button>
    </div>
  );
}

function Actions(props: BubbleProps & { message: Message }) {
  const { message, own, onFocus, onDelete, onActive } = props;
  const tabIndex = props.active ? 0 : -1;
  const button = (label: string, icon: preact.ComponentChild, act: () => void) => (
    <button
      type="button"
      title={label}
      aria-label={label}
      tabIndex={tabIndex}
      onClick={() => {
        onActive(undefined);
        act();
      }}
    >
      {icon}
    </button>
  );
  return (
    <div class="actions" role="toolbar" aria-label="Message actions">
      {props.canReply && button("Reply", <IconReply />, () => onFocus?.({ kind: "reply", message }))}
      {message.text !== "" && button("Copy", <IconCopy />, () => void copy(message.text))}
      {own && props.group && button("Seen by", <IconInfo />, () => props.onSeenBy?.(message))}
      {own && props.canReply && message.kind === "text" && button("Edit", <IconEdit />, () => onFocus?.({ kind: "edit", message }))}
      {props.canDelete && button("Delete", <IconDelete />, () => onDelete?.(message))}
    </div>
  );
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("Copying is not allowed here.");
  }
}
