/** All text that people see, by name. */

import en from "./en.json";

export type TextKey = keyof typeof en;

/** The text of that name, with what stands in braces filled in. */
export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  return en[key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}
