import { Dialog } from "../parts/dialog.tsx";
import { useClient } from "../parts/hooks.ts";
import { go } from "../parts/route.ts";
import { UserFinder } from "../parts/user-finder.tsx";

/** Starts a direct chat with a user. */
export function NewChatDialog(props: { onClose: () => void }) {
  const client = useClient();
  return (
    <Dialog title="New chat" onClose={props.onClose}>
      <UserFinder
        label="Who do you want to talk to?"
        action="Start"
        autofocus
        onFound={async (user) => {
          if (user.userId === client.userId) throw new Error("That is you. Pick somebody else to talk to.");
          const conversation = await client.startDirect(user.userId);
          props.onClose();
          go(conversation.conversationId);
        }}
      />
      <p class="dialog-hint">Ask your friends for their user name: it stands under their name, with an @.</p>
    </Dialog>
  );
}
