/** An edge over {@link World}: both doors of the contract on one port, and knobs to make it misbehave. */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { Refusal, World } from "./world.ts";

type Json = Record<string, unknown>;

interface Connected {
  socket: WebSocket;
  userId: string;
}

export class MemoryEdge {
  readonly world = new World();
  /** Looks at each command first; throwing a {@link Refusal} refuses it, returning "silence" swallows it. */
  intercept: (command: Json) => void | "silence" = () => {};
  /** Looks at each live update first; false loses it. */
  deliver: (update: Json) => boolean = () => true;
  /** Makes every hello's welcome demand a resync. */
  resync = false;
  readonly #sessions = new Set<Connected>();
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "tidings.v1.json" });

  constructor() {
    this.world.onUpdate = (userId, update) => this.#push(userId, update as Json);
    this.#server = createServer((request, response) => this.#http(request, response));
    this.#server.on("upgrade", (request, socket, head) => {
      this.#sockets.handleUpgrade(request, socket, head, (ws) => this.#accept(ws));
    });
  }

  /** Starts to listen, by default on any free port, and tells which. */
  async listen(port = 0): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  /** Stops listening, and breaks every connection without a goodbye; `listen` brings it back with its state. */
  async crash(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    await closed;
  }

  /** Closes every connection with a code. */
  drop(code: number): void {
    for (const { socket } of this.#sessions) socket.close(code);
  }

  sendAll(frame: Json): void {
    for (const { socket } of this.#sessions) socket.send(JSON.stringify(frame));
  }

  #push(userId: string, update: Json): void {
    if (!this.deliver(update)) return;
    for (const session of this.#sessions) if (session.userId === userId) session.socket.send(JSON.stringify({ update }));
  }

  #accept(socket: WebSocket): void {
    let session: Connected | undefined;
    socket.on("message", (data) => {
      const { id, ...command } = JSON.parse(String(data)) as Json;
      const reply = (body: object): void => socket.send(JSON.stringify({ id, ...body }));
      if (session === undefined) {
        session = this.#hello(socket, command["hello"] as Json, reply);
        return;
      }
      try {
        if (this.intercept(command) === "silence") return;
        const answer = this.#command(session.userId, command);
        if (answer !== undefined) reply(answer);
      } catch (thrown) {
        if (!(thrown instanceof Refusal)) throw thrown;
        reply({ error: { code: thrown.code, message: thrown.message, retryable: false } });
      }
    });
    socket.on("close", () => session !== undefined && this.#sessions.delete(session));
  }

  #hello(socket: WebSocket, hello: Json, reply: (body: object) => void): Connected | undefined {
    const account = this.world.accounts.get(String(hello["token"]).replace("token-", ""));
    if (account === undefined) {
      socket.close(4500);
      return undefined;
    }
    const resume = hello["resume"] as { epoch: string; offset: string } | undefined;
    const resumed = resume?.epoch === this.world.epoch && !this.resync;
    reply({
      welcome: {
        user_id: account.user_id,
        session_id: String(Math.random()),
        epoch: this.world.epoch,
        offset: String(account.updates.length),
        heartbeat_interval_ms: 25_000,
        server_time: this.world.now(),
        resync_required: resume !== undefined && !resumed,
      },
    });
    if (resumed) for (const update of account.updates.slice(Number(resume.offset))) socket.send(JSON.stringify({ update }));
    const session = { socket, userId: account.user_id };
    this.#sessions.add(session);
    return session;
  }

  #command(userId: string, command: Json): object | undefined {
    const [[name, body] = ["", {}]] = Object.entries(command) as [string, Record<string, string>][];
    const room = () => this.world.room(body["conversation_id"] ?? "", userId);
    switch (name) {
      case "heartbeat":
      case "typing":
        return undefined;
      case "send": {
        const { text = "", client_message_id: clientMessageId = "" } = body;
        return { sent: { message: this.world.append(room(), userId, { text, clientMessageId }) } };
      }
      case "receipt":
        this.world.receipt(room(), userId, Number(body["delivered_seq"] ?? 0), Number(body["seen_seq"] ?? 0));
        return { ok: {} };
      case "watch_presence":
      case "unwatch_presence":
        return { ok: {} };
      default:
        throw new Refusal("invalid_argument", `there is no command ${name}`);
    }
  }

  #http(request: IncomingMessage, response: ServerResponse): void {
    const answer = (status: number, payload: object): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(payload));
    };
    try {
      answer(200, this.#read(request, new URL(request.url ?? "/", "http://edge")));
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      answer(404, { error: { code: thrown.code, message: thrown.message, retryable: false } });
    }
  }

  #read(request: IncomingMessage, url: URL): object {
    const { world } = this;
    const [, , first, second, third] = url.pathname.split("/");
    const me = String(request.headers.authorization).replace("Bearer token-", "");
    if (first === "users") return world.user(second ?? "");
    if (second === undefined) return { conversations: world.roomsOf(me), next_page_token: "" };
    const room = world.room(second, me);
    if (third !== "messages") return world.view(room, me);
    const limit = Number(url.searchParams.get("limit") ?? 50);
    const after = url.searchParams.get("after_seq");
    if (after !== null) return { messages: room.entries.slice(Number(after), Number(after) + limit), next_page_token: "" };
    const end = Number(url.searchParams.get("before_seq") ?? room.entries.length + 1) - 1;
    const start = Math.max(0, end - limit);
    return { messages: room.entries.slice(start, end).reverse(), next_page_token: start > 0 ? String(start) : "" };
  }
}
