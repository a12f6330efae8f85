import { pieces } from "../words/rich-text.ts";

/** A message's text with its links and code, made of elements: what somebody wrote is never read as HTML. */
export function RichText(props: { text: string }) {
  return (
    <>
      {pieces(props.text).map((piece, index) => {
        switch (piece.kind) {
          case "text":
            return piece.text;
          case "code":
            return <code key={index}>{piece.text}</code>;
          case "link":
            return (
              <a key={index} href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
                {piece.text}
              </a>
            );
        }
      })}
    </>
  );
}
