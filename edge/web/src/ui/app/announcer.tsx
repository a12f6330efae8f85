import { useEffect, useState } from "preact/hooks";
import { useClient } from "../parts/hooks.ts";
import { openConversation } from "../parts/route.ts";
import { nameOf, titleOf } from "../words/people.ts";

/** Reads what comes in aloud, to those who use a screen reader. */
export function Announcer() {
  const client = useClient();
  const [text, setText] = useState("");
  useEffect(
    () =>
      client.onArrival((message) => {
        if (message.senderId === client.userId || message.kind === "membership") return;
        const name = nameOf(client, message.senderId);
        const conversation = client.conversations.get(message.conversationId);
        const open = openConversation.value === message.conversationId;
        const place = conversation?.kind === "group" ? ` in ${titleOf(conversation)}` : "";
        setText(open ? `${name}: ${message.text}` : `New message from ${name}${place}`);
      }),
    [client],
  );
  return (
    <div class="visually-hidden" aria-live="polite" role="log">
      {text}
    </div>
  );
}
