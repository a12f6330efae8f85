import { useEffect, useRef, useState } from "preact/hooks";
import { type Conversation, unreadCount } from "../../sdk/index.ts";
import { Observable } from "../../sdk/observable.ts";
import { Chat } from "../chat/chat.tsx";
import { NewChatDialog } from "../list/new-chat-dialog.tsx";
import { NewGroupDialog } from "../list/new-group-dialog.tsx";
import { Sidebar } from "../list/sidebar.tsx";
import { classes, useClient, useWatch } from "../parts/hooks.ts";
import { Logo } from "../parts/icons.tsx";
import { openConversation } from "../parts/route.ts";
import type { Account } from "./account.ts";
import { Announcer } from "./announcer.tsx";
import { ConnectionBanner } from "./connection-banner.tsx";
import { notifyOf } from "./notifications.ts";

const NOTHING_OPEN = new Observable<Conversation | undefined>(undefined);

/** The signed-in program: the list on the left, the open chat on the right; on a phone one at a time. */
export function Shell(props: { account: Account }) {
  const client = useClient();
  const open = useWatch(openConversation);
  const conversations = useWatch(client.conversations.sorted);
  const loaded = useWatch(client.loaded);
  // Not from the list: a chat that the user was removed from stays open until they go elsewhere.
  const conversation = useWatch(open === undefined ? NOTHING_OPEN : client.conversations.watch(open));
  const [dialog, setDialog] = useState<"chat" | "group">();
  const close = (): void => setDialog(undefined);
  useEffect(() => notifyOf(client), [client]);
  useTitle(conversations.reduce((sum, item) => sum + unreadCount(item), 0));

  return (
    <div class={classes("shell", open !== undefined && "shell-open")}>
      <a class="skip-link" href="#message-input" onClick={focusComposer}>
        Skip to the message field
      </a>
      <ConnectionBanner />
      <Sidebar account={props.account} onNewChat={() => setDialog("chat")} onNewGroup={() => setDialog("group")} />
      <main class="stage">
        {conversation !== undefined && !conversation.deleted ? (
          <Chat key={conversation.conversationId} conversation={conversation} />
        ) : (
          <Welcome account={props.account} missing={open !== undefined && loaded} onNewChat={() => setDialog("chat")} />
        )}
      </main>
      {dialog === "chat" && <NewChatDialog onClose={close} />}
      {dialog === "group" && <NewGroupDialog onClose={close} />}
      <Announcer />
    </div>
  );
}

function Welcome(props: { account: Account; missing: boolean; onNewChat: () => void }) {
  return (
    <section class="welcome">
      <Logo />
      {props.missing ? (
        <>
          <h2>This conversation is gone</h2>
          <p>It was deleted, or you are no longer part of it.</p>
        </>
      ) : (
        <>
          <h2>Good to see you, {props.account.displayName}</h2>
          <p>
            Pick a conversation, or start one. Others find you as <strong class="handle">@{props.account.username}</strong>.
          </p>
        </>
      )}
      <button type="button" class="button button-primary" onClick={props.onNewChat}>
        New chat
      </button>
      <a class="welcome-back" href="#/">
        Back to all conversations
      </a>
    </section>
  );
}

function focusComposer(event: Event): void {
  event.preventDefault();
  document.getElementById("message-input")?.focus();
}

/** The number of unread messages in the page's title. */
function useTitle(unread: number): void {
  const name = useRef("Tidings");
  useEffect(() => {
    document.title = unread > 0 ? `(${unread > 999 ? "999+" : unread}) ${name.current}` : name.current;
  }, [unread]);
  useEffect(() => () => void (document.title = name.current), []);
}
