/** The lines of links. */

import type { Point } from "../schema";

/** A curve from an output to an input, through the points that it was bent to. */
export function pathThrough(from: Point, bends: Point[], to: Point): string {
  const points = [from, ...bends, to];
  const curves = points.slice(1).map((point, at) => {
    const before = points[at] ?? from;
    const isOuter = bends.length === 0;
    const pull = isOuter
      ? Math.max(Math.abs(point.x - before.x) / 2, point.x < before.x ? 90 : 30)
      : Math.abs(point.x - before.x) / 2;
    return `C ${before.x + pull} ${before.y} ${point.x - pull} ${point.y} ${point.x} ${point.y}`;
  });
  return `M ${from.x} ${from.y} ${curves.join(" ")}`;
}

/** The bends with one more, in the stretch that a point lies nearest to. */
export function withBend(from: Point, bends: Point[], to: Point, point: Point): Point[] {
  const points = [from, ...bends, to];
  const distances = bends.concat(to).map((end, at) => distance(points[at] ?? from, end, point));
  const nearest = distances.indexOf(Math.min(...distances));
  return [...bends.slice(0, nearest), point, ...bends.slice(nearest)];
}

/** From a point to the stretch between two others. */
function distance(one: Point, other: Point, point: Point): number {
  const run = { x: other.x - one.x, y: other.y - one.y };
  const length = run.x ** 2 + run.y ** 2 || 1;
  const part = Math.min(1, Math.max(0, ((point.x - one.x) * run.x + (point.y - one.y) * run.y) / length));
  return Math.hypot(one.x + part * run.x - point.x, one.y + part * run.y - point.y);
}
