import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Conversation, type Message, progressOf, unreadCount } from "../../sdk/index.ts";
import { classes, useClient, useWatch, useWindowEvent } from "../parts/hooks.ts";
import { IconDown } from "../parts/icons.tsx";
import { say } from "../parts/toasts.tsx";
import { dayName } from "../words/format.ts";
import { Bubble } from "./bubble.tsx";
import type { Focus } from "./chat.tsx";
import { type Line, layOut } from "./grouping.ts";
import { MembershipLine } from "./membership-line.tsx";
import { useMessageKeys } from "./message-keys.ts";
import { useScroll } from "./scrolling.ts";

/** Pages of history that are read, at the most, to find the message that a reply answers. */
const SEARCH_PAGES_MAX = 20;

/** The messages of a conversation: scrolls into history, and stays at the end while one is there. */
export function TimelineView(props: {
  conversation: Conversation;
  onFocus: (focus: Focus) => void;
  onDelete: (message: Message) => void;
  onSeenBy: (message: Message) => void;
}) {
  const { conversation, onFocus, onDelete, onSeenBy } = props;
  const { conversationId } = conversation;
  const client = useClient();
  const timeline = client.timeline(conversationId);
  const state = useWatch(timeline.state);
  const outbox = useWatch(client.outbox.entries);
  const [firstUnreadSeq, setFirstUnreadSeq] = useState(() => (unreadCount(conversation) > 0 ? conversation.seenSeq + 1 : undefined));
  const [openedAt] = useState(() => Date.now());
  const [active, setActive] = useState<string>();
  const seeking = useRef(false);
  const pending = useMemo(() => outbox.filter((entry) => entry.conversationId === conversationId), [outbox, conversationId]);
  const lines = useMemo(
    () => layOut(state.messages, pending, { ownUserId: client.userId, firstUnreadSeq }),
    [state.messages, pending, client.userId, firstUnreadSeq],
  );
  const byId = useMemo(() => new Map(state.messages.map((message) => [message.messageId, message])), [state.messages]);
  const newest = state.messages.at(-1);

  const markSeen = (seq: number): void => {
    if (!document.hidden && seq > 0) client.markSeen(conversationId, seq);
  };
  const scroll = useScroll({
    firstKey: state.messages[0]?.messageId,
    lastKey: lines.at(-1)?.key,
    version: lines,
    // Without a connection there may be nothing but what waits to be sent.
    ready: !state.fresh || state.error !== undefined || pending.length > 0,
    onVisible: markSeen,
    onNearTop: () => {
      if (!state.loading && !state.complete && state.error === undefined) void timeline.loadOlder();
    },
  });
  useWindowEvent("focus", scroll.look);
  useEffect(() => {
    document.addEventListener("visibilitychange", scroll.look);
    return () => document.removeEventListener("visibilitychange", scroll.look);
  }, []);

  // What one sends oneself is always shown, and everything above it counts as read.
  const newestPending = pending.at(-1)?.clientMessageId;
  useLayoutEffect(() => {
    if (newestPending === undefined || (pending.at(-1)?.createdAt ?? 0) < openedAt) return;
    setFirstUnreadSeq(undefined);
    scroll.toEnd();
  }, [newestPending]);

  const jumpTo = async (messageId: string): Promise<void> => {
    if (seeking.current) return;
    seeking.current = true;
    for (let page = 0; page < SEARCH_PAGES_MAX; page += 1) {
      const { messages, complete, error } = timeline.state.value;
      if (complete || error !== undefined || messages.some((message) => message.messageId === messageId)) break;
      await timeline.loadOlder();
    }
    seeking.current = false;
    requestAnimationFrame(() => scroll.toMessage(messageId) || say("That message is not in this conversation any more."));
  };
  const canDelete = (message: Message): boolean =>
    conversation.role !== "" && (message.senderId === client.userId || (conversation.kind === "group" && conversation.role !== "member"));
  const onKeyDown = useMessageKeys({
    active,
    setActive,
    onReply: (id) => withMessage(id, (message) => onFocus({ kind: "reply", message })),
    onEdit: (id) => withMessage(id, (message) => message.senderId === client.userId && onFocus({ kind: "edit", message })),
    onDelete: (id) => withMessage(id, (message) => canDelete(message) && onDelete(message)),
  });
  const withMessage = (id: string, act: (message: Message) => void): void => {
    const message = byId.get(id);
    if (message !== undefined && message.deletedAt === undefined && conversation.role !== "") act(message);
  };

  const draw = (line: Line) => {
    switch (line.kind) {
      case "day":
        return (
          <div key={line.key} class="day">
            <span>{dayName(line.at, Date.now())}</span>
          </div>
        );
      case "unread":
        return (
          <div key={line.key} class="unread-mark" id="unread-mark">
            <span>New messages</span>
          </div>
        );
      case "membership":
        return <MembershipLine key={line.key} message={line.message} />;
      case "pending":
        return (
          <Bubble
            key={line.key}
            entry={line.entry}
            own
            group={false}
            first={line.first}
            last={line.last}
            fresh
            active={active === line.key}
            quoted={line.entry.replyTo === undefined ? undefined : byId.get(line.entry.replyTo)}
            onJump={jumpTo}
            onActive={setActive}
          />
        );
      case "message": {
        const { message } = line;
        const own = message.senderId === client.userId;
        return (
          <Bubble
            key={line.key}
            message={message}
            own={own}
            group={conversation.kind === "group"}
            first={line.first}
            last={line.last}
            fresh={message.sentAt > openedAt}
            active={active === message.messageId}
            progress={own ? progressOf(conversation, message) : undefined}
            quoted={message.replyTo === undefined ? undefined : byId.get(message.replyTo)}
            canReply={conversation.role !== ""}
            canDelete={canDelete(message)}
            onFocus={onFocus}
            onDelete={onDelete}
            onSeenBy={onSeenBy}
            onJump={jumpTo}
            onActive={setActive}
          />
        );
      }
    }
  };

  const below = newest === undefined ? 0 : Math.max(0, newest.seq - conversation.seenSeq);
  return (
    <div class="timeline-frame">
      <div
        class={classes("timeline", !scroll.placed && "timeline-hidden")}
        ref={scroll.scroller}
        onScroll={scroll.onScroll}
        onKeyDown={onKeyDown}
        tabIndex={0}
        role="feed"
        aria-label="Messages"
        aria-busy={state.loading}
      >
        <div class="timeline-content" ref={scroll.content}>
          <div class="timeline-top">
            {state.loading && <span class="spinner" role="status" aria-label="Loading messages" />}
            {state.error !== undefined && conversation.role !== "" && (
              <button type="button" class="button button-quiet" onClick={() => void timeline.loadOlder()}>
                Messages could not be read. Try again
              </button>
            )}
            {state.complete && state.messages.length === 0 && pending.length === 0 && <p class="timeline-empty">Say hello 👋</p>}
          </div>
          {lines.map(draw)}
        </div>
      </div>
      {!scroll.atEnd && scroll.placed && (
        <button type="button" class="to-end" onClick={() => scroll.toEnd(true)} aria-label="To the newest message">
          <IconDown />
          {below > 0 && <span class="badge">{below > 99 ? "99+" : below}</span>}
        </button>
      )}
    </div>
  );
}
