import { Backoff } from "./backoff.ts";
import { type StopReason, stopReason } from "./close-codes.ts";
import { TidingsError, networkError } from "./errors.ts";
import { REPLY_TIMEOUT_MS, REQUESTS_IN_FLIGHT_MAX, WELCOME_TIMEOUT_MS } from "./limits.ts";
import { Observable, type Watchable } from "./observable.ts";
import type { Welcome } from "./types.ts";
import type { StreamPosition } from "./update-cursor.ts";
import { type Json, decodeError, decodeWelcome, integer, object } from "./wire.ts";

/** What a person would want to know about the connection. */
export type ConnectionState =
  | { status: "idle" }
  | { status: "connecting"; attempt: number }
  | { status: "online" }
  /** Broken; the next attempt is at `retryAt` (milliseconds since 1970). */
  | { status: "waiting"; retryAt: number; attempt: number }
  /** The server asked us to stay away; `connect` tries again. */
  | { status: "stopped"; reason: StopReason };

/** The part of the browser's `WebSocket` that is used; the `ws` package's class fits too. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** What a connection needs from its owner. */
export interface ConnectionOptions {
  /** `wss://chat.example.org/v1/connect`. */
  url: string;
  token: () => string;
  deviceId: string;
  /** Asked at each connect: from where to resume, or undefined for only what is new. */
  resume: () => StreamPosition | undefined;
  /** Before any other frame of the new session. */
  onWelcome: (welcome: Welcome) => void;
  /** A frame that answers no command: an update, typing, presence, rejected. */
  onPush: (frame: Json) => void;
  openSocket?: (url: string, protocol: string) => Socket;
  random?: () => number;
  backoffBaseMs?: number;
  backoffCapMs?: number;
}

interface Waiting {
  resolve: (reply: Json) => void;
  reject: (error: TidingsError) => void;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * One session after another over a WebSocket: says hello, sends heartbeats, matches replies with commands, and comes
 * back with exponential back-off and jitter whenever the connection breaks, unless the close code says to stay away.
 */
export class Connection {
  readonly #options: ConnectionOptions;
  readonly #backoff: Backoff;
  readonly #state = new Observable<ConnectionState>({ status: "idle" });
  readonly #waiting = new Map<number, Waiting>();
  #socket: Socket | undefined;
  #nextId = 1;
  #idle = false;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #goawayMs: number | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff(options.backoffBaseMs ?? 500, options.backoffCapMs ?? 20_000, random);
  }

  get state(): Watchable<ConnectionState> {
    return this.#state;
  }

  /** Connects now, whatever the back-off says. Does nothing when there is a connection already. */
  connect(): void {
    if (this.#socket !== undefined) return;
    clearTimeout(this.#retry);
    this.#state.set({ status: "connecting", attempt: this.#backoff.attempt });
    const open = this.#options.openSocket ?? ((url, protocol) => new WebSocket(url, protocol) as unknown as Socket);
    let socket: Socket;
    try {
      socket = open(this.#options.url, "tidings.v1.json");
    } catch {
      this.#comeBack();
      return;
    }
    this.#socket = socket;
    this.#deadline = setTimeout(() => this.drop(), WELCOME_TIMEOUT_MS);
    socket.onopen = () => this.#hello(socket);
    socket.onmessage = (event: { data: unknown }) => {
      if (socket === this.#socket && typeof event.data === "string") this.#receive(event.data);
    };
    socket.onclose = (event: { code?: number }) => {
      if (socket === this.#socket) this.#closed(event.code ?? 1006);
    };
    // A close event follows every error and says more.
    socket.onerror = () => {};
  }

  /** Ends the session and stays away until `connect`. */
  close(): void {
    clearTimeout(this.#retry);
    this.#release(1000);
    this.#state.set({ status: "idle" });
  }

  /** Gives the current connection up, because it is dead or its stream has a hole, and comes back. */
  drop(): void {
    if (this.#socket === undefined) return;
    this.#release(4000);
    this.#comeBack();
  }

  /**
   * Sends a command and resolves with the reply's frame. Rejects with the server's error, or with a retryable one when
   * there is no connection or it breaks before the reply: the command may then have had its effect or not.
   */
  request(command: Json, timeoutMs: number = REPLY_TIMEOUT_MS): Promise<Json> {
    return new Promise((resolve, reject) => {
      if (this.#state.value.status !== "online") return reject(networkError("there is no connection"));
      if (this.#waiting.size >= REQUESTS_IN_FLIGHT_MAX) {
        return reject(new TidingsError("unavailable", "too many commands wait for a reply", true));
      }
      const id = this.#takeId();
      const timer = setTimeout(() => this.drop(), timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket?.send(JSON.stringify({ id, ...command }));
    });
  }

  /** Sends a command that has no reply. Dropped when there is no connection. */
  notify(command: Json): void {
    if (this.#state.value.status !== "online") return;
    this.#socket?.send(JSON.stringify({ id: this.#takeId(), ...command }));
  }

  /** Whether somebody is looking; told to the server with the heartbeats. */
  setIdle(idle: boolean): void {
    this.#idle = idle;
  }

  /**
   * Finds out whether the connection still lives, for instance after a sleep: pings of the server are invisible to
   * a browser's program, so a command that does nothing is sent, and its reply awaited.
   */
  probe(timeoutMs: number): void {
    if (this.#state.value.status === "waiting") return this.connect();
    this.request({ unwatch_presence: { user_ids: [] } }, timeoutMs).catch(() => {});
  }

  /** Ids are 32 bits; by the time they start over, no early one waits any more. */
  #takeId(): number {
    const id = this.#nextId;
    this.#nextId = id >= 0xffff_fffe ? 1 : id + 1;
    return id;
  }

  #hello(socket: Socket): void {
    if (socket !== this.#socket) return;
    const resume = this.#options.resume();
    const hello: Json = { token: this.#options.token(), device_id: this.#options.deviceId };
    if (resume !== undefined) hello["resume"] = { epoch: resume.epoch, offset: String(resume.offset) };
    socket.send(JSON.stringify({ id: this.#takeId(), hello }));
  }

  #receive(data: string): void {
    let frame: Json;
    try {
      frame = object(JSON.parse(data));
    } catch {
      return;
    }
    if (frame["welcome"] !== undefined) return this.#welcomed(decodeWelcome(frame["welcome"]));
    if (frame["goaway"] !== undefined) {
      this.#goawayMs = integer(object(frame["goaway"])["reconnect_after_ms"]);
      return;
    }
    if (frame["id"] === undefined) return this.#options.onPush(frame);
    const id = integer(frame["id"]);
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (frame["error"] !== undefined) waiting.reject(decodeError(frame["error"]));
    else waiting.resolve(frame);
  }

  #welcomed(welcome: Welcome): void {
    clearTimeout(this.#deadline);
    clearInterval(this.#heartbeat);
    this.#backoff.reset();
    this.#goawayMs = undefined;
    this.#heartbeat = setInterval(() => {
      this.notify({ heartbeat: { idle: this.#idle } });
      this.probe(REPLY_TIMEOUT_MS);
    }, welcome.heartbeatIntervalMs);
    this.#options.onWelcome(welcome);
    this.#state.set({ status: "online" });
  }

  #closed(code: number): void {
    this.#release();
    const reason = stopReason(code);
    if (reason === undefined) this.#comeBack();
    else this.#state.set({ status: "stopped", reason });
  }

  #comeBack(): void {
    const waitMs = (this.#goawayMs ?? 0) + this.#backoff.next();
    this.#goawayMs = undefined;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.connect(), waitMs);
    this.#state.set({ status: "waiting", retryAt: Date.now() + waitMs, attempt: this.#backoff.attempt });
  }

  /** Lets go of the socket; whoever waits for a reply is told. */
  #release(closeCode?: number): void {
    const socket = this.#socket;
    this.#socket = undefined;
    clearTimeout(this.#deadline);
    clearInterval(this.#heartbeat);
    if (socket !== undefined && closeCode !== undefined) socket.close(closeCode);
    const broken = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject, timer } of broken) {
      clearTimeout(timer);
      reject(networkError("the connection broke before the server answered"));
    }
  }
}
