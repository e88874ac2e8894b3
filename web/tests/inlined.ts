/** Expands subgraphs by the engine's rules, written independently: editing must not change the result. */

import type { Document, Entry, Json, Link } from "../src/schema";
import { asLink, splitPath } from "../src/workflow";

type Flat = Record<string, { class_type: string; inputs: Record<string, Json>; mode?: string }>;

export function inlined(document: Document): Flat {
  const flat: Flat = {};
  const all = document.subgraphs ?? {};

  const source = (level: Document, prefix: string, [node, slot]: Link): Link => {
    const entry = level.graph[node];
    const inner = entry && all[entry.class_type];
    if (!inner) return [prefix + node, slot];
    const names = Object.keys(inner.outputs ?? {});
    const output = inner.outputs?.[typeof slot === "number" ? (names[slot] ?? "") : slot];
    if (!output) throw new Error(`${node} has no output ${slot}`);
    return source(inner, `${prefix}${node}/`, output);
  };

  const write = (level: Document, prefix: string, given: Record<string, Json>, isMuted: boolean) => {
    const inside: Record<string, Record<string, Json>> = {};
    for (const [name, value] of Object.entries(given)) {
      const [node, input] = splitPath(level.inputs?.[name] ?? "", level.graph);
      inside[node] = { ...inside[node], [input]: value };
    }
    for (const [id, entry] of Object.entries(level.graph)) {
      const inputs: Record<string, Json> = {};
      for (const [name, value] of Object.entries(entry.inputs)) {
        const link = asLink(value);
        inputs[name] = link ? source(level, prefix, link) : value;
      }
      writeNode(entry, prefix + id, { ...inputs, ...inside[id] }, isMuted || entry._meta?.mode === "mute");
    }
  };

  const writeNode = (entry: Entry, id: string, inputs: Record<string, Json>, isMuted: boolean) => {
    const inner = all[entry.class_type];
    if (inner) write(inner, `${id}/`, inputs, isMuted);
    else flat[id] = { class_type: entry.class_type, inputs, ...(isMuted ? { mode: "mute" } : {}) };
  };

  write(document, "", {}, false);
  return flat;
}

/** A flat graph without its ids: each node as a tree of its dependencies, sorted. */
export function shape(document: Document): string[] {
  const flat = inlined(document);
  const treeOf = (id: string): Json => {
    const node = flat[id];
    if (!node) return `nothing at ${id}`;
    const inputs = Object.entries(node.inputs).sort(([one], [other]) => one.localeCompare(other));
    return {
      kind: node.class_type,
      mode: node.mode ?? "",
      inputs: inputs.map(([name, value]): Json => {
        const link = asLink(value);
        return [name, link ? { from: treeOf(link[0]), slot: link[1] } : value];
      }),
    };
  };
  return Object.keys(flat)
    .map((id) => JSON.stringify(treeOf(id)))
    .sort();
}
