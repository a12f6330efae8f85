import { useState } from "preact/hooks";
import { TidingsError } from "../../sdk/index.ts";
import { classes, useWatch } from "../parts/hooks.ts";
import { Logo } from "../parts/icons.tsx";
import { ThemeButton } from "../parts/theme-button.tsx";
import { capitalised } from "../parts/toasts.tsx";
import { signIn, signInNotice, signUp } from "./account.ts";

type Mode = "in" | "up";

/** Where one signs in, or makes an account. */
export function AuthScreen() {
  const notice = useWatch(signInNotice);
  const [mode, setMode] = useState<Mode>("in");
  const [username, setUsername] = useState(notice?.username ?? "");
  const [password, setPassword] = useState("");
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      if (mode === "in") await signIn(username.trim(), password);
      else await signUp(username.trim(), password, name.trim() === "" ? username.trim() : name.trim());
    } catch (thrown) {
      setError(explain(thrown, mode));
      setBusy(false);
    }
  };
  const choose = (next: Mode): void => {
    setMode(next);
    setError(undefined);
  };

  return (
    <main class="auth">
      <div class="auth-tools">
        <ThemeButton />
      </div>
      <section class="auth-card">
        <header class="auth-head">
          <Logo />
          <h1>Tidings</h1>
          <p>Messages that arrive.</p>
        </header>
        <div class="segments" role="tablist" aria-label="Account">
          {(["in", "up"] as const).map((value) => (
            <button
              key={value}
              type="button"
              role="tab"
              aria-selected={mode === value}
              class={classes("segment", mode === value && "is-chosen")}
              onClick={() => choose(value)}
            >
              {value === "in" ? "Sign in" : "Create account"}
            </button>
          ))}
        </div>
        {notice !== undefined && error === undefined && <p class="notice">{notice.text}</p>}
        <form class="fields" onSubmit={(event) => void submit(event)}>
          <label class="field">
            <span>User name</span>
            <input
              name="username"
              value={username}
              onInput={(event) => setUsername(event.currentTarget.value)}
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              maxLength={64}
              required
              autofocus
            />
          </label>
          {mode === "up" && (
            <label class="field">
              <span>
                Display name <small>optional</small>
              </span>
              <input
                name="display_name"
                value={name}
                onInput={(event) => setName(event.currentTarget.value)}
                autocomplete="name"
                maxLength={128}
              />
            </label>
          )}
          <label class="field">
            <span>Password {mode === "up" && <small>at least 8 characters</small>}</span>
            <input
              name="password"
              type="password"
              value={password}
              onInput={(event) => setPassword(event.currentTarget.value)}
              autocomplete={mode === "in" ? "current-password" : "new-password"}
              minLength={mode === "up" ? 8 : undefined}
              required
            />
          </label>
          {error !== undefined && (
            <p class="form-error" role="alert">
              {error}
            </p>
          )}
          <button class="button button-primary button-wide" type="submit" disabled={busy}>
            {busy ? "One moment…" : mode === "in" ? "Sign in" : "Create account"}
          </button>
        </form>
      </section>
    </main>
  );
}

function explain(thrown: unknown, mode: Mode): string {
  if (!(thrown instanceof TidingsError)) return "Something went wrong. Please try again.";
  if (thrown.code === "unauthenticated" && mode === "in") return "That user name and password do not match.";
  if (thrown.code === "already_exists") return "That user name is taken. Please choose another.";
  return capitalised(thrown.message);
}
