import { useEffect, useState } from "preact/hooks";
import { type Member, type Message, asTidingsError, displayName } from "../../sdk/index.ts";
import { UserAvatar } from "../parts/avatar.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { useClient } from "../parts/hooks.ts";
import { ProgressMark } from "../parts/progress-mark.tsx";
import { capitalised } from "../parts/toasts.tsx";
import { exactTime } from "../words/format.ts";

/** Who has received and who has seen one's own message in a group. */
export function SeenByDialog(props: { message: Message; onClose: () => void }) {
  const { message } = props;
  const client = useClient();
  const [members, setMembers] = useState<readonly Member[]>();
  const [error, setError] = useState<string>();
  useEffect(() => {
    client.http.members(message.conversationId).then(
      (all) => setMembers(all.filter(({ userId, joinedSeq }) => userId !== client.userId && joinedSeq <= message.seq)),
      (thrown: unknown) => setError(capitalised(asTidingsError(thrown).message)),
    );
  }, [client, message]);
  const progress = (member: Member) => (member.seenSeq >= message.seq ? "seen" : member.deliveredSeq >= message.seq ? "delivered" : "sent");
  return (
    <Dialog title="Seen by" onClose={props.onClose}>
      <p class="dialog-hint">Sent {exactTime(message.sentAt)}</p>
      {error !== undefined && <p class="form-error">{error}</p>}
      <ul class="seen-by">
        {members?.toSorted((a, b) => b.seenSeq - a.seenSeq || b.deliveredSeq - a.deliveredSeq).map((member) => (
          <li key={member.userId} class="member">
            <UserAvatar userId={member.userId} />
            <span class="member-names">
              <strong>{displayName(member)}</strong>
              <span class="chat-sub">{{ seen: "has seen it", delivered: "has received it", sent: "not yet" }[progress(member)]}</span>
            </span>
            {progress(member) !== "sent" && <ProgressMark progress={progress(member)} />}
          </li>
        ))}
        {members?.length === 0 && <li class="details-quiet">Nobody else was here then.</li>}
      </ul>
    </Dialog>
  );
}
