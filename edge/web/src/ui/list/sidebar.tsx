import { useEffect, useRef, useState } from "preact/hooks";
import type { Account } from "../app/account.ts";
import { notifying, switchNotifications } from "../app/notifications.ts";
import { Avatar } from "../parts/avatar.tsx";
import { useClient, useTicking, useWatch, useWindowEvent } from "../parts/hooks.ts";
import { IconBell, IconBellOff, IconChat, IconGroup, IconSearch, IconSignOut } from "../parts/icons.tsx";
import { openConversation } from "../parts/route.ts";
import { ThemeButton } from "../parts/theme-button.tsx";
import { titleOf } from "../words/people.ts";
import { ConversationRow } from "./conversation-row.tsx";
import { SignOutDialog } from "./sign-out-dialog.tsx";
import { Unsent } from "./unsent.tsx";

/** Whose presence is watched for the list: those who were heard from last. */
const WATCHED_PEERS_MAX = 500;

/** One's own name, the search, and the conversations. */
export function Sidebar(props: { account: Account; onNewChat: () => void; onNewGroup: () => void }) {
  const { account } = props;
  const client = useClient();
  const conversations = useWatch(client.conversations.sorted);
  const loaded = useWatch(client.loaded);
  const open = useWatch(openConversation);
  const notified = useWatch(notifying);
  const bell = notified ? "Notifications are on" : "Notifications are off";
  const [filter, setFilter] = useState("");
  const [leaving, setLeaving] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  useTicking(60_000);
  usePeers(conversations.slice(0, WATCHED_PEERS_MAX).flatMap(({ peer }) => (peer === undefined ? [] : [peer.userId])));
  useWindowEvent("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    search.current?.focus();
  });
  const needle = filter.trim().toLowerCase();
  const shown = conversations.filter((conversation) => titleOf(conversation).toLowerCase().includes(needle));

  return (
    <nav class="sidebar" aria-label="Conversations">
      <header class="sidebar-head">
        <Avatar id={account.userId} name={account.displayName} />
        <div class="sidebar-me">
          <strong>{account.displayName}</strong>
          <span class="handle">@{account.username}</span>
        </div>
        <button
          type="button"
          class="icon-button"
          title={bell}
          aria-label={bell}
          aria-pressed={notified}
          onClick={() => void switchNotifications()}
        >
          {notified ? <IconBell /> : <IconBellOff />}
        </button>
        <ThemeButton />
        <button type="button" class="icon-button" title="Sign out" aria-label="Sign out" onClick={() => setLeaving(true)}>
          <IconSignOut />
        </button>
      </header>
      <div class="sidebar-tools">
        <label class="search">
          <IconSearch />
          <span class="visually-hidden">Search conversations</span>
          <input
            ref={search}
            type="search"
            placeholder="Search"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
            onKeyDown={(event) => event.key === "Escape" && setFilter("")}
          />
        </label>
        <button type="button" class="icon-button icon-button-filled" title="New group" aria-label="New group" onClick={props.onNewGroup}>
          <IconGroup />
        </button>
        <button type="button" class="icon-button icon-button-accent" title="New chat" aria-label="New chat" onClick={props.onNewChat}>
          <IconChat />
        </button>
      </div>
      <Unsent />
      <ul class="rows" onKeyDown={moveBetweenRows}>
        {shown.map((conversation) => (
          <li key={conversation.conversationId}>
            <ConversationRow conversation={conversation} open={conversation.conversationId === open} now={Math.floor(Date.now() / 60_000)} />
          </li>
        ))}
      </ul>
      {!loaded && conversations.length === 0 && <Skeleton />}
      {loaded && shown.length === 0 && (
        <p class="sidebar-empty">{needle === "" ? "No conversations yet. Start one with the button above." : "Nothing by that name."}</p>
      )}
      {leaving && <SignOutDialog onClose={() => setLeaving(false)} />}
    </nav>
  );
}

/** Rows to be, while the list is read. */
function Skeleton() {
  return (
    <div class="skeleton" aria-label="Loading conversations">
      {[0, 1, 2, 3, 4].map((row) => (
        <div key={row} class="skeleton-row">
          <span class="skeleton-disc" />
          <span class="skeleton-lines" />
        </div>
      ))}
    </div>
  );
}

/** Up and down go from one conversation to the next. */
function moveBetweenRows(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (step === 0 || !(event.currentTarget instanceof HTMLElement)) return;
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("a.row")];
  const next = rows[rows.indexOf(document.activeElement as HTMLElement) + step];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

/** Watches the presence of these users while they are listed. */
function usePeers(userIds: string[]): void {
  const client = useClient();
  const watched = useRef(new Map<string, () => void>());
  const key = userIds.toSorted().join(" ");
  useEffect(() => {
    const wanted = new Set(userIds);
    for (const [userId, stop] of watched.current) {
      if (wanted.has(userId)) continue;
      stop();
      watched.current.delete(userId);
    }
    for (const userId of wanted) if (!watched.current.has(userId)) watched.current.set(userId, client.presences.watch(userId));
  }, [client, key]);
  useEffect(
    () => () => {
      for (const stop of watched.current.values()) stop();
      watched.current.clear();
    },
    [client],
  );
}
