import { CATEGORIES } from "./emoji-data.ts";

/** One emoji and the name to type for it. */
export interface Emoji {
  readonly character: string;
  readonly shortcode: string;
}

interface Category {
  readonly name: string;
  readonly emoji: readonly Emoji[];
}

const byShortcode = new Map<string, string>();

/** All emoji, in the groups of the picker. */
export const categories: readonly Category[] = CATEGORIES.map(({ name, table }) => ({
  name,
  emoji: table.split(/[|\n]/).map((cell) => {
    const [character = "", ...shortcodes] = cell.split(" ");
    for (const shortcode of shortcodes) byShortcode.set(shortcode, character);
    return { character, shortcode: shortcodes[0] ?? "" };
  }),
}));

const SHORTCODE = /:([a-z0-9_+-]+):/g;

/** The text with every known `:shortcode:` turned into its emoji. Code in backquotes is left alone. */
export function withEmoji(text: string): string {
  return text
    .split(/(```[\s\S]*?```|`[^`\n]*`)/)
    .map((part, index) => (index % 2 === 1 ? part : part.replace(SHORTCODE, (whole, name: string) => byShortcode.get(name) ?? whole)))
    .join("");
}

/** Emoji whose shortcodes match what was typed, those that begin with it first. */
export function search(typed: string, limit: number): Emoji[] {
  const needle = typed.toLowerCase();
  const starting: Emoji[] = [];
  const containing: Emoji[] = [];
  for (const [shortcode, character] of byShortcode) {
    if (shortcode.startsWith(needle)) starting.push({ character, shortcode });
    else if (shortcode.includes(needle)) containing.push({ character, shortcode });
  }
  starting.sort((a, b) => a.shortcode.length - b.shortcode.length);
  return [...starting, ...containing].slice(0, limit);
}

/** The unfinished `:shortco` before the caret, if the user is typing one. */
export function unfinishedShortcode(text: string, caret: number): { typed: string; start: number } | undefined {
  const match = /(?:^|[\s(])(:([a-z0-9_+-]{2,30}))$/i.exec(text.slice(0, caret));
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return { typed: match[2], start: caret - match[1].length };
}
