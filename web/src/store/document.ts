/** The document, its history, and how it is drawn. */

import { applyEdgeChanges, applyNodeChanges, type EdgeChange, type NodeChange } from "@xyflow/react";
import type { StateCreator } from "zustand";
import { type FlowEdge, type FlowNode, flowEdges, flowNodes, withoutGuesses } from "../canvas/flow";
import { layoutOf, place, withLayout } from "../edit";
import { guessedSize, withPlaces } from "../layout";
import type { Document, Kinds, Links, Pack, Point, Problem } from "../schema";
import { soundPath } from "../subgraphs";
import { emptyDocument, Faces, isSamePath, levelAt, readDocument, type Step, withLevel } from "../workflow";

interface Moment {
  document: Document;
  path: Step[];
}

export interface DocumentSlice {
  kinds: Kinds;
  links: Links;
  /** The packs that could not be loaded, so that their kinds are missing. */
  failedPacks: Pack[];
  document: Document;
  /** The name under which the server stores it; null if it was never saved. */
  name: string | null;
  /** The saved version that it is based on, if the server stores it. */
  version: number | undefined;
  /** The document in the state that needn't be saved: as the server has it, or as it was opened. */
  kept: Document | null;
  /** Values of the file that was opened, which the document lacks, as their nodes have no such input. */
  leftOut: Problem[];
  path: Step[];
  past: Moment[];
  future: Moment[];
  nodes: FlowNode[];
  edges: FlowEdge[];
  /** Incremented whenever another document is opened. */
  opened: number;
  /** Incremented whenever another document or level is shown, for the view to fit. */
  shown: number;
  faces: () => Faces;
  level: () => Document;
  selected: () => Set<string>;
  learn: (kinds: Kinds, links: Links) => void;
  open: (data: unknown, name?: string | null, version?: number) => boolean;
  /** Changes the document; consecutive changes with the same key are undone in one step. */
  edit: (change: (level: Document) => Document, key?: string) => void;
  editWhole: (change: (document: Document) => Document, key?: string) => void;
  undo: () => void;
  redo: () => void;
  enter: (path: Step[]) => void;
  select: (ids: Iterable<string>) => void;
  moveNodes: (changes: NodeChange<FlowNode>[]) => void;
  /** Replaces the estimated sockets of new nodes by measured ones. */
  forgetGuesses: () => void;
  changeEdges: (changes: EdgeChange<FlowEdge>[]) => void;
  /** Says which group is dragged, so that its contents move along. */
  hold: (group: string | null) => void;
  setKept: (document: Document, name: string, version: number) => void;
}

const MOST_STEPS = 200;
const SAME_STEP = 1500;

export const documentSlice: StateCreator<DocumentSlice> = (set, get) => {
  let found: { kinds: Kinds; subgraphs: Document["subgraphs"]; faces: Faces } | undefined;
  let last = { key: "", time: 0 };
  let carried = new Set<string>();
  let holding: string | null = null;

  const facesOf = (document: Document): Faces => {
    const { kinds } = get();
    if (found?.kinds !== kinds || found.subgraphs !== document.subgraphs) {
      found = { kinds, subgraphs: document.subgraphs, faces: new Faces(kinds, document.subgraphs ?? {}) };
    }
    return found.faces;
  };

  /** How a document is drawn; nodes without a position get one. */
  const drawn = (document: Document, path: Step[], before: FlowNode[], selected?: ReadonlySet<string>) => {
    const faces = facesOf(document);
    const unplaced = levelAt(document, path);
    const level = withPlaces(unplaced, (node) => {
      const entry = unplaced.graph[node];
      return guessedSize(faces.of(entry?.class_type ?? "", entry));
    });
    const nodes = flowNodes(level, faces, before, selected);
    return {
      document: withLevel(document, path, level),
      path,
      nodes,
      edges: flowEdges(level, nodes, get().edges),
    };
  };

  /** Draws the document again; positions given to nodes that had none don't count as a change. */
  const redrawn = (path: Step[], before: FlowNode[]) => {
    const { document, kept } = get();
    const fresh = drawn(document, path, before);
    return { ...fresh, kept: document === kept ? fresh.document : kept };
  };

  const moveTo = (from: "past" | "future", to: "past" | "future") => {
    const state = get();
    const moment = state[from].at(-1);
    if (!moment) return;
    last = { key: "", time: 0 };
    const path = soundPath(moment.document, moment.path);
    const isElsewhere = !isSamePath(path, state.path);
    set({
      ...drawn(moment.document, path, isElsewhere ? [] : state.nodes),
      [from]: state[from].slice(0, -1),
      [to]: [...state[to], { document: state.document, path: state.path }],
      shown: state.shown + (isElsewhere ? 1 : 0),
    });
  };

  const empty = emptyDocument();
  return {
    kinds: {},
    links: {},
    failedPacks: [],
    document: empty,
    name: null,
    version: undefined,
    kept: empty,
    leftOut: [],
    path: [],
    past: [],
    future: [],
    nodes: [],
    edges: [],
    opened: 0,
    shown: 0,

    faces: () => facesOf(get().document),
    level: () => levelAt(get().document, get().path),
    selected: () => new Set(get().nodes.flatMap((node) => (node.selected ? [node.id] : []))),

    learn: (kinds, links) => {
      set({ kinds, links });
      set(redrawn(get().path, get().nodes));
    },

    open: (data, name = null, version) => {
      const document = readDocument(data);
      if (!document) return false;
      last = { key: "", time: 0 };
      const fresh = drawn(document, [], []);
      set({
        ...fresh,
        name,
        version,
        kept: fresh.document,
        leftOut: [],
        past: [],
        future: [],
        opened: get().opened + 1,
        shown: get().shown + 1,
      });
      return true;
    },

    edit: (change, key) => {
      const { path } = get();
      get().editWhole((document) => withLevel(document, path, change(levelAt(document, path))), key);
    },

    editWhole: (change, key = "") => {
      const state = get();
      const document = change(state.document);
      if (document === state.document) return;
      const now = Date.now();
      const isSameStep = key !== "" && key === last.key && now - last.time < SAME_STEP;
      last = { key, time: now };
      const moment = { document: state.document, path: state.path };
      const past = isSameStep ? state.past : [...state.past, moment].slice(-MOST_STEPS);
      set({ ...drawn(document, state.path, state.nodes), past, future: [] });
    },

    undo: () => moveTo("past", "future"),
    redo: () => moveTo("future", "past"),

    enter: (path) => {
      const { document, shown } = get();
      set({ ...redrawn(soundPath(document, path), []), shown: shown + 1 });
    },

    select: (ids) => {
      const chosen = new Set(ids);
      const nodes = get().nodes.map((node) =>
        (node.selected ?? false) === chosen.has(node.id) ? node : { ...node, selected: chosen.has(node.id) },
      );
      set({ nodes });
    },

    hold: (group) => {
      holding = group;
      carried = group ? inside(get().nodes, group) : new Set();
    },

    moveNodes: (changes) => {
      const { nodes } = get();
      const moved = applyNodeChanges(withCarried(changes, nodes, holding, carried), nodes);
      set({ nodes: moved });
      const isEnd = changes.some(
        (change) =>
          (change.type === "position" && change.dragging === false) ||
          (change.type === "dimensions" && change.resizing === false),
      );
      if (isEnd) get().edit((level) => settled(level, moved), "move");
    },

    forgetGuesses: () => {
      const { nodes } = get();
      if (nodes.some((node) => node.handles)) set({ nodes: withoutGuesses(nodes) });
    },

    changeEdges: (changes) => {
      const chosen = changes.filter((change) => change.type === "select");
      if (chosen.length > 0) set({ edges: applyEdgeChanges(chosen, get().edges) });
    },

    setKept: (kept, name, version) => set({ kept, name, version }),
  };
};

/** The level with the new positions and sizes of nodes, notes and groups. */
function settled(level: Document, nodes: FlowNode[]): Document {
  const layout = layoutOf(level);
  const positions: Record<string, Point> = {};
  const sized = { nodes: { ...layout.nodes }, notes: { ...layout.notes }, groups: { ...layout.groups } };
  let isResized = false;
  for (const { id, type, position, width, height } of nodes) {
    const old = layout.nodes[id] ?? layout.notes[id] ?? layout.groups[id];
    if (!old) continue;
    if (old.x !== position.x || old.y !== position.y) {
      positions[id] = { x: Math.round(position.x), y: Math.round(position.y) };
    }
    const isWider = width !== undefined && old.width !== width;
    const isTaller = type !== "card" && "height" in old && old.height !== height;
    if (!isWider && !isTaller) continue;
    isResized = true;
    const box = { width: Math.round(width ?? 0), height: Math.round(height ?? 0) };
    const note = sized.notes[id];
    const group = sized.groups[id];
    const card = sized.nodes[id];
    if (note) sized.notes[id] = { ...note, ...box };
    else if (group) sized.groups[id] = { ...group, ...box };
    else if (card) sized.nodes[id] = { ...card, width: box.width };
  }
  const resized = isResized ? withLayout(level, sized) : level;
  return Object.keys(positions).length > 0 ? place(resized, positions) : resized;
}

/** The contents of a group. */
function inside(nodes: FlowNode[], group: string): Set<string> {
  const box = nodes.find((node) => node.id === group);
  if (!box) return new Set();
  const isIn = ({ position: { x, y } }: FlowNode) =>
    x >= box.position.x &&
    y >= box.position.y &&
    x < box.position.x + (box.width ?? 0) &&
    y < box.position.y + (box.height ?? 0);
  return new Set(nodes.filter((node) => node.type !== "group" && isIn(node)).map((node) => node.id));
}

/** The changes, with the contents of a dragged group moved along. */
function withCarried(
  changes: NodeChange<FlowNode>[],
  nodes: FlowNode[],
  group: string | null,
  carried: ReadonlySet<string>,
): NodeChange<FlowNode>[] {
  const move = changes.find((change) => change.type === "position" && change.id === group);
  const from = nodes.find((node) => node.id === group)?.position;
  if (!from || move?.type !== "position" || !move.position) return changes;
  const by = { x: move.position.x - from.x, y: move.position.y - from.y };
  const moving = new Set(changes.map((change) => ("id" in change ? change.id : "")));
  const along = nodes
    .filter((node) => carried.has(node.id) && !moving.has(node.id))
    .map((node): NodeChange<FlowNode> => {
      const position = { x: node.position.x + by.x, y: node.position.y + by.y };
      return { type: "position", id: node.id, position, dragging: move.dragging };
    });
  return [...changes, ...along];
}
