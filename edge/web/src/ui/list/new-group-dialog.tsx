import { useState } from "preact/hooks";
import { type User, displayName } from "../../sdk/index.ts";
import { Avatar } from "../parts/avatar.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { useClient } from "../parts/hooks.ts";
import { IconClose } from "../parts/icons.tsx";
import { go } from "../parts/route.ts";
import { sayError } from "../parts/toasts.tsx";
import { UserFinder } from "../parts/user-finder.tsx";

/** Makes a group: its name, and who is in it. */
export function NewGroupDialog(props: { onClose: () => void }) {
  const client = useClient();
  const [title, setTitle] = useState("");
  const [members, setMembers] = useState<readonly User[]>([]);
  const [busy, setBusy] = useState(false);
  const create = async (): Promise<void> => {
    setBusy(true);
    try {
      const memberIds = members.map(({ userId }) => userId);
      const conversation = await client.createGroup(title.trim(), memberIds);
      props.onClose();
      go(conversation.conversationId);
    } catch (thrown) {
      sayError(thrown);
      setBusy(false);
    }
  };
  const add = (user: User): void => {
    if (user.userId === client.userId) throw new Error("You are in the group already.");
    setMembers((known) => (known.some(({ userId }) => userId === user.userId) ? known : [...known, user]));
  };
  return (
    <Dialog title="New group" onClose={props.onClose}>
      <label class="field">
        <span>Name of the group</span>
        <input name="title" value={title} onInput={(event) => setTitle(event.currentTarget.value)} maxLength={128} autofocus />
      </label>
      <UserFinder label="Add members" action="Add" onFound={add} />
      {members.length > 0 && (
        <ul class="chips" aria-label="Members">
          {members.map((user) => (
            <li key={user.userId} class="chip">
              <Avatar id={user.userId} name={displayName(user)} size="small" />
              {displayName(user)}
              <button
                type="button"
                aria-label={`Remove ${displayName(user)}`}
                onClick={() => setMembers((known) => known.filter(({ userId }) => userId !== user.userId))}
              >
                <IconClose />
              </button>
            </li>
          ))}
        </ul>
      )}
      <div class="dialog-actions">
        <button type="button" class="button button-primary" disabled={busy || title.trim() === ""} onClick={() => void create()}>
          Create group
        </button>
      </div>
    </Dialog>
  );
}
