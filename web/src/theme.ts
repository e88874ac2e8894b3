import type { Theme } from "./store/ui";

const KEY = "kinograph.theme";
const THEMES: Theme[] = ["system", "light", "dark"];

export function readTheme(): Theme {
  const known = THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? "system";
  apply(known);
  return known;
}

function apply(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function setTheme(theme: Theme): void {
  localStorage.setItem(KEY, theme);
  apply(theme);
}

export function nextTheme(theme: Theme): Theme {
  return THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
}
