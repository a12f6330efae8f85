import { ClientProvider, useWatch } from "../parts/hooks.ts";
import { Toasts } from "../parts/toasts.tsx";
import { restoreAccount, signedIn } from "./account.ts";
import { AuthScreen } from "./auth-screen.tsx";
import { Shell } from "./shell.tsx";

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
