import type { Message } from "../../sdk/index.ts";
import { memo, useClient } from "../parts/hooks.ts";
import { exactTime } from "../words/format.ts";
import { membershipText, namedIn, useNames } from "../words/people.ts";

/** A change of the group, in the middle. */
export const MembershipLine = memo(function MembershipLine(props: { message: Message }) {
  const client = useClient();
  useNames(namedIn(props.message));
  return (
    <div class="membership" data-seq={props.message.seq} title={exactTime(props.message.sentAt)}>
      <span>{membershipText(client, props.message)}</span>
    </div>
  );
});
