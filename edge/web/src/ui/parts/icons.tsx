import type { JSX } from "preact";

function icon(...paths: string[]): () => JSX.Element {
  return () => (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      {paths.map((path) => (
        <path key={path} d={path} />
      ))}
    </svg>
  );
}

export const IconBack = icon("M15 5l-7 7 7 7");
export const IconClose = icon("M6 6l12 12", "M18 6L6 18");
export const IconSend = icon("M5 12h13", "M12.5 6l6 6-6 6");
export const IconSmile = icon("M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z", "M8.5 14.5a4.2 4.2 0 0 0 7 0", "M9 9.8v.2", "M15 9.8v.2");
export const IconSearch = icon("M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14Z", "M20 20l-4-4");
export const IconChat = icon("M20 15a3 3 0 0 1-3 3h-6l-5 3.5V18a3 3 0 0 1-2-3V7a3 3 0 0 1 3-3h10a3 3 0 0 1 3 3Z", "M12 8.2v5.6", "M9.2 11h5.6");
export const IconGroup = icon(
  "M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z",
  "M2.5 19.5c.4-3.2 3-5 6.5-5s6.1 1.8 6.5 5",
  "M16 5a3.2 3.2 0 0 1 0 6.2",
  "M18 14.8c2 .7 3.2 2.3 3.5 4.7",
);
export const IconInfo = icon("M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z", "M12 11v5.5", "M12 7.6v.1");
export const IconReply = icon("M9 7l-5 5 5 5", "M4 12h9a7 7 0 0 1 7 7");
export const IconEdit = icon("M4 20l1-4.5L16.5 4a2 2 0 0 1 2.8 0l.7.7a2 2 0 0 1 0 2.8L8.5 19Z", "M14.5 6l3.5 3.5");
export const IconDelete = icon("M5 7h14", "M9 7V4.5h6V7", "M7 7l.8 12.5h8.4L17 7", "M10.5 11v5", "M13.5 11v5");
export const IconCopy = icon("M9 9h10v11H9Z", "M15 9V4H5v11h4");
export const IconDown = icon("M6 9.5l6 6 6-6");
export const IconSun = icon(
  "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8Z",
  "M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1",
);
export const IconMoon = icon("M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z");
export const IconAuto = icon("M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z", "M12 3v18", "M12 7l6.5 0M12 11l8.7 0M12 15l8.5 0");
export const IconSignOut = icon("M14 4H6a1.5 1.5 0 0 0-1.5 1.5v13A1.5 1.5 0 0 0 6 20h8", "M10 12h10", "M16.5 8.5L20 12l-3.5 3.5");
export const IconMore = icon("M12 6v.1", "M12 12v.1", "M12 18v.1");
export const IconBell = icon("M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15Z", "M10 20.5a2.2 2.2 0 0 0 4 0");
export const IconBellOff = icon("M8 6.6A6 6 0 0 1 18 11v4", "M6 9.8V16.5L4.5 18H16", "M10 20.5a2.2 2.2 0 0 0 4 0", "M4 4l16 16");
export const IconAdd = icon("M12 5v14", "M5 12h14");
export const IconClock = icon("M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17Z", "M12 7.5V12l3 2");
export const IconAlert = icon("M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17Z", "M12 7.5v5.5", "M12 16.2v.1");
export const IconLeave = icon("M13 4H6.5A1.5 1.5 0 0 0 5 5.5v13A1.5 1.5 0 0 0 6.5 20H13", "M11 12h9", "M16.5 8.5L20 12l-3.5 3.5");

/** One tick: the server has it. */
export function IconTick() {
  return (
    <svg class="icon tick" viewBox="0 0 18 12" aria-hidden="true">
      <path d="M5 6.5l3 3L14.5 2.5" />
    </svg>
  );
}

/** Two ticks: everybody's devices have it. */
export function IconTicks() {
  return (
    <svg class="icon tick" viewBox="0 0 18 12" aria-hidden="true">
      <path d="M1.5 6.5l3 3L11 2.5" />
      <path d="M8 9.3l.3.2L15 2.5" />
    </svg>
  );
}

/** The mark of Tidings. */
export function Logo() {
  return <img class="logo" src="/favicon.svg" alt="" width="32" height="32" />;
}
