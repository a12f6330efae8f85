import { useWatch } from "./hooks.ts";
import { IconAuto, IconMoon, IconSun } from "./icons.tsx";
import { switchTheme, theme } from "./theme.ts";

const ICONS = { auto: IconAuto, light: IconSun, dark: IconMoon };
const NAMES = { auto: "as the system", light: "light", dark: "dark" };

/** Goes through the themes. */
export function ThemeButton() {
  const current = useWatch(theme);
  const Icon = ICONS[current];
  const label = `Theme: ${NAMES[current]}`;
  return (
    <button type="button" class="icon-button" title={label} aria-label={label} onClick={switchTheme}>
      <Icon />
    </button>
  );
}
