/** Close codes from which a client does not come back unchanged. Everything else, also a plain drop, means: come back. */
export const STAY_AWAY_FROM = 4500;

/** Why the server wants the client to stay away. */
export type StopReason = "unauthenticated" | "protocol_error" | "token_expired" | "session_replaced" | "too_large" | "refused";

const REASONS: Record<number, StopReason> = {
  4500: "unauthenticated",
  4501: "protocol_error",
  4502: "token_expired",
  4503: "session_replaced",
  4504: "too_large",
};

/** The reason to stay away, or undefined when the client should come back. */
export function stopReason(closeCode: number): StopReason | undefined {
  if (closeCode < STAY_AWAY_FROM || closeCode > 4999) return undefined;
  return REASONS[closeCode] ?? "refused";
}
