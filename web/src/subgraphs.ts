/** Making a subgraph of a selection, and expanding it again; the flat graph stays the same. */

import {
  borders,
  fragment,
  idsOf,
  layoutOf,
  remove,
  setBends,
  subgraphsOf,
  withEntry,
  withLayout,
} from "./edit";
import { stringify } from "./json";
import { freeName, freshId } from "./names";
import type { Document, Entry, Link, Point } from "./schema";
import { asLink, levelAt, linksOf, type Step, socketPath, splitPath, withLevel } from "./workflow";

/** The upper left corner of some points. */
export function cornerOf(points: Point[]): Point {
  return { x: Math.min(...points.map(({ x }) => x)), y: Math.min(...points.map(({ y }) => y)) };
}

/** Makes a subgraph called `name` of some nodes; returns the document and the id of the node that replaces them. */
export function collapse(
  document: Document,
  path: Step[],
  ids: ReadonlySet<string>,
  wanted: string,
  kinds: object,
): [Document, string] {
  const level = levelAt(document, path);
  const name = freshName({ ...document.subgraphs, ...kinds }, wanted);
  const id = freshId(idsOf(level), name.toLowerCase());
  const { into, outOf } = borders(level, ids);
  const inputs: Record<string, string> = {};
  const outputs: Record<string, Link> = {};
  const given: Entry["inputs"] = {};

  const inner = fragment(level, ids, {});
  for (const { link, node, input } of into) {
    const exposed = freshId(inputs, input);
    inputs[exposed] = socketPath(node, input);
    given[exposed] = link;
    const left = { ...inner.graph[node]?.inputs };
    delete left[input];
    inner.graph = withEntry(inner, node, { inputs: left }).graph;
  }
  const outer = { ...level.inputs };
  for (const [exposed, inside] of Object.entries(outer)) {
    if (!ids.has(splitPath(inside, level.graph)[0])) continue;
    const known = Object.keys(inputs).find((found) => inputs[found] === inside);
    const through = known ?? freshId(inputs, exposed);
    inputs[through] = inside;
    outer[exposed] = socketPath(id, through);
  }
  const led = (link: Link): Link => {
    const [node, slot] = link;
    const known = Object.keys(outputs).find((found) => `${outputs[found]}` === `${link}`);
    const through = known ?? freshId(outputs, typeof slot === "string" && slot !== "out" ? slot : node);
    outputs[through] = link;
    return [id, through];
  };

  let rest = level;
  for (const { link, node, input } of outOf) {
    const entry = rest.graph[node];
    if (entry) rest = withEntry(rest, node, { inputs: { ...entry.inputs, [input]: led(link) } });
  }
  const offered = Object.entries(level.outputs ?? {}).map(([exposed, link]) => [
    exposed,
    ids.has(link[0]) ? led(link) : link,
  ]);
  const { nodes, bends } = layoutOf(level);
  const at = cornerOf([...ids].flatMap((node) => nodes[node] ?? []));
  rest = remove({ ...rest, inputs: outer, outputs: Object.fromEntries(offered) }, ids);
  rest = {
    ...rest,
    graph: { ...rest.graph, [id]: { class_type: name, inputs: given, _meta: { title: wanted } } },
  };
  rest = withLayout(rest, {
    nodes: { ...layoutOf(rest).nodes, [id]: Number.isFinite(at.x) ? at : { x: 0, y: 0 } },
  });
  for (const { node, input } of outOf)
    rest = setBends(rest, socketPath(node, input), bends[socketPath(node, input)] ?? []);

  const definition: Document = {
    kinograph: 1,
    title: wanted,
    inputs,
    outputs,
    graph: inner.graph,
    layout: inner.layout,
  };
  const changed = withLevel(document, path, rest);
  return [{ ...changed, subgraphs: { ...changed.subgraphs, [name]: definition } }, id];
}

/** An unused name for a subgraph. */
function freshName(taken: object, wanted: string): string {
  return freeName(wanted.trim() || "Group", (name) => name in taken);
}

/** Expands a subgraph's node; returns the document and the ids of the nodes that replace it. */
export function expand(document: Document, path: Step[], id: string): [Document, string[]] {
  const level = levelAt(document, path);
  const entry = level.graph[id];
  const subgraph = entry && document.subgraphs?.[entry.class_type];
  if (!entry || !subgraph) return [document, []];

  const { [id]: _, ...others } = level.graph;
  const { [id]: __, ...taken } = idsOf(level);
  const ids: Record<string, string> = {};
  for (const inner of Object.keys(subgraph.graph)) {
    ids[inner] = freshId(taken, inner);
    taken[ids[inner]] = true;
  }
  const renamed = ([node, slot]: Link): Link => [ids[node] ?? node, slot];
  const graph: Record<string, Entry> = { ...others };
  for (const [inner, { inputs, ...rest }] of Object.entries(subgraph.graph)) {
    const moved = Object.entries(inputs).map(([name, value]) => {
      const link = asLink(value);
      return [name, link ? renamed(link) : value];
    });
    const partial = rest._meta?.partial ?? subgraph.partial ?? entry._meta?.partial;
    const meta = {
      ...rest._meta,
      ...(entry._meta?.mode === "mute" ? { mode: "mute" as const } : {}),
      ...(partial ? { partial } : {}),
    };
    const kept = Object.keys(meta).length > 0 ? { _meta: meta } : {};
    graph[ids[inner] ?? inner] = { ...rest, ...kept, inputs: Object.fromEntries(moved) };
  }
  const inside: Record<string, string> = {};
  for (const [exposed, place] of Object.entries(subgraph.inputs ?? {})) {
    const [node, input] = splitPath(place, subgraph.graph);
    const target = ids[node];
    const value = entry.inputs[exposed];
    inside[socketPath(id, exposed)] = socketPath(target ?? node, input);
    const found = target && graph[target];
    if (found && value !== undefined)
      graph[target] = { ...found, inputs: { ...found.inputs, [input]: value } };
  }
  const led = (link: Link): Link | undefined => {
    if (link[0] !== id) return link;
    const names = Object.keys(subgraph.outputs ?? {});
    const output = subgraph.outputs?.[typeof link[1] === "number" ? (names[link[1]] ?? "") : link[1]];
    return output && renamed(output);
  };
  for (const { link, node, input } of [...linksOf(graph)]) {
    const found = graph[node];
    const target = led(link);
    if (!found || link[0] !== id) continue;
    const { [input]: __, ...inputs } = found.inputs;
    graph[node] = { ...found, inputs: target ? { ...found.inputs, [input]: target } : inputs };
  }
  const inputs = Object.entries(level.inputs ?? {}).map(([name, place]) => [name, inside[place] ?? place]);
  const outputs = Object.entries(level.outputs ?? {}).flatMap(([name, link]) => {
    const target = led(link);
    return target ? [[name, target]] : [];
  });
  const written = {
    ...level,
    graph,
    ...(inputs.length > 0 ? { inputs: Object.fromEntries(inputs) } : {}),
    ...(outputs.length > 0 ? { outputs: Object.fromEntries(outputs) } : {}),
  };
  const changed = withLevel(document, path, withInnerLayout(written, subgraph, id, ids));
  return [withoutUnused(changed, entry.class_type), Object.values(ids)];
}

function withInnerLayout(
  level: Document,
  subgraph: Document,
  id: string,
  ids: Record<string, string>,
): Document {
  const layout = layoutOf(level);
  const inner = layoutOf(subgraph);
  const at = layout.nodes[id] ?? { x: 0, y: 0 };
  const corner = cornerOf(Object.values(inner.nodes));
  const { [id]: _, ...nodes } = layout.nodes;
  for (const [node, place] of Object.entries(inner.nodes)) {
    const moved = { ...place, x: at.x + place.x - corner.x, y: at.y + place.y - corner.y };
    const renamed = ids[node];
    if (renamed) nodes[renamed] = moved;
  }
  return withLayout(level, { nodes });
}

/** A graph with the new names of renamed subgraphs. */
function ofKinds(graph: Record<string, Entry>, names: Record<string, string>): Record<string, Entry> {
  const entries = Object.entries(graph).map(([id, entry]) => {
    const { class_type } = entry;
    return [id, Object.hasOwn(names, class_type) ? { ...entry, class_type: names[class_type] } : entry];
  });
  return Object.fromEntries(entries);
}

/** Renames a subgraph, if the name is free and only one node uses it. */
export function renameSubgraph(document: Document, from: string, to: string, kinds: object): Document {
  const { [from]: definition, ...others } = document.subgraphs ?? {};
  const graphs = [document.graph, ...Object.values(document.subgraphs ?? {}).map(({ graph }) => graph)];
  const uses = graphs.flatMap((graph) =>
    Object.values(graph).filter(({ class_type }) => class_type === from),
  );
  if (!definition || uses.length > 1 || !to || to in others || to in kinds) return document;
  const renamed = (level: Document): Document => ({ ...level, graph: ofKinds(level.graph, { [from]: to }) });
  const subgraphs = { ...others, [to]: { ...definition, title: to } };
  const inner = Object.entries(subgraphs).map(([name, subgraph]) => [name, renamed(subgraph)]);
  return { ...renamed(document), subgraphs: Object.fromEntries(inner) };
}

function withoutUnused(document: Document, name: string): Document {
  const { [name]: definition, ...others } = document.subgraphs ?? {};
  const graphs = [document.graph, ...Object.values(others).map((other) => other.graph)];
  const isUsed = graphs.some((graph) => Object.values(graph).some((entry) => entry.class_type === name));
  if (isUsed || !definition) return document;
  return { ...document, subgraphs: Object.keys(others).length > 0 ? others : undefined };
}

/** Adds a pasted document's subgraphs, renamed if another one has their name; returns both documents. */
export function adopt(document: Document, copied: Document): [Document, Document] {
  const names: Record<string, string> = {};
  const taken: Record<string, Document> = { ...document.subgraphs };
  for (const [name, definition] of Object.entries(copied.subgraphs ?? {})) {
    const same = stringify(taken[name]) === stringify(definition);
    names[name] = same ? name : freshName(taken, name);
    taken[names[name]] = definition;
  }
  for (const [name, fresh] of Object.entries(names)) {
    const definition = taken[fresh];
    if (definition && fresh !== name)
      taken[fresh] = { ...definition, graph: ofKinds(definition.graph, names) };
  }
  const used = Object.keys(taken).length > 0 ? { subgraphs: taken } : {};
  return [
    { ...document, ...used },
    { ...copied, graph: ofKinds(copied.graph, names) },
  ];
}

/** The steps into subgraphs that still exist, say after an undo. */
export function soundPath(document: Document, path: Step[]): Step[] {
  const sound: Step[] = [];
  for (const step of path) {
    const entry = levelAt(document, sound).graph[step.node];
    if (entry?.class_type !== step.name || !document.subgraphs?.[step.name]) break;
    sound.push(step);
  }
  return sound;
}

/** Whether a subgraph may be inserted at the level of a path without containing itself. */
export function mayHold(document: Document, path: Step[], name: string): boolean {
  const definition = document.subgraphs?.[name];
  const inside = definition
    ? { [name]: definition, ...subgraphsOf(definition.graph, document.subgraphs ?? {}) }
    : {};
  return !path.some((step) => step.name in inside);
}
