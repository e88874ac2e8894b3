import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { layered } from "../src/layered";
import { arranged, withPlaces } from "../src/layout";
import { linksOf } from "../src/workflow";
import { documents } from "./documents";
import { picture } from "./kinds";

const SIZE = { width: 280, height: 200 };
const sizeOf = () => SIZE;

describe("arranging", () => {
  it("puts sources left of their targets, without overlaps", () => {
    fc.assert(
      fc.property(documents, (document) => {
        const nodes = arranged(document, sizeOf).layout?.nodes ?? {};
        expect(Object.keys(nodes).sort()).toEqual(Object.keys(document.graph).sort());
        for (const { link, node } of linksOf(document.graph)) {
          expect(nodes[link[0]]?.x).toBeLessThanOrEqual((nodes[node]?.x ?? 0) - SIZE.width);
        }
        const all = Object.values(nodes);
        for (const one of all) {
          for (const other of all) {
            if (one === other) continue;
            const isApart =
              Math.abs(one.x - other.x) >= SIZE.width || Math.abs(one.y - other.y) >= SIZE.height;
            expect(isApart).toBe(true);
          }
        }
      }),
    );
  });

  it("lays a chain in one line", () => {
    const ids = ["a", "b", "c"];
    const found = layered(
      new Map(ids.map((id) => [id, SIZE])),
      [
        ["a", "b"],
        ["b", "c"],
      ],
      { between: 20, below: 20 },
    );
    expect([...found]).toEqual([
      ["a", { x: 0, y: 0 }],
      ["b", { x: 300, y: 0 }],
      ["c", { x: 600, y: 0 }],
    ]);
  });

  it("puts nodes without sources beside their targets", () => {
    const ids = ["a", "b", "c", "late"];
    const links: [string, string][] = [
      ["a", "b"],
      ["b", "c"],
      ["late", "c"],
    ];
    const found = layered(new Map(ids.map((id) => [id, SIZE])), links, { between: 20, below: 20 });
    expect(found.get("late")?.x).toBe(found.get("b")?.x);
  });

  it("copes with a cycle, and with a chain of thousands", () => {
    const circle = layered(
      new Map([
        ["a", SIZE],
        ["b", SIZE],
      ]),
      [
        ["a", "b"],
        ["b", "a"],
      ],
      { between: 20, below: 20 },
    );
    expect(circle.size).toBe(2);
    const ids = Array.from({ length: 5000 }, (_, at) => `n${at}`);
    const links = ids.slice(1).map((id, at): [string, string] => [`n${at}`, id]);
    const chain = layered(new Map(ids.map((id) => [id, SIZE])), links, { between: 20, below: 20 });
    expect(chain.get("n4999")).toEqual({ x: 4999 * 300, y: 0 });
  });
});

describe("places for what has none", () => {
  it("are below the others, which stay where they are", () => {
    const document = picture();
    delete document.layout?.nodes.save;
    const nodes = withPlaces(document, sizeOf).layout?.nodes;
    expect(nodes?.draw).toEqual({ x: 300, y: 0 });
    expect(nodes?.save).toEqual({ x: 0, y: 440 });
  });

  it("change nothing where all have one", () => {
    const document = picture();
    expect(withPlaces(document, sizeOf)).toBe(document);
  });
});
