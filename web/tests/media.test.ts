import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { histogram, kindOf, readTable } from "../src/media";
import { ranked } from "../src/search";

it.each([
  ["a.png", "image"],
  ["a.MP4", "video"],
  ["a.csv", "table"],
  ["a.txt", "text"],
  ["a.safetensors", "other"],
])("%s is a %s", (name, kind) => {
  expect(kindOf(name)).toBe(kind);
});

describe("tables", () => {
  it("are read from CSV with quotes", () => {
    expect(readTable("a.csv", 'name,score\n"a, b",0.5\n')).toEqual({
      columns: ["name", "score"],
      rows: [["a, b", "0.5"]],
      total: 1,
    });
  });

  it("are read from a list of records with any columns", () => {
    expect(readTable("a.json", '[{"a": 1}, {"a": 2, "b": [3]}]')).toEqual({
      columns: ["a", "b"],
      rows: [
        ["1", ""],
        ["2", "[3]"],
      ],
      total: 2,
    });
  });

  it("are read from a preview of a longer one", () => {
    const text = '{"columns": ["motion", "frame"], "rows": [[0.5, null], [2, "x"]], "total": 900}';
    expect(readTable("a.json", text)).toEqual({
      columns: ["motion", "frame"],
      rows: [
        ["0.5", ""],
        ["2", "x"],
      ],
      total: 900,
    });
  });

  it.each([
    ["a.json", "{}"],
    ["a.json", "not JSON"],
    ["a.csv", ""],
  ])("are not found in %s with %j", (name, text) => {
    expect(readTable(name, text)).toBeNull();
  });
});

describe("histograms", () => {
  it("count each number once", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 3 }), (numbers) => {
        const bins = histogram(numbers.map(String));
        const isSpread = new Set(numbers).size > 1;
        expect(bins?.reduce((sum, { count }) => sum + count, 0) ?? null).toBe(
          isSpread ? numbers.length : null,
        );
      }),
    );
  });

  it("are made of numbers only", () => {
    expect(histogram(["1", "2", "three"])).toBeNull();
  });
});

it("lists names that begin with the search text first", () => {
  const found = ranked(["save image", "image load", "text"], "image", (name) => [name]);
  expect(found).toEqual(["image load", "save image"]);
  expect(ranked(["text contains", "text"], "text", (name) => [name])).toEqual(["text", "text contains"]);
  expect(ranked(["save image", "save text"], "sa te", (name) => [name])).toEqual(["save text"]);
});
