import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Conversation, Message } from "../../sdk/index.ts";
import { classes, useClient } from "../parts/hooks.ts";
import { IconClose, IconEdit, IconSend, IconSmile } from "../parts/icons.tsx";
import { sayError } from "../parts/toasts.tsx";
import { type Emoji, search, unfinishedShortcode, withEmoji } from "../words/emoji.ts";
import { titleOf } from "../words/people.ts";
import { Quote } from "./bubble.tsx";
import type { Focus } from "./chat.tsx";
import { EmojiPicker } from "./emoji-picker.tsx";

const SUGGESTIONS_MAX = 7;

/** What was being written in each conversation. */
const drafts = new Map<string, string>();

/** Where one writes: Enter sends, Shift+Enter begins a new line, arrow up edits the last message. */
export function Composer(props: { conversation: Conversation; focus: Focus; onFocus: (focus: Focus) => void }) {
  const { conversation, focus, onFocus } = props;
  const { conversationId } = conversation;
  const client = useClient();
  const input = useRef<HTMLTextAreaElement>(null);
  /** Where the caret goes once a changed text has been drawn. */
  const caretAfter = useRef<number | undefined>(undefined);
  const [text, setText] = useState(drafts.get(conversationId) ?? "");
  const [caret, setCaret] = useState(0);
  const [chosen, setChosen] = useState(0);
  const [dismissed, setDismissed] = useState(-1);
  const [picking, setPicking] = useState(false);
  const editing = focus?.kind === "edit" ? focus.message : undefined;

  const shortcode = unfinishedShortcode(text, caret);
  const suggestions = shortcode === undefined || shortcode.start === dismissed ? [] : search(shortcode.typed, SUGGESTIONS_MAX);

  // To edit is to begin with the message's text, and to come back to the draft afterwards.
  useEffect(() => {
    setText(editing === undefined ? (drafts.get(conversationId) ?? "") : editing.text);
    if (focus !== undefined || matchMedia("(hover: hover)").matches) input.current?.focus();
  }, [focus, conversationId]);
  useLayoutEffect(() => {
    fitHeight(input.current);
    if (caretAfter.current !== undefined) input.current?.setSelectionRange(caretAfter.current, caretAfter.current);
    caretAfter.current = undefined;
  }, [text]);

  const write = (value: string, at: number): void => {
    setText(value);
    setCaret(at);
    setChosen(0);
    if (editing === undefined) drafts.set(conversationId, value);
    caretAfter.current = at;
  };
  const onInput = (area: HTMLTextAreaElement): void => {
    const before = area.value.slice(0, area.selectionStart);
    // Only what was just finished is turned, so that undoing by hand is possible.
    const turned = before.endsWith(":") ? withEmoji(before) : before;
    if (turned === before) {
      setText(area.value);
      setCaret(area.selectionStart);
      setChosen(0);
      if (editing === undefined) drafts.set(conversationId, area.value);
    } else {
      write(turned + area.value.slice(area.selectionStart), turned.length);
    }
    if (editing === undefined && area.value !== "") client.typing.typed(conversationId);
  };
  const insert = (emoji: Emoji, start: number, end: number): void => {
    const before = text.slice(0, start) + emoji.character;
    const space = text.slice(end).startsWith(" ") ? "" : " ";
    write(before + space + text.slice(end), before.length + space.length);
    input.current?.focus();
  };
  const submit = (): void => {
    const body = withEmoji(text).trim();
    if (body === "") return;
    if (editing !== undefined) {
      onFocus(undefined);
      if (body !== editing.text) client.editMessage(editing, body).catch(sayError);
      return;
    }
    try {
      client.send(conversationId, body, focus?.message.messageId);
    } catch (thrown) {
      sayError(thrown);
      return;
    }
    drafts.delete(conversationId);
    setText("");
    setCaret(0);
    onFocus(undefined);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (suggestions.length > 0 && shortcode !== undefined && steer(event, shortcode.start)) return event.preventDefault();
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && text === "" && editing === undefined) {
      const last = lastOwn(client.timeline(conversationId).state.value.messages, client.userId);
      if (last === undefined) return;
      event.preventDefault();
      onFocus({ kind: "edit", message: last });
    }
  };
  /** The keys of the suggestions; whether the key was one of them. */
  const steer = (event: KeyboardEvent, start: number): boolean => {
    const { length } = suggestions;
    const emoji = suggestions[chosen];
    if (event.key === "ArrowDown") setChosen((chosen + 1) % length);
    else if (event.key === "ArrowUp") setChosen((chosen + length - 1) % length);
    else if (event.key === "Escape") setDismissed(start);
    else if ((event.key === "Enter" || event.key === "Tab") && emoji !== undefined) insert(emoji, start, caret);
    else return false;
    return true;
  };

  return (
    <footer class="composer">
      {focus !== undefined && (
        <div class="composer-focus">
          {focus.kind === "edit" ? (
            <span class="composer-editing">
              <IconEdit /> Editing
            </span>
          ) : (
            <Quote quoted={focus.message} />
          )}
          <button type="button" class="icon-button" aria-label="Cancel" title="Cancel" onClick={() => onFocus(undefined)}>
            <IconClose />
          </button>
        </div>
      )}
      {suggestions.length > 0 && shortcode !== undefined && (
        <ul class="suggestions" role="listbox" id="emoji-suggestions" aria-label="Emoji">
          {suggestions.map((emoji, index) => (
            <li
              key={emoji.shortcode}
              id={`suggestion-${index}`}
              role="option"
              aria-selected={index === chosen}
              class={classes("suggestion", index === chosen && "is-chosen")}
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => insert(emoji, shortcode.start, caret)}
            >
              <span>{emoji.character}</span> :{emoji.shortcode}:
            </li>
          ))}
        </ul>
      )}
      {picking && (
        <EmojiPicker
          onPick={(emoji) => {
            const at = input.current?.selectionStart ?? text.length;
            insert(emoji, at, at);
          }}
          onClose={() => setPicking(false)}
        />
      )}
      <div class="composer-row">
        <button
          type="button"
          class={classes("icon-button", "composer-emoji", picking && "is-pressed")}
          aria-label="Emoji"
          title="Emoji"
          aria-expanded={picking}
          onClick={() => setPicking(!picking)}
        >
          <IconSmile />
        </button>
        <textarea
          ref={input}
          id="message-input"
          rows={1}
          value={text}
          placeholder="Message"
          aria-label={`Message to ${titleOf(conversation)}`}
          aria-controls={suggestions.length > 0 ? "emoji-suggestions" : undefined}
          aria-activedescendant={suggestions.length > 0 ? `suggestion-${chosen}` : undefined}
          onInput={(event) => onInput(event.currentTarget)}
          onKeyDown={onKeyDown}
          onKeyUp={(event) => setCaret(event.currentTarget.selectionStart)}
          onClick={(event) => setCaret(event.currentTarget.selectionStart)}
        />
        <button type="button" class="send" aria-label={editing ? "Save" : "Send"} title="Send" disabled={text.trim() === ""} onClick={submit}>
          <IconSend />
        </button>
      </div>
    </footer>
  );
}

/** As high as its text, within the bound that the style sheet sets. */
function fitHeight(area: HTMLTextAreaElement | null): void {
  if (area === null) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function lastOwn(messages: readonly Message[], ownUserId: string): Message | undefined {
  return messages.findLast((message) => message.senderId === ownUserId && message.kind === "text" && message.deletedAt === undefined);
}
