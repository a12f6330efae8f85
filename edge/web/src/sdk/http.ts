import { TidingsError, networkError } from "./errors.ts";
import { HTTP_TIMEOUT_MS } from "./limits.ts";
import type { Conversation, Member, Message, Presence, Session, User } from "./types.ts";
import {
  type Json,
  decodeConversation,
  decodeError,
  decodeMember,
  decodeMessage,
  decodePresence,
  decodeSession,
  decodeUser,
  list,
  object,
  text,
} from "./wire.ts";

/** One page of a listing; `nextPageToken` is empty on the last one. */
export interface Page<T> {
  items: T[];
  nextPageToken: string;
}

/** Which stretch of a conversation to read: newest first with `beforeSeq` or neither, oldest first with `afterSeq`. */
export interface MessagesQuery {
  limit?: number;
  beforeSeq?: number;
  afterSeq?: number;
}

/** The HTTP half of the contract. Every call throws a {@link TidingsError}. */
export class HttpApi {
  readonly #baseUrl: string;
  readonly #token: () => string | undefined;
  readonly #fetch: typeof fetch;

  /** `baseUrl` without a trailing slash: `https://chat.example.org`. `token` is asked before each call. */
  constructor(baseUrl: string, token: () => string | undefined, fetchImplementation?: typeof fetch) {
    this.#baseUrl = baseUrl;
    this.#token = token;
    this.#fetch = fetchImplementation ?? ((input, init) => fetch(input, init));
  }

  /** Makes an account and signs it in. A taken name is `already_exists`. */
  async createAccount(account: { username: string; password: string; displayName: string }): Promise<Session> {
    const { username, password, displayName } = account;
    return decodeSession(await this.#call("POST", "/v1/accounts", { username, password, display_name: displayName }));
  }

  /** Signs in. A wrong name or password is `unauthenticated`. */
  async createToken(credentials: { username: string; password: string }): Promise<Session> {
    const { username, password } = credentials;
    return decodeSession(await this.#call("POST", "/v1/tokens", { username, password }));
  }

  /** Signs out: the token ends, and what was opened with it. */
  async deleteToken(): Promise<void> {
    await this.#call("DELETE", "/v1/tokens/current");
  }

  /** Signs out everywhere: all of the user's tokens end, this one too. */
  async deleteTokens(): Promise<void> {
    await this.#call("DELETE", "/v1/tokens");
  }

  /** Changes the password. All tokens end; the answer has a new one. A wrong `password` is `permission_denied`. */
  async changePassword(change: { password: string; newPassword: string }): Promise<Session> {
    const { password, newPassword } = change;
    return decodeSession(await this.#call("PATCH", "/v1/accounts/me", { password, new_password: newPassword }));
  }

  async user(userId: string): Promise<User> {
    return decodeUser(await this.#call("GET", `/v1/users/${encodeURIComponent(userId)}`));
  }

  /** The user of that name; `not_found` when there is none. */
  async userByName(username: string): Promise<User> {
    return decodeUser(await this.#call("GET", `/v1/users?username=${encodeURIComponent(username)}`));
  }

  async presence(userId: string): Promise<Presence> {
    return decodePresence(await this.#call("GET", `/v1/users/${encodeURIComponent(userId)}/presence`));
  }

  /** The user's conversations, newest activity first. */
  async conversations(query: { limit: number; pageToken?: string }): Promise<Page<Conversation>> {
    const pageToken = query.pageToken ? `&page_token=${encodeURIComponent(query.pageToken)}` : "";
    const json = object(await this.#call("GET", `/v1/conversations?limit=${query.limit}${pageToken}`));
    return { items: list(json["conversations"]).map(decodeConversation), nextPageToken: text(json["next_page_token"]) };
  }

  async conversation(conversationId: string): Promise<Conversation> {
    return decodeConversation(await this.#call("GET", `/v1/conversations/${encodeURIComponent(conversationId)}`));
  }

  async members(conversationId: string): Promise<Member[]> {
    const json = object(await this.#call("GET", `/v1/conversations/${encodeURIComponent(conversationId)}/members`));
    return list(json["members"]).map(decodeMember);
  }

  async messages(conversationId: string, query: MessagesQuery): Promise<Page<Message>> {
    const parameters = new URLSearchParams();
    if (query.limit !== undefined) parameters.set("limit", String(query.limit));
    if (query.beforeSeq !== undefined) parameters.set("before_seq", String(query.beforeSeq));
    if (query.afterSeq !== undefined) parameters.set("after_seq", String(query.afterSeq));
    const path = `/v1/conversations/${encodeURIComponent(conversationId)}/messages?${parameters}`;
    const json = object(await this.#call("GET", path));
    return { items: list(json["messages"]).map(decodeMessage), nextPageToken: text(json["next_page_token"]) };
  }

  async #call(method: string, path: string, body?: Json): Promise<unknown> {
    const token = this.#token();
    const headers: Record<string, string> = {};
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    let response: Response;
    let payload: unknown;
    try {
      response = await this.#fetch(this.#baseUrl + path, {
        method,
        headers,
        signal: AbortSignal.timeout(HTTP_TIMEOUT_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      payload = await parse(response);
    } catch {
      throw networkError("the server could not be reached; check the connection and try again");
    }
    if (response.ok) return payload;
    const error = object(payload)["error"];
    if (error !== undefined) throw decodeError(error);
    // Not the contract's own error: a proxy between us and the edge.
    throw new TidingsError("unavailable", `the server answered ${response.status}`, response.status >= 500);
  }
}

async function parse(response: Response): Promise<unknown> {
  const body = await response.text();
  if (body === "") return undefined;
  try {
    return JSON.parse(body) as unknown;
  } catch {
    return undefined;
  }
}
