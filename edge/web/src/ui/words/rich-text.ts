/** A message's text in pieces: plain, links, and code. Pieces become elements; text never becomes HTML. */
export type Piece = { kind: "text"; text: string } | { kind: "link"; text: string; href: string } | { kind: "code"; text: string };

const TOKEN = /```([\s\S]+?)```|`([^`\n]+)`|\b(?:https?:\/\/|www\.)[^\s<>"'`]+/gi;

/** Splits a text into pieces. */
export function pieces(text: string): Piece[] {
  const result: Piece[] = [];
  let end = 0;
  const plain = (until: number): void => {
    if (until > end) result.push({ kind: "text", text: text.slice(end, until) });
  };
  for (const match of text.matchAll(TOKEN)) {
    plain(match.index);
    const code = match[1] ?? match[2];
    if (code !== undefined) {
      result.push({ kind: "code", text: code.replace(/^\n|\n$/g, "") });
      end = match.index + match[0].length;
      continue;
    }
    const link = trimmed(match[0]);
    const href = safeHref(link);
    result.push(href === undefined ? { kind: "text", text: link } : { kind: "link", text: link, href });
    end = match.index + link.length;
  }
  plain(text.length);
  return result;
}

/** Without the punctuation that ends a sentence, and without a bracket that was opened before the link. */
function trimmed(link: string): string {
  let result = link;
  for (;;) {
    const last = result.at(-1) ?? "";
    const unopened = last === ")" && !result.includes("(");
    if (!unopened && !".,;:!?*_~]}".includes(last)) return result;
    result = result.slice(0, -1);
  }
}

function safeHref(link: string): string | undefined {
  try {
    const url = new URL(/^www\./i.test(link) ? `https://${link}` : link);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const PICTOGRAPHS = /^(?:\p{Extended_Pictographic}|\p{Emoji_Modifier}|\p{Regional_Indicator}|\u200d|\ufe0f|\u20e3|\s)+$/u;

/** Whether a text is a few emoji and nothing else: then they are shown large. */
export function isJumbo(text: string): boolean {
  const body = text.trim();
  if (body === "" || body.length > 40 || !PICTOGRAPHS.test(body)) return false;
  const count = [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(body)].filter(({ segment }) => segment.trim() !== "");
  return count.length <= 3;
}
