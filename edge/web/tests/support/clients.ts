import { WebSocket } from "ws";
import { type KeyValueStorage, type Socket, TidingsClient, memoryStorage } from "../../src/sdk/index.ts";
import type { DevEdge } from "./dev-edge.ts";
import { until } from "./until.ts";

/** A client of the SDK for an account of a {@link DevEdge}, which comes back quickly after a break. */
export function clientOf(port: number, userId: string, storage: KeyValueStorage = memoryStorage()): TidingsClient {
  return new TidingsClient({
    baseUrl: `http://127.0.0.1:${port}`,
    session: { userId, token: `token-${userId}`, expiresAt: Number.MAX_SAFE_INTEGER },
    deviceId: `device-${userId}`,
    storage,
    openSocket: (url, protocol) => new WebSocket(url, protocol) as unknown as Socket,
    backoffBaseMs: 10,
    backoffCapMs: 50,
  });
}

/** Two users with a direct chat, and a connected client of the first. */
export async function pair(edge: DevEdge, port: number) {
  const ann = edge.world.createAccount("ann", "password1", "Ann");
  const ben = edge.world.createAccount("ben", "password1", "Ben");
  const room = edge.world.create(ann.user_id, "direct", "", [ben.user_id]);
  const client = clientOf(port, ann.user_id);
  client.start();
  await until(client.loaded, Boolean);
  return { ann, ben, room, client, conversationId: room.conversation_id };
}
