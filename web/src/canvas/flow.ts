/** A level of a document as React Flow draws it; unchanged parts stay the same objects, and aren't drawn again. */

import type { Edge, Node } from "@xyflow/react";
import { layoutOf } from "../edit";
import { t } from "../i18n";
import { guessedSize } from "../layout";
import type { Box, Document, Entry, Group, Note, Placed, Point } from "../schema";
import {
  coreType,
  type Face,
  type Faces,
  linksOf,
  outputOf,
  socketPath,
  splitPath,
  titleOf,
} from "../workflow";
import { guessedHandles } from "./geometry";

export type CardData = {
  entry: Entry;
  face: Face;
  place: Placed;
  /** The names under which inputs are exposed, and the exposed outputs. */
  inputs: Record<string, string>;
  outputs: (number | string)[];
};
export type CardNode = Node<CardData, "card">;
export type NoteNode = Node<{ note: Note }, "note">;
export type GroupNode = Node<{ group: Group }, "group">;
export type FlowNode = CardNode | NoteNode | GroupNode;
export type FlowEdge = Edge<{ type: string; bends: Point[] }, "link">;

const NONE: never[] = [];
const NOTHING = {};

function same(one: object, other: object): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

/** The nodes without estimated sockets, which React Flow has received by now; drawn sockets are measured. */
export function withoutGuesses(nodes: FlowNode[]): FlowNode[] {
  return nodes.map((node) => (node.handles ? { ...node, handles: undefined } : node));
}

/** Groups pairs by their first part, a node's id. */
function byNode<T>(items: Iterable<[node: string, item: T]>): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const [node, item] of items) {
    const known = found.get(node);
    if (known) known.push(item);
    else found.set(node, [item]);
  }
  return found;
}

/** The position and size of a note or group. */
function boxed(id: string, { x, y, width, height }: Box) {
  return { id, position: { x, y }, width, height };
}

export function flowNodes(
  level: Document,
  faces: Faces,
  before: FlowNode[],
  selected?: ReadonlySet<string>,
): FlowNode[] {
  const known = new Map(before.map((node) => [node.id, node]));
  const layout = layoutOf(level);
  const exposed = byNode(
    Object.entries(level.inputs ?? {}).map(([name, path]) => {
      const [node, input] = splitPath(path, level.graph);
      return [node, [input, name] as const];
    }),
  );
  const given = byNode(Object.values(level.outputs ?? {}));
  const slots = outputsUsed(level);
  const nodes: FlowNode[] = [];

  const add = <N extends FlowNode>(node: N, isSame: (old: N) => boolean) => {
    const old = known.get(node.id) as N | undefined;
    const isSelected = selected ? selected.has(node.id) : (old?.selected ?? false);
    const isStill =
      old?.type === node.type &&
      isSame(old) &&
      old.position.x === node.position.x &&
      old.position.y === node.position.y &&
      (old.selected ?? false) === isSelected;
    const { measured } = old ?? {};
    nodes.push(isStill && old ? old : { ...node, selected: isSelected, ...(measured ? { measured } : {}) });
  };

  for (const [id, group] of Object.entries(layout.groups)) {
    add<GroupNode>(
      {
        ...boxed(id, group),
        type: "group",
        zIndex: -1,
        data: { group },
        ariaRole: "group",
        ariaLabel: group.title,
      },
      (old) => old.data.group === group,
    );
  }
  for (const [id, entry] of Object.entries(level.graph)) {
    const place = layout.nodes[id] ?? { x: 0, y: 0 };
    const face = faces.of(entry.class_type, entry, slots.get(id));
    const data: CardData = {
      entry,
      face,
      place,
      inputs: exposed.has(id) ? Object.fromEntries(exposed.get(id) ?? NONE) : NOTHING,
      outputs: given.get(id) ?? NONE,
    };
    add<CardNode>(
      {
        id,
        type: "card",
        position: { x: place.x, y: place.y },
        ...(place.width ? { width: place.width } : {}),
        data,
        ariaRole: "group",
        ariaLabel: titleOf(entry),
        ...(known.has(id) ? {} : { measured: guessedSize(face), handles: guessedHandles(face, entry) }),
      },
      ({ data: old }) =>
        old.entry === entry &&
        (old.face === face || (face.form === "unknown" && same(old.face, face))) &&
        same(old.place, place) &&
        same(old.inputs, data.inputs) &&
        same(old.outputs, data.outputs),
    );
  }
  for (const [id, note] of Object.entries(layout.notes)) {
    add<NoteNode>(
      {
        ...boxed(id, note),
        type: "note",
        data: { note },
        ariaRole: "group",
        ariaLabel: note.text.slice(0, 60) || t("note.text"),
      },
      (old) => old.data.note === note,
    );
  }
  return nodes;
}

function outputsUsed(level: Document): Map<string, string[]> {
  const used = new Map<string, Set<string>>();
  for (const { link } of linksOf(level.graph)) {
    const known = used.get(link[0]) ?? new Set();
    used.set(link[0], known.add(String(link[1])));
  }
  return new Map([...used].map(([node, names]) => [node, [...names]]));
}

export function flowEdges(level: Document, nodes: FlowNode[], before: FlowEdge[]): FlowEdge[] {
  const known = new Map(before.map((edge) => [edge.id, edge]));
  const cards = new Map(nodes.flatMap((node) => (node.type === "card" ? [[node.id, node.data.face]] : [])));
  const { bends } = layoutOf(level);
  const edges: FlowEdge[] = [];
  for (const { link, node, input } of linksOf(level.graph)) {
    const [source, slot] = link;
    const face = cards.get(source);
    if (!face) continue;
    const output = outputOf(face, slot);
    const id = socketPath(node, input);
    const sourceHandle = output?.name ?? String(slot);
    const type = coreType(output?.type ?? "");
    const points = bends[id] ?? NONE;
    const old = known.get(id);
    const isStill =
      old?.source === source &&
      old.sourceHandle === sourceHandle &&
      old.data?.type === type &&
      old.data.bends === points;
    edges.push(
      isStill && old
        ? old
        : {
            id,
            type: "link",
            source,
            sourceHandle,
            target: node,
            targetHandle: input,
            data: { type, bends: points },
            ariaLabel: `${source} ${sourceHandle} → ${node} ${input}`,
            selected: old?.selected ?? false,
          },
    );
  }
  return edges;
}
