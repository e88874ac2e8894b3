import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { t } from "../src/i18n";
import en from "../src/i18n/en.json";

const folder = join(import.meta.dirname, "../src");
const code = readdirSync(folder, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.tsx?$/.test(name))
  .map((name) => readFileSync(join(folder, name), "utf8"))
  .join("\n");
/** Keys that are composed, such as `job.${state}`. */
const made = [...code.matchAll(/t\(`(\w+)\.\$\{/g)].map(([, start]) => `${start}.`);

describe("the language file", () => {
  it.each(Object.keys(en))("has %s for what is shown somewhere", (key) => {
    const isUsed = code.includes(`"${key}"`) || made.some((start) => key.startsWith(start));
    expect(isUsed).toBe(true);
  });

  it("has every key that is used", () => {
    const used = [...code.matchAll(/\bt\(\s*"([^"]+)"/g)].map(([, key]) => key);
    expect(used.length).toBeGreaterThan(100);
    expect(used.filter((key) => !(String(key) in en))).toEqual([]);
  });

  it("replaces placeholders in braces", () => {
    expect(t("status.problemsCount", { count: 3 })).toBe("3 problems");
  });
});
