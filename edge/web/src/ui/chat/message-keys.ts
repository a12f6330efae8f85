/** The keyboard among messages: arrows go from one to the next, letters act on it. */
interface MessageKeys {
  active: string | undefined;
  setActive: (messageId: string | undefined) => void;
  onReply: (messageId: string) => void;
  onEdit: (messageId: string) => void;
  onDelete: (messageId: string) => void;
}

/** A handler for the list's key presses. */
export function useMessageKeys(keys: MessageKeys): (event: KeyboardEvent) => void {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.currentTarget instanceof HTMLElement)) return;
    const messages = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-message]")];
    const index = messages.findIndex((element) => element.dataset["message"] === keys.active);
    const focus = (element: HTMLElement | undefined): void => {
      if (element === undefined) return;
      keys.setActive(element.dataset["message"]);
      element.focus({ preventScroll: true });
      element.scrollIntoView({ block: "nearest" });
    };
    const act = actionOf(event.key, keys);
    if (event.key === "ArrowUp") focus(index < 0 ? messages.at(-1) : messages[Math.max(0, index - 1)]);
    else if (event.key === "ArrowDown" && index >= 0) focus(messages[Math.min(messages.length - 1, index + 1)]);
    else if (event.key === "Escape" && keys.active !== undefined) leave(keys);
    else if (act !== undefined && keys.active !== undefined) act(keys.active);
    else return;
    event.preventDefault();
  };
}

function actionOf(key: string, keys: MessageKeys): ((messageId: string) => void) | undefined {
  switch (key) {
    case "r":
      return keys.onReply;
    case "e":
      return keys.onEdit;
    case "Delete":
    case "Backspace":
      return keys.onDelete;
    default:
      return undefined;
  }
}

function leave(keys: MessageKeys): void {
  keys.setActive(undefined);
  document.getElementById("message-input")?.focus();
}
