import { WebSocket } from "ws";
import { type KeyValueStorage, type Socket, TidingsClient, memoryStorage } from "../../src/sdk/index.ts";
import type { MemoryEdge } from "./memory-edge.ts";
import { until } from "./until.ts";

/** A client of the SDK for an account of a {@link MemoryEdge}, which comes back quickly after a break. */
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
export async function pair(edge: MemoryEdge, port: number) {
  const ann = edge.world.createAccount("ann");
  const ben = edge.world.createAccount("ben");
  const room = edge.world.createDirect(ann.user_id, ben.user_id);
  const client = clientOf(port, ann.user_id);
  client.start();
  await until(client.loaded, Boolean);
  return { ann, ben, room, client, conversationId: room.conversation_id };
}
