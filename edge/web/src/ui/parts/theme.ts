import { Observable } from "../../sdk/observable.ts";

/** What the user chose; "auto" follows the system. */
export type Theme = "auto" | "light" | "dark";

const KEY = "tidings.theme";
const NEXT: Record<Theme, Theme> = { auto: "dark", dark: "light", light: "auto" };

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : "auto";
}

/** The theme in force. */
export const theme = new Observable<Theme>(stored());

function show(value: Theme): void {
  if (value === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = value;
}

show(theme.value);

/** Goes round: automatic, dark, light. */
export function switchTheme(): void {
  const next = NEXT[theme.value];
  localStorage.setItem(KEY, next);
  theme.set(next);
  show(next);
}
