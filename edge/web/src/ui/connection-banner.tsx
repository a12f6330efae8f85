import { useEffect, useState } from "preact/hooks";
import type { ConnectionState } from "../sdk/index.ts";
import { useClient, useTicking, useWatch } from "./hooks.ts";

/** A break shorter than this is not worth a word. */
const QUIET_MS = 900;

/** Says so when there is no connection, and what happens then. */
export function ConnectionBanner() {
  const client = useClient();
  const state = useWatch(client.state);
  const broken = state.status !== "online" && state.status !== "idle";
  const [shown, setShown] = useState(false);
  useEffect(() => {
    if (!broken) return setShown(false);
    const timer = setTimeout(() => setShown(true), QUIET_MS);
    return () => clearTimeout(timer);
  }, [broken]);
  if (!broken || !shown) return null;
  return (
    <div class="banner" role="status">
      <span class="banner-pulse" aria-hidden="true" />
      <Explanation state={state} />
      {state.status !== "connecting" && (
        <button type="button" class="banner-action" onClick={() => client.start()}>
          {state.status === "stopped" ? "Use here" : "Try now"}
        </button>
      )}
    </div>
  );
}

function Explanation(props: { state: ConnectionState }) {
  useTicking(1_000);
  const { state } = props;
  if (state.status === "stopped") {
    return (
      <span>
        {state.reason === "session_replaced"
          ? "Tidings is open in another tab."
          : "The server has ended this session. If it happens again, reload the page."}
      </span>
    );
  }
  const seconds = state.status === "waiting" ? Math.ceil((state.retryAt - Date.now()) / 1_000) : 0;
  return (
    <span>
      <strong>No connection.</strong> What you write is sent when it is back.{" "}
      <span class="banner-when">{seconds > 1 ? `Trying again in ${seconds} s.` : "Connecting…"}</span>
    </span>
  );
}
