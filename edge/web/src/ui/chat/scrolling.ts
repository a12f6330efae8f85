import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** Within so many pixels of the end one is at the end. */
const END_PX = 60;
/** Older messages are read when so little is left above. */
const TOP_PX = 700;

/** What a {@link useScroll} is told. */
interface ScrollOptions {
  /** Names the first message; when it changes, something was put in front. */
  firstKey: string | undefined;
  /** Names the last line. */
  lastKey: string | undefined;
  /** Changes with the content. */
  version: unknown;
  /** The first page is there. */
  ready: boolean;
  /** Told the highest `seq` that is in view. */
  onVisible: (seq: number) => void;
  onNearTop: () => void;
}

/** What a {@link useScroll} gives. */
interface Scroll {
  scroller: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  atEnd: boolean;
  /** Whether the first position has been taken. */
  placed: boolean;
  onScroll: () => void;
  /** Looks anew at what is in view. */
  look: () => void;
  toEnd: (smooth?: boolean) => void;
  /** Whether the message is there to be scrolled to. */
  toMessage: (messageId: string) => boolean;
}

/**
 * Keeps a chat's scroll position: at the end while one is there, and on the same message while history is put in front
 * or the window changes its size. Opens at the first unread message.
 */
export function useScroll(options: ScrollOptions): Scroll {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const height = useRef(0);
  const firstKey = useRef<string | undefined>(undefined);
  const [atEnd, setAtEnd] = useState(true);
  const [placed, setPlaced] = useState(false);
  const latest = useRef(options);
  latest.current = options;

  const look = useCallback(() => {
    const box = scroller.current;
    if (box === null) return;
    latest.current.onVisible(highestVisibleSeq(box));
    if (box.scrollTop < TOP_PX && latest.current.ready) latest.current.onNearTop();
  }, []);
  const onScroll = useCallback(() => {
    const box = scroller.current;
    if (box === null) return;
    stuck.current = box.scrollHeight - box.scrollTop - box.clientHeight < END_PX;
    setAtEnd(stuck.current);
    look();
  }, []);
  const toEnd = useCallback((smooth = false) => {
    const box = scroller.current;
    if (box === null) return;
    stuck.current = true;
    box.scrollTo({ top: box.scrollHeight, behavior: smooth && !calm() ? "smooth" : "instant" });
  }, []);
  const toMessage = useCallback((messageId: string) => {
    const target = scroller.current?.querySelector(`[data-message="${CSS.escape(messageId)}"]`);
    if (!target) return false;
    target.scrollIntoView({ block: "center", behavior: calm() ? "instant" : "smooth" });
    target.classList.remove("is-found");
    requestAnimationFrame(() => target.classList.add("is-found"));
    return true;
  }, []);

  useLayoutEffect(() => {
    const box = scroller.current;
    if (box === null || !options.ready) return;
    const grown = box.scrollHeight - height.current;
    if (!placed) {
      const mark = box.querySelector<HTMLElement>("#unread-mark");
      if (mark === null) box.scrollTop = box.scrollHeight;
      else box.scrollTop = mark.offsetTop - box.clientHeight / 4;
      setPlaced(true);
    } else if (firstKey.current !== undefined && firstKey.current !== options.firstKey && !stuck.current) {
      box.scrollTop += grown;
    } else if (stuck.current) {
      box.scrollTop = box.scrollHeight;
    }
    height.current = box.scrollHeight;
    firstKey.current = options.firstKey;
    onScroll();
  }, [options.version, options.ready]);

  useEffect(() => {
    const box = scroller.current;
    if (box === null) return;
    const observer = new ResizeObserver(() => {
      if (stuck.current) box.scrollTop = box.scrollHeight;
      height.current = box.scrollHeight;
    });
    observer.observe(box);
    if (content.current !== null) observer.observe(content.current);
    return () => observer.disconnect();
  }, []);

  return { scroller, content, atEnd, placed, onScroll, look, toEnd, toMessage };
}

/** The last message of which the end is in view, or 0. */
function highestVisibleSeq(box: HTMLElement): number {
  const bottom = box.getBoundingClientRect().bottom + 8;
  const entries = box.querySelectorAll<HTMLElement>("[data-seq]");
  for (let index = entries.length - 1; index >= 0; index -= 1) {
    const entry = entries[index];
    if (entry !== undefined && entry.getBoundingClientRect().bottom <= bottom) return Number(entry.dataset["seq"]);
  }
  return 0;
}

function calm(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
