/** All visible texts, by key. */

import en from "./en.json";

export type TextKey = keyof typeof en;

/** The text with a key, its placeholders in braces replaced. */
export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  return en[key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}
