import { useEffect, useState } from "preact/hooks";
import type { Conversation, Message } from "../../sdk/index.ts";
import { DetailsPanel } from "../details/details-panel.tsx";
import { Avatar, UserAvatar } from "../parts/avatar.tsx";
import { ConfirmDialog } from "../parts/confirm-dialog.tsx";
import { useClient, useWindowEvent } from "../parts/hooks.ts";
import { IconBack, IconInfo } from "../parts/icons.tsx";
import { PresenceText } from "../parts/presence-text.tsx";
import { go } from "../parts/route.ts";
import { sayError } from "../parts/toasts.tsx";
import { titleOf } from "../words/people.ts";
import { Composer } from "./composer.tsx";
import { SeenByDialog } from "./seen-by-dialog.tsx";
import { TimelineView } from "./timeline-view.tsx";
import { TypingLine } from "./typing-line.tsx";

/** What the composer is about, besides a new message. */
export type Focus = { kind: "reply" | "edit"; message: Message } | undefined;

/** One conversation: who, what was said, and where to say more. */
export function Chat(props: { conversation: Conversation }) {
  const { conversation } = props;
  const client = useClient();
  const [focus, setFocus] = useState<Focus>();
  const [doomed, setDoomed] = useState<Message>();
  const [seenBy, setSeenBy] = useState<Message>();
  const [details, setDetails] = useState(false);
  const { conversationId } = conversation;
  useEffect(() => {
    const timeline = client.timeline(conversationId);
    void timeline.open();
    return () => timeline.trim();
  }, [client, conversationId]);
  useWindowEvent("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open], .picker") !== null) return;
    if (details) setDetails(false);
    else if (focus !== undefined) setFocus(undefined);
  });
  const member = conversation.role !== "";

  return (
    <div class="chat-frame">
      <section class="chat" aria-label={`Chat with ${titleOf(conversation)}`}>
        <ChatHeader conversation={conversation} details={details} onDetails={() => setDetails(!details)} />
        <TimelineView conversation={conversation} onFocus={setFocus} onDelete={setDoomed} onSeenBy={setSeenBy} />
        <TypingLine conversation={conversation} />
        {member ? (
          <Composer conversation={conversation} focus={focus} onFocus={setFocus} />
        ) : (
          <p class="chat-closed">You are no longer a member of this group.</p>
        )}
      </section>
      {details && <DetailsPanel conversation={conversation} onClose={() => setDetails(false)} />}
      {seenBy !== undefined && <SeenByDialog message={seenBy} onClose={() => setSeenBy(undefined)} />}
      {doomed !== undefined && (
        <ConfirmDialog
          title="Delete this message?"
          text="It disappears for everybody in this conversation."
          action="Delete"
          onConfirm={() => client.deleteMessage(doomed).catch(sayError)}
          onClose={() => setDoomed(undefined)}
        />
      )}
    </div>
  );
}

function ChatHeader(props: { conversation: Conversation; details: boolean; onDetails: () => void }) {
  const { conversation, details, onDetails } = props;
  const title = titleOf(conversation);
  return (
    <header class="chat-head">
      <button type="button" class="icon-button chat-back" aria-label="Back to the list" onClick={() => go(undefined)}>
        <IconBack />
      </button>
      <button type="button" class="chat-who" onClick={onDetails} aria-expanded={details}>
        {conversation.peer !== undefined ? (
          <UserAvatar userId={conversation.peer.userId} />
        ) : (
          <Avatar id={conversation.conversationId} name={title} group />
        )}
        <span class="chat-names">
          <h2>{title}</h2>
          {conversation.peer !== undefined ? (
            <PresenceText userId={conversation.peer.userId} />
          ) : (
            <span class="chat-sub">
              {conversation.memberCount} {conversation.memberCount === 1 ? "member" : "members"}
            </span>
          )}
        </span>
      </button>
      <button type="button" class="icon-button" title="Details" aria-label="Details" aria-expanded={details} onClick={onDetails}>
        <IconInfo />
      </button>
    </header>
  );
}
