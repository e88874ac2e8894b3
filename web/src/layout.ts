/** Automatic layout: columns from left to right, in the direction of the data. */

import { layoutOf, withLayout } from "./edit";
import { layered, type Size } from "./layered";
import type { Document } from "./schema";
import { type FieldName, fieldFor, isWide } from "./widgets";
import { type Face, linksOf } from "./workflow";

export const NODE_WIDTH = 280;
const SPACING = { between: 90, below: 36 };

const HEADER = 70;
export const ROW = 26;
const FIELD = 34;
const WIDE_FIELD = 92;
const MEDIA_FIELD = 230;

function heightOf(field: FieldName): number {
  if (field === "media") return MEDIA_FIELD;
  return isWide(field) ? WIDE_FIELD : FIELD;
}

/** The estimated size of a node's card before it is drawn. */
export function guessedSize(face: Face): Size {
  const fields = face.inputs.map((input) => fieldFor(input.schema));
  const bare = fields.filter((field) => field === null).length;
  const tall = fields.reduce((sum, field) => sum + (field === null ? 0 : heightOf(field)), 0);
  return { width: NODE_WIDTH, height: HEADER + Math.max(bare, face.outputs.length) * ROW + tall };
}

/** The level with all nodes arranged. */
export function arranged(level: Document, sizeOf: (node: string) => Size): Document {
  const sizes = new Map(Object.keys(level.graph).map((node) => [node, sizeOf(node)]));
  const links = [...linksOf(level.graph)].map(({ link, node }): [string, string] => [link[0], node]);
  const { nodes } = layoutOf(level);
  const placed = [...layered(sizes, links, SPACING)].map(([node, at]) => [node, { ...nodes[node], ...at }]);
  return withLayout(level, { nodes: Object.fromEntries(placed), bends: {} });
}

/** The level with a position for each node: all are arranged if none has one, otherwise new ones go below the others. */
export function withPlaces(level: Document, sizeOf: (node: string) => Size): Document {
  const { nodes } = layoutOf(level);
  const lost = Object.keys(level.graph).filter((node) => !nodes[node]);
  if (lost.length === 0) return level.layout ? level : withLayout(level, {});
  if (lost.length === Object.keys(level.graph).length) return arranged(level, sizeOf);
  const placed = { ...nodes };
  const known = Object.keys(nodes).filter((node) => node in level.graph);
  const x = Math.min(...known.map((node) => nodes[node]?.x ?? 0));
  let y = Math.max(...known.map((node) => (nodes[node]?.y ?? 0) + sizeOf(node).height)) + 40;
  for (const node of lost) {
    placed[node] = { x, y };
    y += sizeOf(node).height + 40;
  }
  return withLayout(level, { nodes: placed });
}
