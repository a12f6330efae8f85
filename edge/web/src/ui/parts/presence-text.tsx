import { useEffect } from "preact/hooks";
import { lastSeen } from "../words/format.ts";
import { offline } from "./connectivity.ts";
import { useClient, useTicking, useWatch } from "./hooks.ts";

/** "online", or when somebody was last seen. */
export function PresenceText(props: { userId: string }) {
  const client = useClient();
  const presence = useWatch(client.presences.of(props.userId));
  const unknown = useWatch(offline);
  useTicking(30_000);
  useEffect(() => client.presences.watch(props.userId), [client, props.userId]);
  if (unknown) return <span class="chat-sub">no connection</span>;
  if (presence === undefined) return <span class="chat-sub">&nbsp;</span>;
  if (presence.online) return <span class="chat-sub chat-online">online</span>;
  return <span class="chat-sub">{presence.lastSeenAt === undefined ? "offline" : lastSeen(presence.lastSeenAt, Date.now())}</span>;
}

