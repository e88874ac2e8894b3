/** User actions on nodes and links. */

import {
  addNode,
  exposeInput,
  exposeOutput,
  fragment,
  hideInput,
  hideOutput,
  idsOf,
  isExposed,
  isGiven,
  layoutOf,
  paste,
  remove,
  setBends,
  setInput,
  setMeta,
  setPlaced,
  withLayout,
} from "../edit";
import { t } from "../i18n";
import { parse } from "../json";
import { arranged, guessedSize, NODE_WIDTH } from "../layout";
import { freshId } from "../names";
import type { Document, Json, Mode, Point } from "../schema";
import { store } from "../store";
import type { End } from "../store/ui";
import { adopt, collapse, cornerOf, expand, mayHold, renameSubgraph } from "../subgraphs";
import {
  ANY,
  asLink,
  closesCircle,
  type Face,
  fits,
  levelAt,
  readDocument,
  withLevel,
  words,
  written,
} from "../workflow";

const { getState } = store;

export function setValue(node: string, input: string, value: Json | undefined): void {
  const json = value === undefined ? undefined : written(value);
  getState().edit((level) => setInput(level, node, input, json), `value ${node} ${input}`);
}

/** Whether two ends may be linked, by the server's types. */
export function mayLink(one: End, other: End): boolean {
  const [output, input] = one.side === "output" ? [one, other] : [other, one];
  if (output.side !== "output" || input.side !== "input" || output.node === input.node) return false;
  const { links, level } = getState();
  return fits(links, output.type, input.type) && !closesCircle(level().graph, output.node, input.node);
}

export function link(one: End, other: End): void {
  const [output, input] = one.side === "output" ? [one, other] : [other, one];
  getState().edit((level) => setInput(level, input.node, input.socket, [output.node, output.socket]));
}

/** The end of a link at a node's socket. */
export function endOf(node: string, socket: string, side: End["side"]): End | null {
  const found = getState().nodes.find((card) => card.id === node);
  if (found?.type !== "card") return null;
  const { inputs, outputs } = found.data.face;
  const spec = (side === "input" ? inputs : outputs).find(({ name }) => name === socket);
  return { node, side, socket, type: spec?.type ?? ANY };
}

/** All ends that an end may be linked to. */
export function fittingEnds(end: End): End[] {
  const side = end.side === "output" ? "input" : "output";
  return getState().nodes.flatMap((node) => {
    if (node.type !== "card") return [];
    const sockets = side === "input" ? node.data.face.inputs : node.data.face.outputs;
    return sockets
      .map(({ name, type }): End => ({ node: node.id, side, socket: name, type }))
      .filter((other) => mayLink(end, other));
  });
}

/** The sockets of a face that an end may be linked to. */
export function fittingSockets(face: Face, end: End): { name: string; type: string }[] {
  const { links } = getState();
  return end.side === "output"
    ? face.inputs.filter(({ type }) => fits(links, end.type, type))
    : face.outputs.filter(({ type }) => fits(links, type, end.type));
}

export function unlink(node: string, input: string): void {
  getState().edit((level) => setInput(level, node, input, undefined));
}

const STEP_ASIDE = 40;

/** A position near another one where no node's corner is, so that no node hides another. */
function besideOthers(at: Point): Point {
  const corners = getState().nodes.map(({ position }) => position);
  let { x, y } = at;
  while (corners.some((corner) => Math.hypot(corner.x - x, corner.y - y) < STEP_ASIDE / 2)) {
    x += STEP_ASIDE;
    y += STEP_ASIDE;
  }
  return { x, y };
}

/** Adds a node of a kind, links it to an end if one is given, and selects it. */
export function add(kind: string, at: Point, end: End | null = null): void {
  const { edit, select, faces, tell, document, path } = getState();
  if (!mayHold(document, path, kind)) {
    tell(t("subgraph.inItself"), "bad");
    return;
  }
  const [socket] = end ? fittingSockets(faces().of(kind), end) : [];
  let made = "";
  edit((level) => {
    const [grown, id] = addNode(level, kind, besideOthers(at));
    made = id;
    if (!end || !socket) return grown;
    return end.side === "output"
      ? setInput(grown, id, socket.name, [end.node, end.socket])
      : setInput(grown, end.node, end.socket, [id, socket.name]);
  });
  select([made]);
}

export function removeSelected(): void {
  const { edges, selected, edit } = getState();
  const ids = selected();
  const links = edges.filter((edge) => edge.selected);
  if (ids.size === 0 && links.length === 0) return;
  edit((level) =>
    links.reduce(
      (left, { target, targetHandle }) => setInput(left, target, targetHandle ?? "", undefined),
      remove(level, ids),
    ),
  );
}

export function removeNode(id: string): void {
  getState().edit((level) => remove(level, new Set([id])));
}

/** Mutes or bypasses nodes; if all are in that mode already, removes it. */
export function toggleMode(mode: Mode, ids: Iterable<string> = getState().selected()): void {
  getState().edit((level) => {
    const nodes = [...ids].filter((id) => id in level.graph);
    const isAll = nodes.length > 0 && nodes.every((id) => level.graph[id]?._meta?.mode === mode);
    return nodes.length > 0 ? setMeta(level, nodes, { mode: isAll ? undefined : mode }) : level;
  });
}

export function toggleFolded(node: string): void {
  getState().edit((level) => setPlaced(level, node, { collapsed: !level.layout?.nodes[node]?.collapsed }));
}

/** Renames a node, and its subgraph if no other node uses that. */
export function rename(node: string, text: string): void {
  const { editWhole, path, level, kinds } = getState();
  const title = text.trim();
  const kind = level().graph[node]?.class_type ?? "";
  editWhole((document) => {
    const titled = withLevel(
      document,
      path,
      setMeta(levelAt(document, path), [node], { title: title || undefined }),
    );
    return renameSubgraph(titled, kind, title, kinds);
  });
}

export function toggleInput(node: string, input: string): void {
  getState().edit((level) =>
    isExposed(level, node, input) ? hideInput(level, node, input) : exposeInput(level, node, input),
  );
}

export function toggleOutput(node: string, slots: (number | string)[], name: string): void {
  getState().edit((level) =>
    isGiven(level, node, slots) ? hideOutput(level, node, slots) : exposeOutput(level, node, name),
  );
}

/** The selection as a separate document; null if nothing is selected. */
export function copied(): Document | null {
  const { selected, level, document } = getState();
  const ids = selected();
  return ids.size > 0 ? fragment(level(), ids, document.subgraphs ?? {}) : null;
}

/** Inserts a document's nodes with their upper left corner at a position, and selects them. */
export function pasteDocument(copy: Document, at: Point | null): void {
  const { editWhole, path, select } = getState();
  const { nodes, notes, groups } = layoutOf(copy);
  const corner = cornerOf([...Object.values(nodes), ...Object.values(notes), ...Object.values(groups)]);
  const by = at && Number.isFinite(corner.x) ? { x: at.x - corner.x, y: at.y - corner.y } : { x: 40, y: 40 };
  let pasted: string[] = [];
  editWhole((document) => {
    const [grown, renamed] = adopt(document, copy);
    const [level, ids] = paste(levelAt(grown, path), renamed, by);
    pasted = ids;
    return withLevel(grown, path, level);
  });
  select(pasted);
}

/** Pastes text if it is a workflow or part of one; returns whether it was. */
export function pasteText(text: string, at: Point | null): boolean {
  try {
    const copy = readDocument(parse(text));
    if (copy) pasteDocument(copy, at);
    return copy !== null;
  } catch {
    return false;
  }
}

export function duplicate(): void {
  const copy = copied();
  if (copy) pasteDocument(copy, null);
}

export function tidy(): void {
  const { edit, nodes, faces, shown } = getState();
  const sizes = new Map(nodes.map(({ id, measured }) => [id, measured]));
  edit((level) =>
    arranged(level, (node) => {
      const { width, height } = sizes.get(node) ?? {};
      const entry = level.graph[node];
      return width && height ? { width, height } : guessedSize(faces().of(entry?.class_type ?? "", entry));
    }),
  );
  store.setState({ shown: shown + 1 });
}

/** Makes a subgraph of the selected nodes. */
export function collapseSelected(): void {
  const { selected, level, path, kinds, editWhole, select } = getState();
  const ids = new Set([...selected()].filter((id) => id in level().graph));
  if (ids.size === 0) return;
  let made = "";
  editWhole((document) => {
    const [changed, id] = collapse(document, path, ids, t("subgraph.name"), kinds);
    made = id;
    return changed;
  });
  select([made]);
  getState().set({ renaming: made });
}

/** Expands the selected subgraphs. */
export function expandSelected(ids: Iterable<string> = getState().selected()): void {
  const { path, editWhole, select, level, tell } = getState();
  const graph = level().graph;
  if ([...ids].some((id) => graph[id]?._meta?.mode === "bypass")) {
    tell(t("subgraph.bypassed"), "bad");
    return;
  }
  let came: string[] = [];
  editWhole((document) => {
    let changed = document;
    for (const id of ids) {
      const [next, made] = expand(changed, path, id);
      changed = next;
      came = [...came, ...made];
    }
    return changed;
  });
  if (came.length > 0) select(came);
}

export function enter(node: string): void {
  const { path, enter: go, level } = getState();
  const name = level().graph[node]?.class_type;
  if (name) go([...path, { node, name }]);
}

export function addNote(at: Point): void {
  getState().edit((level) => {
    const { notes } = layoutOf(level);
    const id = freshId(idsOf(level), "note");
    return withLayout(level, { notes: { ...notes, [id]: { ...at, width: 220, height: 120, text: "" } } });
  });
}

export const GROUP_HUES = [212, 276, 150, 28, 328];
const GROUP_EDGE = 28;

/** Draws a group around the selection, or an empty one. */
export function addGroup(at: Point): void {
  const { nodes, edit } = getState();
  const chosen = nodes.filter((node) => node.selected && node.type !== "group");
  edit((level) => {
    const { groups } = layoutOf(level);
    const id = freshId(idsOf(level), "group");
    const hue = GROUP_HUES[Object.keys(groups).length % GROUP_HUES.length] ?? 212;
    const { x, y } = chosen.length > 0 ? cornerOf(chosen.map((node) => node.position)) : at;
    const right = Math.max(
      x + NODE_WIDTH,
      ...chosen.map((node) => node.position.x + (node.measured?.width ?? NODE_WIDTH)),
    );
    const bottom = Math.max(
      y + 160,
      ...chosen.map((node) => node.position.y + (node.measured?.height ?? 160)),
    );
    const box = {
      x: x - GROUP_EDGE,
      y: y - GROUP_EDGE - 28,
      width: right - x + 2 * GROUP_EDGE,
      height: bottom - y + 2 * GROUP_EDGE + 28,
    };
    return withLayout(level, { groups: { ...groups, [id]: { ...box, title: t("group.title"), hue } } });
  });
}

export function setNote(id: string, text: string): void {
  getState().edit((level) => {
    const { notes } = layoutOf(level);
    const note = notes[id];
    return note ? withLayout(level, { notes: { ...notes, [id]: { ...note, text } } }) : level;
  }, `note ${id}`);
}

export function setGroup(id: string, change: { title?: string; hue?: number }): void {
  getState().edit((level) => {
    const { groups } = layoutOf(level);
    const group = groups[id];
    return group ? withLayout(level, { groups: { ...groups, [id]: { ...group, ...change } } }) : level;
  }, `group ${id}`);
}

export function bend(path: string, points: Point[]): void {
  getState().edit((level) => setBends(level, path, points));
}

/** Whether an input of a node is linked. */
export function isLinked(node: string, input: string): boolean {
  return asLink(getState().level().graph[node]?.inputs[input]) !== null;
}

/** The name of a socket, for display and assistive technology. */
export function nameOfEnd(end: End): string {
  return `${words(end.socket)} · ${getState().nodes.find(({ id }) => id === end.node)?.ariaLabel ?? end.node}`;
}
