import { restoreAccount, signedIn } from "./account.ts";
import { AuthScreen } from "./auth-screen.tsx";
import { ClientProvider, useWatch } from "./hooks.ts";
import { Shell } from "./shell.tsx";
import { Toasts } from "./toasts.tsx";

restoreAccount();

/** The whole program: the sign-in page, or the chats of whoever is signed in. */
export function App() {
  const current = useWatch(signedIn);
  return (
    <>
      {current === undefined ? (
        <AuthScreen />
      ) : (
        <ClientProvider value={current.client} key={current.account.userId}>
          <Shell account={current.account} />
        </ClientProvider>
      )}
      <Toasts />
    </>
  );
}
