/** An edge over {@link World}: both doors of the contract on one port, and knobs to make it misbehave. */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { type WebSocket, WebSocketServer } from "ws";
import { type Account, Refusal, World } from "./world.ts";

type Json = Record<string, unknown>;

const STATUS: Record<string, number> = {
  invalid_argument: 400,
  unauthenticated: 401,
  not_found: 404,
  not_a_member: 403,
  permission_denied: 403,
  already_exists: 409,
};
const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

interface Connected {
  socket: WebSocket;
  userId: string;
  watches: Set<string>;
}

export class DevEdge {
  readonly world = new World();
  /** Every command received, in order. */
  readonly commands: Json[] = [];
  /** Looks at each command first; throwing refuses it, returning "silence" swallows it. */
  intercept: (command: Json) => void | "silence" = () => {};
  /** Looks at each live update first; false loses it. */
  deliver: (update: Json) => boolean = () => true;
  /** Makes every hello's welcome demand a resync. */
  resync = false;
  readonly #sessions = new Set<Connected>();
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "tidings.v1.json" });
  readonly #root: string | undefined;

  constructor(root?: string) {
    this.#root = root;
    this.world.onUpdate = (userId, update) => this.#push(userId, update as Json);
    this.#server = createServer((request, response) => void this.#http(request, response));
    this.#server.on("upgrade", (request, socket, head) => {
      this.#sockets.handleUpgrade(request, socket, head, (ws) => this.#accept(ws));
    });
  }

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

  get sessionCount(): number {
    return this.#sessions.size;
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
      const frame = JSON.parse(String(data)) as Json;
      const { id, ...command } = frame;
      const reply = (body: object): void => socket.send(JSON.stringify({ id, ...body }));
      if (session === undefined) {
        session = this.#hello(socket, command["hello"] as Json, reply);
        return;
      }
      this.commands.push(command);
      try {
        if (this.intercept(command) === "silence") return;
        const answer = this.#command(session, command);
        if (answer !== undefined) reply(answer);
      } catch (thrown) {
        if (!(thrown instanceof Refusal)) throw thrown;
        reply({ error: { code: thrown.code, message: thrown.message, retryable: thrown.retryable } });
      }
    });
    socket.on("close", () => {
      if (session === undefined) return;
      this.#sessions.delete(session);
      this.world.account(session.userId).lastSeenAt = this.world.now();
      this.#presenceChanged(session.userId);
    });
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
    const session = { socket, userId: account.user_id, watches: new Set<string>() };
    this.#sessions.add(session);
    this.#presenceChanged(account.user_id);
    return session;
  }

  #presence(userId: string): object {
    const online = [...this.#sessions].some((session) => session.userId === userId);
    const last_seen_at = online ? this.world.now() : this.world.accounts.get(userId)?.lastSeenAt;
    return { user_id: userId, online, ...(last_seen_at ? { last_seen_at } : {}) };
  }

  #presenceChanged(userId: string): void {
    for (const { socket, watches } of this.#sessions) {
      if (watches.has(userId)) socket.send(JSON.stringify({ presence: this.#presence(userId) }));
    }
  }

  #command(session: Connected, command: Json): object | undefined {
    const { world } = this;
    const me = session.userId;
    const [[name, body] = ["", {}]] = Object.entries(command) as [string, Record<string, string> & { [key: string]: string }][];
    const room = () => world.room(body["conversation_id"] ?? "", me).room;
    const view = (of: ReturnType<typeof room>) => ({ conversation: world.view(of, me) });
    switch (name) {
      case "heartbeat":
        return undefined;
      case "send": {
        const { text = "", client_message_id: clientMessageId = "", reply_to: replyTo } = body;
        const message = world.append(room(), me, { text, clientMessageId, ...(replyTo ? { replyTo } : {}) });
        return { sent: { message } };
      }
      case "receipt":
        world.receipt(room(), me, Number(body["delivered_seq"] ?? 0), Number(body["seen_seq"] ?? 0));
        return { ok: {} };
      case "typing":
        for (const { socket, userId } of this.#sessions) {
          const typing = { conversation_id: body["conversation_id"], user_id: me };
          if (userId !== me && room().members.has(userId)) socket.send(JSON.stringify({ typing }));
        }
        return undefined;
      case "watch_presence":
        for (const id of body["user_ids"] ?? []) {
          session.watches.add(id);
          queueMicrotask(() => session.socket.send(JSON.stringify({ presence: this.#presence(id) })));
        }
        return { ok: {} };
      case "unwatch_presence":
        for (const id of body["user_ids"] ?? []) session.watches.delete(id);
        return { ok: {} };
      case "create_conversation":
        return view(world.create(me, body["kind"] ?? "", body["title"] ?? "", (body["member_ids"] ?? []) as unknown as string[]));
      case "add_member":
      case "set_role": {
        const target = room();
        world.setMember(target, me, body["user_id"] ?? "", body["role"] ?? "member");
        return view(target);
      }
      case "remove_member": {
        const target = room();
        world.removeMember(target, me, body["user_id"] ?? "");
        return view(target);
      }
      case "rename_conversation": {
        const target = room();
        target.title = body["title"] ?? "";
        world.append(target, me, { membership: { action: "renamed", by: me, title: target.title } });
        world.tellAll(target);
        return view(target);
      }
      case "delete_conversation": {
        const target = room();
        target.deleted = true;
        world.tellAll(target);
        return view(target);
      }
      case "edit_message":
        return { message: world.change(room(), me, body["message_id"] ?? "", () => ({ text: body["text"] ?? "", edited_at: world.now() })) };
      case "delete_message":
        return { message: world.change(room(), me, body["message_id"] ?? "", () => ({ text: "", deleted_at: world.now() })) };
      default:
        throw new Refusal("invalid_argument", `there is no command ${name}`);
    }
  }

  async #http(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://edge");
    if (url.pathname === "/readyz") return void response.end();
    if (!url.pathname.startsWith("/v1/")) return this.#file(url.pathname, response);
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const answer = (status: number, payload: object): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(payload));
    };
    try {
      const [status, payload] = this.#route(request, url, body === "" ? {} : (JSON.parse(body) as Record<string, string>));
      answer(status, payload);
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      const { code, message, retryable } = thrown;
      answer(STATUS[code] ?? 500, { error: { code, message, retryable } });
    }
  }

  #route(request: IncomingMessage, url: URL, body: Record<string, string>): [number, object] {
    const { world } = this;
    const [, , first, second, third] = url.pathname.split("/");
    const grant = ({ user_id }: Account): object => ({
      user_id,
      token: `token-${user_id}`,
      expires_at: new Date(Date.now() + 86_400_000).toISOString(),
    });
    if (first === "accounts") {
      if ((body["password"] ?? "").length < 8) throw new Refusal("invalid_argument", "a password has at least 8 characters");
      return [201, grant(world.createAccount(body["username"] ?? "", body["password"] ?? "", body["display_name"] ?? ""))];
    }
    if (first === "tokens") {
      const account = world.byName(body["username"] ?? "");
      if (account?.password !== body["password"] || !account) throw new Refusal("unauthenticated", "wrong user name or password");
      return [200, grant(account)];
    }
    const me = String(request.headers.authorization).replace("Bearer token-", "");
    if (!world.accounts.has(me)) throw new Refusal("unauthenticated", "sign in first");
    if (first === "users" && second === undefined) {
      const account = world.byName(url.searchParams.get("username") ?? "");
      if (!account) throw new Refusal("not_found", "there is no such user");
      return [200, world.user(account.user_id)];
    }
    if (first === "users") return [200, third === "presence" ? this.#presence(second ?? "") : world.user(second ?? "")];
    if (first !== "conversations") throw new Refusal("not_found", "there is nothing here");
    if (second === undefined) return [200, { conversations: world.roomsOf(me), next_page_token: "" }];
    const { room } = world.room(second, me);
    if (third === "members") {
      const members = [...room.members].map(([id, stay]) => ({ ...world.user(id), ...stay }));
      return [200, { members }];
    }
    if (third !== "messages") return [200, world.view(room, me)];
    if (request.method === "POST") {
      const { text = "", client_message_id: clientMessageId = "" } = body;
      return [201, world.append(room, me, { text, clientMessageId })];
    }
    const limit = Number(url.searchParams.get("limit") ?? 50);
    const after = url.searchParams.get("after_seq");
    if (after !== null) return [200, { messages: room.entries.slice(Number(after), Number(after) + limit), next_page_token: "" }];
    const end = Number(url.searchParams.get("before_seq") ?? room.entries.length + 1) - 1;
    const start = Math.max(0, end - limit);
    return [200, { messages: room.entries.slice(start, end).reverse(), next_page_token: start > 0 ? String(start) : "" }];
  }

  async #file(path: string, response: ServerResponse): Promise<void> {
    try {
      const name = path === "/" ? "index.html" : normalize(path);
      const data = await readFile(join(this.#root ?? "/nonexistent", name));
      const headers = { "content-type": TYPES[extname(name)] ?? "application/octet-stream", "content-security-policy": "default-src 'self'" };
      response.writeHead(200, headers).end(data);
    } catch {
      response.writeHead(404).end();
    }
  }
}
