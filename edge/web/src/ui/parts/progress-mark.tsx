import type { Progress } from "../../sdk/index.ts";
import { classes } from "./hooks.ts";
import { IconAlert, IconClock, IconTick, IconTicks } from "./icons.tsx";

const NAMES = { pending: "waiting to be sent", failed: "not sent", sent: "sent", delivered: "delivered", seen: "seen" };

/** How far a message has come: a clock, one tick, two ticks, two coloured ticks; or that it failed. */
export function ProgressMark(props: { progress: Progress | "pending" | "failed" }) {
  const { progress } = props;
  const Icon = { pending: IconClock, failed: IconAlert, sent: IconTick, delivered: IconTicks, seen: IconTicks }[progress];
  return (
    <span class={classes("progress", `progress-${progress}`)} role="img" aria-label={NAMES[progress]} title={NAMES[progress]} data-progress={progress}>
      <Icon />
    </span>
  );
}
