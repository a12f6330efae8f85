import { type Presence, type Watchable, displayName } from "../../sdk/index.ts";
import { offline } from "./connectivity.ts";
import { classes, useClient, useWatch } from "./hooks.ts";
import { IconGroup } from "./icons.tsx";

/** How many pairs of colours `tokens.css` has. */
const HUES = 10;

/** A round picture made of initials, in a colour that belongs to the id. */
export function Avatar(props: { id: string; name: string; group?: boolean; size?: "small" | "large" }) {
  const { id, name, group, size } = props;
  return (
    <span class={classes("avatar", `hue-${hue(id)}`, group && "avatar-group", size && `avatar-${size}`)} aria-hidden="true">
      {group && initials(name) === "" ? <IconGroup /> : initials(name)}
    </span>
  );
}

/** A user's avatar with a dot while they are online. */
export function UserAvatar(props: { userId: string; size?: "small" | "large" }) {
  const client = useClient();
  const user = useWatch(client.directory.user(props.userId));
  return (
    <span class="avatar-frame">
      <Avatar id={props.userId} name={user === undefined ? "" : displayName(user)} {...(props.size ? { size: props.size } : {})} />
      <PresenceDot presence={client.presences.of(props.userId)} />
    </span>
  );
}

function PresenceDot(props: { presence: Watchable<Presence | undefined> }) {
  const presence = useWatch(props.presence);
  const unknown = useWatch(offline);
  return presence?.online && !unknown ? <span class="presence-dot" role="img" aria-label="online" /> : null;
}

/** The number of an id's colours. */
export function hue(id: string): number {
  let hash = 0;
  for (let index = 0; index < id.length; index += 1) hash = (hash * 31 + id.charCodeAt(index)) >>> 0;
  return hash % HUES;
}

function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const [first, last] = [words[0], words.length > 1 ? words.at(-1) : undefined];
  return [first, last].map((word) => (word === undefined ? "" : ([...word][0] ?? ""))).join("").toUpperCase();
}
