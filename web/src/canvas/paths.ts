/** The lines of links. */

import type { Point } from "../schema";

/** How far a curve goes straight on from an output, and towards an input. */
const LEAST_PULL = 30;
const LEAST_PULL_BACK = 90;
const MOST_PULL_TO_BEND = 80;

/** A smooth curve from an output to an input, through its bends. */
export function pathThrough(from: Point, bends: Point[], to: Point): string {
  const points = [from, ...bends, to];
  const curves = points.slice(1).map((point, at) => {
    const before = points[at] ?? from;
    const leave = tangent(points, at);
    const arrive = tangent(points, at + 1);
    const [x, y] = [before.x + leave.x, before.y + leave.y];
    return `C ${x} ${y} ${point.x - arrive.x} ${point.y - arrive.y} ${point.x} ${point.y}`;
  });
  return `M ${from.x} ${from.y} ${curves.join(" ")}`;
}

/** The tangent of a curve at one of its points: to the right at its ends, along its neighbours at a bend. */
function tangent(points: Point[], at: number): Point {
  const [before, after] = [points[at - 1], points[at + 1]];
  if (before && after) return { x: (after.x - before.x) / 6, y: (after.y - before.y) / 6 };
  const [start, end] = before ? [before, points[at]] : [points[at], after];
  const run = (end?.x ?? 0) - (start?.x ?? 0);
  const pull = Math.max(Math.abs(run) / 2, run < 0 ? LEAST_PULL_BACK : LEAST_PULL);
  return { x: points.length > 2 ? Math.min(pull, MOST_PULL_TO_BEND) : pull, y: 0 };
}

/** The bends with one more, in the segment nearest to a point. */
export function withBend(from: Point, bends: Point[], to: Point, point: Point): Point[] {
  const points = [from, ...bends, to];
  const distances = bends.concat(to).map((end, at) => distance(points[at] ?? from, end, point));
  const nearest = distances.indexOf(Math.min(...distances));
  return [...bends.slice(0, nearest), point, ...bends.slice(nearest)];
}

/** The distance from a point to the segment between two others. */
function distance(one: Point, other: Point, point: Point): number {
  const run = { x: other.x - one.x, y: other.y - one.y };
  const length = run.x ** 2 + run.y ** 2 || 1;
  const part = Math.min(1, Math.max(0, ((point.x - one.x) * run.x + (point.y - one.y) * run.y) / length));
  return Math.hypot(one.x + part * run.x - point.x, one.y + part * run.y - point.y);
}
