import type { Conversation } from "../../sdk/index.ts";
import { useClient, useWatch } from "../parts/hooks.ts";
import { nameOf, useNames } from "../words/people.ts";

/** Who is typing, under the messages. */
export function TypingLine(props: { conversation: Conversation }) {
  const client = useClient();
  const typists = useWatch(client.typing.typists(props.conversation.conversationId));
  useNames(typists.slice(0, 3));
  return (
    <div class="typing-line" aria-live="polite">
      {typists.length > 0 && (
        <>
          <span class="typing-dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {sentence(typists.map((userId) => nameOf(client, userId)))}
        </>
      )}
    </div>
  );
}

function sentence(names: string[]): string {
  const [first, second] = names;
  if (names.length === 1) return `${first} is typing`;
  return names.length === 2 ? `${first} and ${second} are typing` : `${first}, ${second} and others are typing`;
}
