import type { ConnectionState } from "../../sdk/index.ts";
import { offline } from "../parts/connectivity.ts";
import { useClient, useTicking, useWatch } from "../parts/hooks.ts";

/** Says so when there is no connection, and what happens then. */
export function ConnectionBanner() {
  const client = useClient();
  const state = useWatch(client.state);
  if (!useWatch(offline) || state.status === "online") return null;
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
