/** Reading documents: links, levels, and the face of a node, whether of a kind, a subgraph or unknown. */

import { freeName } from "./names";
import type {
  Document,
  Entry,
  InputSpec,
  Json,
  JsonSchema,
  Kind,
  Kinds,
  Layout,
  Link,
  Links,
  OutputSpec,
} from "./schema";

export interface Socket extends InputSpec {
  schema: JsonSchema;
}

/** How a node looks, whatever it is. */
export interface Face {
  form: "kind" | "subgraph" | "unknown";
  kind: string;
  help: string;
  category: string;
  saves: string | null;
  /** The pack that the kind comes from, if any. */
  pack: string | null;
  /** What to use instead; empty unless the kind is deprecated. */
  deprecated: string;
  /** Whether it runs in every run, and so does what depends on it. */
  volatile: boolean;
  inputs: Socket[];
  outputs: OutputSpec[];
}

/** One step into a subgraph: the node that was entered, and the name of its subgraph. */
export interface Step {
  node: string;
  name: string;
}

export const ANY = "Any";

export function emptyDocument(title = ""): Document {
  return { kinograph: 1, title, graph: {} };
}

export function emptyLayout(): Layout {
  return { nodes: {}, notes: {}, groups: {}, bends: {} };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether data, if they are a workflow at all, are a graph without a document around it. */
export function isBareGraph(data: unknown): boolean {
  return isRecord(data) && !("kinograph" in data || "graph" in data);
}

/** A document from the data of the server or a file: a document, or a bare graph. Null if it is neither. */
export function readDocument(data: unknown): Document | null {
  if (!isRecord(data)) return null;
  const whole = !isBareGraph(data);
  const graph = whole ? data.graph : data;
  if (!isRecord(graph)) return null;
  const entries: Record<string, Entry> = {};
  for (const [id, entry] of Object.entries(graph)) {
    if (!isRecord(entry) || typeof entry.class_type !== "string") return null;
    entries[id] = {
      ...entry,
      class_type: entry.class_type,
      inputs: isRecord(entry.inputs) ? entry.inputs : {},
    } as Entry;
  }
  if (!whole) return { kinograph: 1, graph: entries };
  const document = { ...data, kinograph: 1, graph: entries } as Document;
  if (isRecord(data.subgraphs)) {
    document.subgraphs = {};
    for (const [name, inner] of Object.entries(data.subgraphs)) {
      const read = readDocument(inner);
      if (!read) return null;
      document.subgraphs[name] = read;
    }
  }
  if (data.layout !== undefined) document.layout = withOwnIds(readLayout(data.layout), entries);
  return document;
}

/** The valid parts of a layout that any editor may have written. */
export function readLayout(data: unknown): Layout {
  const part = <T>(name: string, holds: (value: unknown) => boolean): Record<string, T> => {
    const found = isRecord(data) ? data[name] : undefined;
    if (!isRecord(found)) return {};
    return Object.fromEntries(Object.entries(found).filter(([, value]) => holds(value))) as Record<string, T>;
  };
  return {
    nodes: part("nodes", isPoint),
    notes: part("notes", isBox),
    groups: part("groups", isBox),
    bends: part("bends", (value) => Array.isArray(value) && value.every(isPoint)),
  };
}

/** The layout, with new ids for notes and groups whose id a node, or another of them, has as well. */
function withOwnIds(layout: Layout, graph: Document["graph"]): Layout {
  const taken: Record<string, unknown> = { ...graph };
  const renamed = <T>(items: Record<string, T>): Record<string, T> =>
    Object.fromEntries(
      Object.entries(items).map(([id, item]) => {
        const own = freeName(id, (name) => name in taken, "_");
        taken[own] = true;
        return [own, item];
      }),
    );
  return { ...layout, notes: renamed(layout.notes), groups: renamed(layout.groups) };
}

function isPoint(value: unknown): boolean {
  return isRecord(value) && Number.isFinite(value.x) && Number.isFinite(value.y);
}

function isBox(value: unknown): boolean {
  return isPoint(value) && isRecord(value) && Number.isFinite(value.width) && Number.isFinite(value.height);
}

/** The link in an input's JSON, or null if it is a constant. */
export function asLink(value: Json | undefined): Link | null {
  if (!Array.isArray(value) || value.length !== 2) return null;
  const [node, slot] = value;
  const isSlot = typeof slot === "string" || Number.isInteger(slot);
  return typeof node === "string" && isSlot ? [node, slot as number | string] : null;
}

/** The constant in an input's JSON. */
export function asConstant(value: Json | undefined): Json | undefined {
  const isWrapped = isRecord(value) && Object.keys(value).length === 1 && "__value__" in value;
  return isWrapped ? (value.__value__ as Json) : value;
}

/** A constant as JSON: what would be read as a link, or as wrapped, is wrapped. */
export function written(constant: Json): Json {
  const isMistakable = asLink(constant) !== null || asConstant(constant) !== constant;
  return isMistakable ? { __value__: constant } : constant;
}

export function socketPath(node: string, input: string): string {
  return `${node}.${input}`;
}

/**
 * The node and the input of "node.input". Both may have dots in them: the node is the one of `nodes` with the longest id
 * that fits, or if none does all before the last dot.
 */
export function splitPath(path: string, nodes: object): [node: string, input: string] {
  const last = path.lastIndexOf(".");
  for (let dot = last; dot > 0; dot = path.lastIndexOf(".", dot - 1)) {
    const node = path.slice(0, dot);
    if (Object.hasOwn(nodes, node)) return [node, path.slice(dot + 1)];
  }
  return [path.slice(0, Math.max(last, 0)), path.slice(last + 1)];
}

/** All links of a graph, with both ends. */
export function* linksOf(
  graph: Record<string, Entry>,
): Generator<{ link: Link; node: string; input: string }> {
  for (const [node, entry] of Object.entries(graph)) {
    for (const [input, value] of Object.entries(entry.inputs)) {
      const link = asLink(value);
      if (link) yield { link, node, input };
    }
  }
}

/** The document or subgraph that is shown. */
export function levelAt(document: Document, path: Step[]): Document {
  const last = path.at(-1);
  return (last && document.subgraphs?.[last.name]) ?? document;
}

/** The document with one level replaced. */
export function withLevel(document: Document, path: Step[], level: Document): Document {
  const last = path.at(-1);
  if (!last) return level;
  return { ...document, subgraphs: { ...document.subgraphs, [last.name]: level } };
}

/** Whether two paths lead into the same nodes. */
export function isSamePath(one: Step[], other: Step[]): boolean {
  return one.length === other.length && one.every((step, at) => step.node === other[at]?.node);
}

/** The id of a level's node in a run's events. */
export function runId(path: Step[], node: string): string {
  return [...path.map((step) => step.node), node].join("/");
}

/** The properties of a node without a kind: a subgraph, or an unknown one. */
const PLAIN = { category: "", saves: null, pack: null, deprecated: "", volatile: false };

function kindFace(kind: Kind): Face {
  const inputs = kind.inputs.map((input) => ({
    ...input,
    schema: kind.schema.properties?.[input.name] ?? {},
  }));
  const { category, help, outputs, saves, pack = null, deprecated = "", volatile = false } = kind;
  return {
    form: "kind",
    kind: kind.kind,
    help,
    category,
    saves,
    pack,
    deprecated,
    volatile,
    inputs,
    outputs,
  };
}

function unknownFace(name: string, entry: Entry | undefined, slots: Iterable<string>): Face {
  const inputs = Object.keys(entry?.inputs ?? {}).map((input) => ({
    name: input,
    type: ANY,
    required: false,
    help: "",
    schema: {},
  }));
  const outputs = [...slots].map((slot) => ({ name: slot, type: ANY }));
  return { ...PLAIN, form: "unknown", kind: name, help: "", inputs, outputs };
}

/** Finds the faces of a document's nodes; they are cached as long as the subgraphs stay the same. */
export class Faces {
  private readonly found = new Map<string, Face>();

  constructor(
    private readonly kinds: Kinds,
    private readonly subgraphs: Record<string, Document>,
  ) {}

  /** The face of a node; `slots` are the outputs that links come from, needed for unknown kinds. */
  of(name: string, entry?: Entry, slots: Iterable<string> = []): Face {
    return this.named(name) ?? unknownFace(name, entry, slots);
  }

  private named(name: string, within: string[] = []): Face | undefined {
    const known = this.found.get(name);
    if (known) return known;
    const kind = this.kinds[name];
    const subgraph = this.subgraphs[name];
    const face = kind
      ? kindFace(kind)
      : subgraph && !within.includes(name)
        ? this.ofSubgraph(name, subgraph, within)
        : undefined;
    if (face) this.found.set(name, face);
    return face;
  }

  private ofSubgraph(name: string, subgraph: Document, within: string[]): Face {
    const inner = [...within, name];
    const inputs = Object.entries(subgraph.inputs ?? {}).map(([exposed, path]): Socket => {
      const [node, input] = splitPath(path, subgraph.graph);
      const entry = subgraph.graph[node];
      const socket = this.named(entry?.class_type ?? "", inner)?.inputs.find((found) => found.name === input);
      const constant = entry?.inputs[input];
      const base = socket ?? { name: input, type: ANY, required: false, help: "", schema: {} };
      const given =
        constant === undefined ? {} : { required: false, default: asLink(constant) ? null : constant };
      return { ...base, ...given, name: exposed };
    });
    const outputs = Object.entries(subgraph.outputs ?? {}).map(([given, link]): OutputSpec => {
      const found = outputOf(this.named(subgraph.graph[link[0]]?.class_type ?? "", inner), link[1]);
      return { name: given, type: found?.type ?? ANY };
    });
    const { title, description } = subgraph;
    return {
      ...PLAIN,
      form: "subgraph",
      kind: name,
      help: description || title || "",
      inputs,
      outputs,
    };
  }
}

/** The output that a link's slot refers to. */
export function outputOf(face: Face | undefined, slot: number | string): OutputSpec | undefined {
  return typeof slot === "number"
    ? face?.outputs[slot]
    : face?.outputs.find((output) => output.name === slot);
}

/** Whether an input of one type may be linked to an output of another. */
export function fits(links: Links, output: string, input: string): boolean {
  return output === input || output === ANY || input === ANY || (links[output]?.includes(input) ?? false);
}

/** Whether a link from one node to another would close a cycle. */
export function closesCircle(graph: Record<string, Entry>, from: string, to: string): boolean {
  const seen = new Set<string>();
  const waiting = [from];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (node === to) return true;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const value of Object.values(graph[node]?.inputs ?? {})) {
      const link = asLink(value);
      if (link) waiting.push(link[0]);
    }
  }
  return false;
}

/** A type without "list of" and "or None", with choices as texts; it decides a socket's colour. */
export function coreType(type: string): string {
  return type
    .replace(/^list of /, "")
    .replace(/ or None$/, "")
    .replace(/^Literal\[.*/, "str");
}

/** The title of a node. */
export function titleOf(entry: Entry): string {
  return entry._meta?.title || words(entry.class_type);
}

/** A name for display: "KeyframeSampler" becomes "Keyframe sampler", "max_guidance" becomes "max guidance". */
export function words(name: string): string {
  const spaced = name
    .replace(/_/g, " ")
    .replace(/([a-z\d])([A-Z][a-z])/g, "$1 $2")
    .replace(/([A-Z]+)([A-Z][a-z]{2,})/g, "$1 $2");
  const [first = "", ...rest] = spaced.split(" ");
  return [first, ...rest.map((word) => (/^[A-Z][a-z]+$/.test(word) ? word.toLowerCase() : word))].join(" ");
}
