/** Codes that the contract lists, and `network` for a server that could not be reached. A newer server may send others. */
export type ErrorCode =
  | "invalid_argument"
  | "unauthenticated"
  | "permission_denied"
  | "not_a_member"
  | "not_found"
  | "already_exists"
  | "conversation_full"
  | "too_large"
  | "unsupported_media_type"
  | "rate_limited"
  | "unavailable"
  | "internal"
  | "last_owner"
  | "network"
  | (string & {});

/** What went wrong, and whether the same request can succeed later. */
export class TidingsError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  /** With `rate_limited`: when to come back. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, retryable = false, retryAfterMs?: number) {
    super(message);
    this.name = "TidingsError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The server could not be reached, or the connection broke before it answered. */
export function networkError(message: string): TidingsError {
  return new TidingsError("network", message, true);
}

/** Anything thrown, as a `TidingsError`. */
export function asTidingsError(thrown: unknown): TidingsError {
  if (thrown instanceof TidingsError) return thrown;
  return new TidingsError("internal", thrown instanceof Error ? thrown.message : String(thrown));
}
