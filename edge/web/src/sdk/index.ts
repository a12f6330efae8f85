/**
 * The Tidings SDK for TypeScript: the client contract, v1, without a framework.
 *
 * ```ts
 * const session = await new HttpApi(baseUrl, () => undefined).createToken({ username, password });
 * const client = new TidingsClient({ baseUrl, session, deviceId, storage: memoryStorage() });
 * client.onArrival((message) => console.log(message.text));
 * client.start();
 * ```
 */
export { TidingsClient, type ClientOptions } from "./client.ts";
export { Connection, type ConnectionOptions, type ConnectionState, type Socket } from "./connection.ts";
export { type StopReason } from "./close-codes.ts";
export { Conversations, activityAt } from "./conversations.ts";
export { type ErrorCode, TidingsError, asTidingsError } from "./errors.ts";
export { HttpApi, type MessagesQuery, type Page } from "./http.ts";
export * as limits from "./limits.ts";
export { type Watchable } from "./observable.ts";
export { Outbox, type OutboxEntry } from "./outbox.ts";
export { type KeyValueStorage, memoryStorage, webStorage } from "./storage.ts";
export { Timeline, type TimelineState } from "./timeline.ts";
export * from "./types.ts";
export { newUuid } from "./uuid.ts";
