import { describe, expect, it } from "vitest";
import { pathThrough } from "../src/canvas/paths";
import type { Point } from "../src/schema";

/** The points of a path: its start, then two handles and an end for each stretch. */
function pointsOf(path: string): Point[] {
  const numbers = path.match(/-?\d+(\.\d+)?/g)?.map(Number) ?? [];
  return numbers.flatMap((x, at) => (at % 2 === 0 ? [{ x, y: numbers[at + 1] ?? 0 }] : []));
}

describe("the line of a link", () => {
  const from = { x: 0, y: 0 };
  const to = { x: -300, y: 400 };
  const bends = [
    { x: 60, y: 120 },
    { x: -180, y: 240 },
  ];

  it("leaves and arrives to the right, even when it leads back", () => {
    for (const through of [[], bends]) {
      const points = pointsOf(pathThrough(from, through, to));
      expect(points[1]?.x).toBeGreaterThan(from.x);
      expect(points.at(-2)?.x).toBeLessThan(to.x);
    }
  });

  it("runs smoothly through its bends", () => {
    const points = pointsOf(pathThrough(from, bends, to));
    bends.forEach((bend, at) => {
      const [before, here, after] = points.slice(3 * at + 2, 3 * at + 5);
      expect(here).toEqual(bend);
      expect((before?.x ?? 0) + (after?.x ?? 0)).toBeCloseTo(2 * bend.x);
      expect((before?.y ?? 0) + (after?.y ?? 0)).toBeCloseTo(2 * bend.y);
    });
  });
});
