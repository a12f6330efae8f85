import { useState } from "preact/hooks";
import { TidingsError, type User } from "../../sdk/index.ts";
import { useClient } from "./hooks.ts";
import { capitalised } from "./toasts.tsx";

/** Finds a user by name and hands them on. */
export function UserFinder(props: { label: string; action: string; onFound: (user: User) => Promise<void> | void; autofocus?: boolean }) {
  const client = useClient();
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const find = async (event: Event): Promise<void> => {
    event.preventDefault();
    const username = name.trim().replace(/^@/, "");
    if (username === "" || busy) return;
    setBusy(true);
    setError(undefined);
    try {
      const user = await client.http.userByName(username);
      client.directory.learn(user);
      await props.onFound(user);
      setName("");
    } catch (thrown) {
      setError(explain(thrown, username));
    }
    setBusy(false);
  };
  return (
    <form class="finder" onSubmit={(event) => void find(event)}>
      <label class="field">
        <span>{props.label}</span>
        <div class="finder-row">
          <input
            value={name}
            onInput={(event) => {
              setName(event.currentTarget.value);
              setError(undefined);
            }}
            name="find"
            placeholder="@name"
            autocapitalize="none"
            autocomplete="off"
            spellcheck={false}
            maxLength={65}
            autofocus={props.autofocus ?? false}
          />
          <button type="submit" class="button button-primary" disabled={busy || name.trim() === ""}>
            {props.action}
          </button>
        </div>
      </label>
      {error !== undefined && (
        <p class="form-error" role="alert">
          {error}
        </p>
      )}
    </form>
  );
}

function explain(thrown: unknown, username: string): string {
  if (!(thrown instanceof TidingsError)) return thrown instanceof Error ? thrown.message : "That did not work. Please try again.";
  return thrown.code === "not_found" ? `There is nobody called @${username}.` : capitalised(thrown.message);
}
