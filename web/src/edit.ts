/** Changes of one level of a document, as pure functions; unchanged parts stay the same objects. */

import { freshId } from "./names";
import type { Document, Entry, Json, Layout, Link, Meta, Placed, Point } from "./schema";
import { asLink, emptyLayout, linksOf, socketPath, splitPath } from "./workflow";

type Named<T> = Record<string, T>;

export function layoutOf(level: Document): Layout {
  return level.layout ?? emptyLayout();
}

function without<T>(record: Named<T>, gone: (name: string, value: T) => boolean): Named<T> {
  const left = Object.entries(record).filter(([name, value]) => !gone(name, value));
  return left.length === Object.keys(record).length ? record : Object.fromEntries(left);
}

/** An optional part of a document, omitted when empty. */
function part<K extends string, T>(key: K, record: Named<T>): { [P in K]?: Named<T> } {
  return { [key]: Object.keys(record).length > 0 ? record : undefined } as { [P in K]?: Named<T> };
}

/** The ids in use at this level: drawn nodes, notes and groups must not share one. */
export function idsOf(level: Document): Named<unknown> {
  const { notes, groups } = layoutOf(level);
  return { ...level.graph, ...notes, ...groups };
}

export function withLayout(level: Document, change: Partial<Layout>): Document {
  return { ...level, layout: { ...layoutOf(level), ...change } };
}

export function withEntry(level: Document, node: string, change: Partial<Entry>): Document {
  const entry = level.graph[node];
  return entry ? { ...level, graph: { ...level.graph, [node]: { ...entry, ...change } } } : level;
}

/** The id of a new node of a kind: "KeyframeSampler" becomes "keyframe_sampler". */
function idFor(level: Document, kind: string): string {
  const snake = kind.replace(/\.json$/, "").replace(/([a-z\d])([A-Z])/g, "$1_$2");
  return freshId(idsOf(level), snake.toLowerCase());
}

export function addNode(
  level: Document,
  kind: string,
  at: Point,
  inputs: Named<Json> = {},
): [Document, string] {
  const id = idFor(level, kind);
  const grown = { ...level, graph: { ...level.graph, [id]: { class_type: kind, inputs } } };
  return [place(grown, { [id]: at }), id];
}

/** Moves nodes, notes and groups. */
export function place(level: Document, positions: Named<Point>): Document {
  const layout = layoutOf(level);
  const moved = { nodes: { ...layout.nodes }, notes: { ...layout.notes }, groups: { ...layout.groups } };
  for (const [id, { x, y }] of Object.entries(positions)) {
    const note = moved.notes[id];
    const group = moved.groups[id];
    if (note) moved.notes[id] = { ...note, x, y };
    else if (group) moved.groups[id] = { ...group, x, y };
    else moved.nodes[id] = { ...moved.nodes[id], x, y };
  }
  return withLayout(level, moved);
}

export function setPlaced(level: Document, node: string, change: Partial<Placed>): Document {
  const { nodes } = layoutOf(level);
  return withLayout(level, { nodes: { ...nodes, [node]: { x: 0, y: 0, ...nodes[node], ...change } } });
}

/** Removes nodes, notes and groups, with all references to them. */
export function remove(level: Document, ids: ReadonlySet<string>): Document {
  const graph: Named<Entry> = {};
  for (const [id, entry] of Object.entries(level.graph)) {
    if (ids.has(id)) continue;
    const inputs = without(entry.inputs, (_, value) => ids.has(asLink(value)?.[0] ?? ""));
    graph[id] = inputs === entry.inputs ? entry : { ...entry, inputs };
  }
  const layout = layoutOf(level);
  const left = {
    ...level,
    graph,
    ...part(
      "inputs",
      without(level.inputs ?? {}, (_, path) => ids.has(splitPath(path, level.graph)[0])),
    ),
    ...part(
      "outputs",
      without(level.outputs ?? {}, (_, link) => ids.has(link[0])),
    ),
  };
  return withLayout(left, {
    nodes: without(layout.nodes, (id) => ids.has(id)),
    notes: without(layout.notes, (id) => ids.has(id)),
    groups: without(layout.groups, (id) => ids.has(id)),
    bends: without(layout.bends, (path) => !isLinked(graph, path)),
  });
}

function isLinked(graph: Named<Entry>, path: string): boolean {
  const [node, input] = splitPath(path, graph);
  return asLink(graph[node]?.inputs[input]) !== null;
}

/** Sets an input to a constant or link; undefined removes its value, so that the default applies. */
export function setInput(level: Document, node: string, input: string, value: Json | undefined): Document {
  const entry = level.graph[node];
  if (!entry) return level;
  const inputs = { ...entry.inputs };
  if (value === undefined) delete inputs[input];
  else inputs[input] = value;
  const changed = withEntry(level, node, { inputs });
  const path = socketPath(node, input);
  const { bends } = layoutOf(level);
  return path in bends && !asLink(value)
    ? withLayout(changed, { bends: without(bends, (name) => name === path) })
    : changed;
}

export function setMeta(level: Document, nodes: Iterable<string>, change: Meta): Document {
  let changed = level;
  for (const node of nodes) {
    const meta = Object.entries({ ...level.graph[node]?._meta, ...change }).filter(([, value]) => value);
    changed = withEntry(changed, node, {
      _meta: meta.length > 0 ? (Object.fromEntries(meta) as Meta) : undefined,
    });
  }
  return changed;
}

export function setBends(level: Document, path: string, points: Point[]): Document {
  const { bends } = layoutOf(level);
  const left = without(bends, (name) => name === path);
  return withLayout(level, { bends: points.length > 0 ? { ...left, [path]: points } : left });
}

export function isExposed(level: Document, node: string, input: string): boolean {
  return Object.values(level.inputs ?? {}).includes(socketPath(node, input));
}

/** Exposes an input of a node as an input of the workflow. */
export function exposeInput(level: Document, node: string, input: string): Document {
  const inputs = level.inputs ?? {};
  return { ...level, inputs: { ...inputs, [freshId(inputs, input)]: socketPath(node, input) } };
}

export function hideInput(level: Document, node: string, input: string): Document {
  const path = socketPath(node, input);
  return {
    ...level,
    ...part(
      "inputs",
      without(level.inputs ?? {}, (_, found) => found === path),
    ),
  };
}

const isFrom = ([source, slot]: Link, node: string, slots: (number | string)[]) =>
  source === node && slots.includes(slot);

/** Whether an output is exposed; `slots` are its name and its index, since a document may use either. */
export function isGiven(level: Document, node: string, slots: (number | string)[]): boolean {
  return Object.values(level.outputs ?? {}).some((link) => isFrom(link, node, slots));
}

/** Exposes an output of a node as an output of the workflow, for use as a subgraph. */
export function exposeOutput(level: Document, node: string, slot: string): Document {
  const outputs = level.outputs ?? {};
  const name = freshId(outputs, slot === "out" ? node : slot);
  return { ...level, outputs: { ...outputs, [name]: [node, slot] } };
}

export function hideOutput(level: Document, node: string, slots: (number | string)[]): Document {
  const outputs = without(level.outputs ?? {}, (_, link) => isFrom(link, node, slots));
  return { ...level, ...part("outputs", outputs) };
}

/** Renames an exposed input or output, keeping its position. */
export function renameExposed(level: Document, from: string, to: string): Document {
  const inputs = level.inputs ?? {};
  if (!to || to in inputs) return level;
  const renamed = Object.entries(inputs).map(([name, path]) => [name === from ? to : name, path]);
  return { ...level, inputs: Object.fromEntries(renamed) };
}

/** The subgraphs that nodes use, and those that these use. */
export function subgraphsOf(graph: Named<Entry>, all: Named<Document>): Named<Document> {
  const used: Named<Document> = {};
  const waiting = Object.values(graph).map((entry) => entry.class_type);
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    const subgraph = all[name];
    if (!subgraph || name in used) continue;
    used[name] = subgraph;
    waiting.push(...Object.values(subgraph.graph).map((entry) => entry.class_type));
  }
  return used;
}

/** Part of a level as a separate document, to be copied; links from other nodes are kept. */
export function fragment(level: Document, ids: ReadonlySet<string>, subgraphs: Named<Document>): Document {
  const layout = layoutOf(level);
  const graph = without(level.graph, (id) => !ids.has(id));
  const isOutside = (path: string) => !ids.has(splitPath(path, level.graph)[0]);
  return {
    kinograph: 1,
    graph,
    ...part("subgraphs", subgraphsOf(graph, subgraphs)),
    layout: {
      nodes: without(layout.nodes, (id) => !ids.has(id)),
      notes: without(layout.notes, (id) => !ids.has(id)),
      groups: without(layout.groups, (id) => !ids.has(id)),
      bends: without(layout.bends, isOutside),
    },
  };
}

/** A level with a copied document inserted, moved by `by`; nodes get new ids where theirs are taken. */
export function paste(level: Document, copied: Document, by: Point): [Document, string[]] {
  const layout = layoutOf(level);
  const ids: Named<string> = {};
  const taken = idsOf(level);
  const from = layoutOf(copied);
  for (const id of [...Object.keys(copied.graph), ...Object.keys(from.notes), ...Object.keys(from.groups)]) {
    const fresh = freshId(taken, id.replace(/_\d+$/, ""));
    ids[id] = fresh;
    taken[fresh] = true;
  }
  const graph: Named<Entry> = {};
  for (const [id, entry] of Object.entries(copied.graph)) {
    graph[ids[id] ?? id] = { ...entry, inputs: relinked(entry.inputs, ids, level.graph) };
  }
  const moved = <T extends Point>(items: Named<T>): Named<T> =>
    Object.fromEntries(
      Object.entries(items).map(([id, item]) => [
        ids[id] ?? id,
        { ...item, x: item.x + by.x, y: item.y + by.y },
      ]),
    );
  const bends = Object.entries(from.bends).map(([path, points]) => {
    const [node, input] = splitPath(path, copied.graph);
    return [socketPath(ids[node] ?? node, input), points.map(({ x, y }) => ({ x: x + by.x, y: y + by.y }))];
  });
  const grown = withLayout(
    { ...level, graph: { ...level.graph, ...graph } },
    {
      nodes: { ...layout.nodes, ...moved(from.nodes) },
      notes: { ...layout.notes, ...moved(from.notes) },
      groups: { ...layout.groups, ...moved(from.groups) },
      bends: { ...layout.bends, ...Object.fromEntries(bends) },
    },
  );
  return [grown, Object.values(ids)];
}

/** Inputs with links to the new ids; links to nodes that are neither copied nor present are dropped. */
function relinked(inputs: Named<Json>, ids: Named<string>, here: Named<Entry>): Named<Json> {
  const led: Named<Json> = {};
  for (const [name, value] of Object.entries(inputs)) {
    const link = asLink(value);
    const source = link && (ids[link[0]] ?? (link[0] in here ? link[0] : undefined));
    if (!link) led[name] = value;
    else if (source) led[name] = [source, link[1]];
  }
  return led;
}

/** The links that lead into a set of nodes, and those that lead out of it. */
export function borders(level: Document, ids: ReadonlySet<string>) {
  const all = [...linksOf(level.graph)];
  return {
    into: all.filter(({ link, node }) => ids.has(node) && !ids.has(link[0])),
    outOf: all.filter(({ link, node }) => !ids.has(node) && ids.has(link[0])),
  };
}
