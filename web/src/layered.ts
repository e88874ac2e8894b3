/** Layers of a directed graph, from left to right, with few crossings; no recursion, so that chains may be long. */

import type { Point } from "./schema";

export interface Size {
  width: number;
  height: number;
}

export interface Spacing {
  between: number;
  below: number;
}

interface Item {
  id: string;
  size: Size;
  sources: Item[];
  targets: Item[];
  layer: number;
  /** The middle of its height. */
  y: number;
}

const SWEEPS = 12;

/** A position for each node; `links` lead from one node to another, and may contain cycles. */
export function layered(
  sizes: Map<string, Size>,
  links: Iterable<[string, string]>,
  spacing: Spacing,
): Map<string, Point> {
  const items = new Map(
    [...sizes].map(([id, size]) => [id, { id, size, sources: [], targets: [], layer: 0, y: 0 } as Item]),
  );
  for (const [from, to] of links) {
    const source = items.get(from);
    const target = items.get(to);
    if (!source || !target || source === target) continue;
    source.targets.push(target);
    target.sources.push(source);
  }
  const layers = layersOf(ordered([...items.values()]));
  for (const layer of layers) settle(layer, spacing.below);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const isForward = sweep % 2 === 0;
    for (const layer of isForward ? layers : layers.toReversed()) {
      for (const item of layer) item.y = wanted(item, isForward);
      layer.sort((one, other) => one.y - other.y);
      settle(layer, spacing.below);
    }
  }
  return places(layers, spacing.between);
}

/** The ideal position of an item: the mean of its neighbours on the side that is already placed. */
function wanted({ sources, targets, y }: Item, isForward: boolean): number {
  const preferred = isForward ? sources : targets;
  const near = preferred.length > 0 ? preferred : isForward ? targets : sources;
  return near.length > 0 ? near.reduce((sum, item) => sum + item.y, 0) / near.length : y;
}

/** Nodes in topological order, as far as cycles allow, one connected component after the other. */
function ordered(items: Item[]): Item[] {
  const waiting = new Map(items.map((item) => [item, item.sources.length]));
  const done: Item[] = [];
  for (const piece of pieces(items)) {
    const ready = piece.filter((item) => item.sources.length === 0);
    const left = new Set(piece);
    while (left.size > 0) {
      const item: Item | undefined = ready.pop() ?? left.values().next().value;
      if (!item || !left.delete(item)) continue;
      done.push(item);
      for (const target of item.targets) {
        const count = (waiting.get(target) ?? 0) - 1;
        waiting.set(target, count);
        if (count === 0) ready.push(target);
      }
    }
  }
  return done;
}

function pieces(items: Item[]): Item[][] {
  const seen = new Set<Item>();
  const found: Item[][] = [];
  for (const start of items) {
    if (seen.has(start)) continue;
    seen.add(start);
    const piece = [start];
    for (const item of piece) {
      for (const near of [...item.sources, ...item.targets]) {
        if (seen.has(near)) continue;
        seen.add(near);
        piece.push(near);
      }
    }
    found.push(piece);
  }
  return found;
}

/** Puts each item to the right of all its sources; items without sources stand just left of their first target. */
function layersOf(order: Item[]): Item[][] {
  const seen = new Set<Item>();
  for (const item of order) {
    const before = item.sources.filter((source) => seen.has(source));
    item.layer = before.reduce((most, source) => Math.max(most, source.layer + 1), 0);
    seen.add(item);
  }
  for (const item of order) {
    if (item.sources.length > 0 || item.targets.length === 0) continue;
    item.layer = Math.max(0, Math.min(...item.targets.map((target) => target.layer)) - 1);
  }
  const layers: Item[][] = [];
  for (const item of order) {
    layers[item.layer] ??= [];
    layers[item.layer]?.push(item);
  }
  return [...layers].map((layer) => layer ?? []);
}

/** Moves a layer's items apart in order, each as little as possible; neighbours that touch move together. */
function settle(layer: Item[], gap: number): void {
  const blocks: { items: Item[]; height: number; top: number }[] = [];
  for (const item of layer) {
    let block = { items: [item], height: item.size.height, top: item.y - item.size.height / 2 };
    for (
      let above = blocks.at(-1);
      above && above.top + above.height + gap > block.top;
      above = blocks.at(-1)
    ) {
      blocks.pop();
      const shift = above.height + gap;
      const [many, more] = [above.items.length, block.items.length];
      block = {
        items: [...above.items, ...block.items],
        height: shift + block.height,
        top: (above.top * many + (block.top - shift) * more) / (many + more),
      };
    }
    blocks.push(block);
  }
  for (const { items, top } of blocks) {
    let y = top;
    for (const item of items) {
      item.y = y + item.size.height / 2;
      y += item.size.height + gap;
    }
  }
}

function places(layers: Item[][], between: number): Map<string, Point> {
  const found = new Map<string, Point>();
  let x = 0;
  for (const layer of layers) {
    for (const { id, y, size } of layer) found.set(id, { x, y: y - size.height / 2 });
    x += layer.reduce((most, { size }) => Math.max(most, size.width), 0) + between;
  }
  const top = [...found.values()].reduce((least, { y }) => Math.min(least, y), Infinity);
  return new Map([...found].map(([id, at]) => [id, { x: Math.round(at.x), y: Math.round(at.y - top) }]));
}
