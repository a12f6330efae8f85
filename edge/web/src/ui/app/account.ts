import { HttpApi, type Session, TidingsClient, type User, newUuid, webStorage } from "../../sdk/index.ts";
import { Observable } from "../../sdk/observable.ts";
import { followConnection } from "../parts/connectivity.ts";

/** Who is signed in, as it is kept in the browser. */
export interface Account extends Session, User {}

const ACCOUNT_KEY = "tidings.account";
const DEVICE_KEY = "tidings.device";
/**
 * When the browser says that there is no network, a server on this very machine may still be there: it is asked, and has
 * so long to answer.
 */
const OFFLINE_PROBE_MS = 1_000;

interface SignedIn {
  account: Account;
  client: TidingsClient;
  /** Ends what listens on this account's behalf. */
  ending: AbortController;
}

/** The signed-in account and its client; undefined on the sign-in page. */
export const signedIn = new Observable<SignedIn | undefined>(undefined);

/** Why the user was sent to the sign-in page, if for a reason. */
export const signInNotice = new Observable<{ username: string; text: string } | undefined>(undefined);

/** Takes up the account of the last visit. */
export function restoreAccount(): void {
  try {
    const account = JSON.parse(localStorage.getItem(ACCOUNT_KEY) ?? "null") as Account | null;
    if (account !== null && account.expiresAt > Date.now()) open(account);
  } catch {
    localStorage.removeItem(ACCOUNT_KEY);
  }
}

/** Makes an account and signs it in. */
export async function signUp(username: string, password: string, displayName: string): Promise<void> {
  await adopt(await new HttpApi(location.origin, () => undefined).createAccount({ username, password, displayName }));
}

/** Signs in. */
export async function signIn(username: string, password: string): Promise<void> {
  await adopt(await new HttpApi(location.origin, () => undefined).createToken({ username, password }));
}

/** Signs out here: this browser forgets the token, and the server ends it, if it can be reached. */
export function signOutHere(): void {
  const http = signedIn.value?.client.http;
  signOut();
  // Without a connection there is nobody to tell: the token is gone from here all the same.
  http?.deleteToken().catch(() => {});
}

/** Signs out everywhere, here too. Throws when the server cannot be reached: then nobody is signed out. */
export async function signOutEverywhere(): Promise<void> {
  await signedIn.value?.client.http.deleteTokens();
  signOut();
}

/** Ends the session in this browser. */
export function signOut(notice?: string): void {
  const current = signedIn.value;
  current?.ending.abort();
  current?.client.stop();
  localStorage.removeItem(ACCOUNT_KEY);
  signInNotice.set(notice === undefined ? undefined : { username: current?.account.username ?? "", text: notice });
  signedIn.set(undefined);
  location.hash = "";
}

async function adopt(session: Session): Promise<void> {
  const user = await new HttpApi(location.origin, () => session.token).user(session.userId);
  const account: Account = { ...session, ...user, userId: session.userId };
  localStorage.setItem(ACCOUNT_KEY, JSON.stringify(account));
  signInNotice.set(undefined);
  open(account);
}

function open(account: Account): void {
  const client = new TidingsClient({
    baseUrl: location.origin,
    session: account,
    deviceId: deviceId(),
    storage: webStorage(localStorage),
  });
  client.directory.learn(account);
  client.state.subscribe((state) => {
    if (state.status !== "stopped") return;
    if (state.reason === "token_expired" || state.reason === "unauthenticated") signOut("You have been signed out. Please sign in again.");
  });
  const ending = new AbortController();
  const { signal } = ending;
  window.addEventListener("online", () => client.probe(), { signal });
  window.addEventListener("offline", () => client.probe(OFFLINE_PROBE_MS), { signal });
  const looked = (): void => {
    client.setIdle(document.hidden);
    if (!document.hidden) client.probe();
  };
  document.addEventListener("visibilitychange", looked, { signal });
  followConnection(client, signal);
  client.start();
  signedIn.set({ account, client, ending });
}

/** Each tab is a device of its own: two sessions of one device would end each other. */
function deviceId(): string {
  const known = sessionStorage.getItem(DEVICE_KEY);
  if (known !== null) return known;
  const id = newUuid();
  sessionStorage.setItem(DEVICE_KEY, id);
  return id;
}
