import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path/posix";
import { expect, it } from "vitest";

const source = join(import.meta.dirname, "../src");
const IMPORT = /\b(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)"/g;
const ENDINGS = ["", ".ts", ".tsx", "/index.ts"];

type Imports = Record<string, string[]>;

/** The paths of the project's modules and files that a module imports, even if only for types. */
function pathsIn(text: string): string[] {
  return [...text.matchAll(IMPORT)].map(([, path = ""]) => path);
}

/** The modules below a folder, each with its imports. */
function importsOf(folder: string): Imports {
  const files = new Set(readdirSync(folder, { recursive: true, encoding: "utf8" }));
  const found = (from: string, path: string) => {
    const name = normalize(join(dirname(from), path));
    const file = ENDINGS.map((ending) => name + ending).find(
      (each) => /\.\w+$/.test(each) && files.has(each),
    );
    if (!file) throw new Error(`${from} imports ${path}, which isn't there`);
    return file;
  };
  const modules = [...files].filter((name) => /\.tsx?$/.test(name));
  return Object.fromEntries(
    modules.map((name) => {
      const text = readFileSync(join(folder, name), "utf8");
      return [name, pathsIn(text).map((path) => found(name, path))];
    }),
  );
}

/** An import cycle, as a path; undefined if there is none. */
function circleOf(imports: Imports): string | undefined {
  const done = new Set<string>();
  const walk = (name: string, way: string[]): string | undefined => {
    if (way.includes(name)) return [...way.slice(way.indexOf(name)), name].join(" → ");
    if (done.has(name)) return undefined;
    for (const next of imports[name] ?? []) {
      const circle = walk(next, [...way, name]);
      if (circle) return circle;
    }
    done.add(name);
    return undefined;
  };
  for (const name of Object.keys(imports)) {
    const circle = walk(name, []);
    if (circle) return circle;
  }
  return undefined;
}

const EXAMPLE = `
import { create } from "zustand";
import { type Face, words } from "./workflow";
import type {
  Point,
} from "../schema";
import "./styles/app.css";
export type { View } from "./store/ui";
const late = () => import("./late");
`;

it("recognises every way to import", () => {
  expect(pathsIn(EXAMPLE)).toEqual(["./workflow", "../schema", "./styles/app.css", "./store/ui", "./late"]);
});

it("finds cycles wherever they are, and nothing else", () => {
  expect(circleOf({ a: ["b", "c"], b: ["d"], c: ["d"], d: [] })).toBeUndefined();
  expect(circleOf({ a: ["b"], b: ["c"], c: ["d"], d: ["b"] })).toBe("b → c → d → b");
  expect(circleOf({ a: ["a"] })).toBe("a → a");
});

it("finds no import cycle in the editor", () => {
  const imports = importsOf(source);
  expect(imports["theme.ts"]).toEqual(["store/ui.ts"]); // for a type only
  const circle = circleOf(imports);
  expect(circle, circle).toBeUndefined();
});
