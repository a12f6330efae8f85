import { useEffect, useRef, useState } from "preact/hooks";
import { useWindowEvent } from "../parts/hooks.ts";
import { type Emoji, categories, search } from "../words/emoji.ts";

const FOUND_MAX = 60;

/** All emoji to choose from. */
export function EmojiPicker(props: { onPick: (emoji: Emoji) => void; onClose: () => void }) {
  const { onPick, onClose } = props;
  const [typed, setTyped] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useWindowEvent("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    event.preventDefault();
    onClose();
    document.getElementById("message-input")?.focus();
  });
  useEffect(() => {
    // On a phone this would bring up the keyboard, and hide the emoji behind it.
    if (matchMedia("(hover: hover)").matches) field.current?.focus();
    const outside = (event: PointerEvent): void => {
      const inside = event.target instanceof Element && event.target.closest(".picker, .composer") !== null;
      if (!inside) onClose();
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, []);
  const grid = (emoji: readonly Emoji[]) => (
    <div class="picker-grid">
      {emoji.map((one) => (
        <button key={one.shortcode} type="button" title={`:${one.shortcode}:`} aria-label={one.shortcode} onClick={() => onPick(one)}>
          {one.character}
        </button>
      ))}
    </div>
  );
  return (
    <div class="picker" role="dialog" aria-label="Emoji">
      <input
        ref={field}
        type="search"
        placeholder="Search emoji"
        aria-label="Search emoji"
        value={typed}
        onInput={(event) => setTyped(event.currentTarget.value)}
      />
      <div class="picker-scroll">
        {typed === ""
          ? categories.map(({ name, emoji }) => (
              <section key={name}>
                <h3>{name}</h3>
                {grid(emoji)}
              </section>
            ))
          : grid(search(typed, FOUND_MAX))}
      </div>
    </div>
  );
}
