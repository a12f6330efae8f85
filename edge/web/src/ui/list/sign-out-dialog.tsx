import { signOutEverywhere, signOutHere } from "../app/account.ts";
import { Dialog } from "../parts/dialog.tsx";
import { sayError } from "../parts/toasts.tsx";

/** Asks whether to sign out here or everywhere. */
export function SignOutDialog(props: { onClose: () => void }) {
  const everywhere = (): void => {
    props.onClose();
    signOutEverywhere().catch(sayError);
  };
  return (
    <Dialog title="Sign out?" onClose={props.onClose}>
      <p class="dialog-text">Everywhere also signs out your other browsers and devices, such as one that you have lost.</p>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={props.onClose}>
          Cancel
        </button>
        <button type="button" class="button button-danger" onClick={everywhere}>
          Everywhere
        </button>
        <button type="button" class="button button-primary" autofocus onClick={signOutHere}>
          Here
        </button>
      </div>
    </Dialog>
  );
}
