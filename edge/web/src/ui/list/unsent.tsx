import type { OutboxEntry } from "../../sdk/index.ts";
import { useClient, useWatch } from "../parts/hooks.ts";
import { IconAlert } from "../parts/icons.tsx";

/**
 * Messages that failed for good and have no chat any more to be shown in: the user was removed from the group, or it was
 * deleted, while they waited.
 */
export function Unsent() {
  const client = useClient();
  const entries = useWatch(client.outbox.entries);
  const conversations = useWatch(client.conversations.sorted);
  if (!useWatch(client.loaded)) return null;
  const known = new Set(conversations.map(({ conversationId }) => conversationId));
  const stranded = entries.filter((entry) => entry.failure !== undefined && !known.has(entry.conversationId));
  return (
    <>
      {stranded.map((entry) => (
        <Stranded key={entry.clientMessageId} entry={entry} onDismiss={() => client.outbox.discard(entry.clientMessageId)} />
      ))}
    </>
  );
}

function Stranded(props: { entry: OutboxEntry; onDismiss: () => void }) {
  const { entry, onDismiss } = props;
  return (
    <div class="stranded" role="alert">
      <IconAlert />
      <p>
        <strong>Not sent:</strong> “{entry.text}”
        <small>{entry.failure?.message}</small>
      </p>
      <button type="button" onClick={onDismiss}>
        Dismiss
      </button>
    </div>
  );
}
