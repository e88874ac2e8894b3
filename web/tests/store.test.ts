import { beforeEach, describe, expect, it, vi } from "vitest";
import {
  add,
  collapseSelected,
  copied,
  endOf,
  enter,
  expandSelected,
  fittingEnds,
  link,
  mayLink,
  pasteDocument,
  removeSelected,
  setValue,
  toggleMode,
} from "../src/actions/editing";
import { store } from "../src/store";
import { shape } from "./inlined";
import { KINDS, LINKS, picture } from "./kinds";

const state = () => store.getState();
const graph = () => state().document.graph;

beforeEach(() => {
  vi.useFakeTimers();
  state().learn(KINDS, LINKS);
  state().open(picture());
  return () => vi.useRealTimers();
});

it("never puts a node onto another", () => {
  for (const _ of [1, 2]) add("Text", { x: 700, y: 700 });
  const places = Object.values(state().document.layout?.nodes ?? {}).map(({ x, y }) => `${x} ${y}`);
  expect(places).toContain("700 700");
  expect(new Set(places).size).toBe(places.length);
});

describe("undo and redo", () => {
  it("go back and forth through all changes", () => {
    const start = state().document;
    add("Text", { x: 0, y: 0 });
    removeSelected();
    setValue("draw", "steps", 50);
    const end = state().document;
    for (const _ of [1, 2, 3]) state().undo();
    expect(state().document).toBe(start);
    for (const _ of [1, 2, 3]) state().redo();
    expect(state().document).toBe(end);
  });

  it("treat continuous typing as one step, and later changes as others", () => {
    setValue("text", "text", "a f");
    setValue("text", "text", "a fox");
    vi.advanceTimersByTime(5000);
    setValue("text", "text", "a fox runs");
    state().undo();
    expect(graph().text?.inputs.text).toBe("a fox");
    state().undo();
    expect(graph().text?.inputs.text).toBe("a fish");
  });

  it("drop undone changes once something else is done", () => {
    setValue("draw", "steps", 50);
    state().undo();
    toggleMode("mute", ["save"]);
    expect(state().future).toEqual([]);
  });

  it("leave a subgraph that no longer exists", () => {
    state().select(["draw"]);
    collapseSelected();
    enter("subgraph");
    expect(state().path).toHaveLength(1);
    state().undo();
    expect(state().path).toEqual([]);
    expect(shape(state().document)).toEqual(shape(picture()));
  });
});

describe("linking", () => {
  const end = (node: string, socket: string, side: "input" | "output") => {
    const found = endOf(node, socket, side);
    if (!found) throw new Error(`no ${side} ${socket} of ${node}`);
    return found;
  };

  it("accepts only links that fit and close no cycle", () => {
    add("Draw", { x: 0, y: 0 });
    expect(mayLink(end("load", "out", "output"), end("draw_2", "model", "input"))).toBe(true);
    expect(mayLink(end("draw_2", "model", "input"), end("load", "out", "output"))).toBe(true);
    expect(mayLink(end("text", "out", "output"), end("draw_2", "model", "input"))).toBe(false);
    expect(mayLink(end("draw", "seed", "output"), end("draw", "steps", "input"))).toBe(false);
  });

  it("lists all inputs that an output may be linked to", () => {
    const found = fittingEnds(end("text", "out", "output"));
    expect(found.map(({ node, socket }) => `${node}.${socket}`)).toEqual(["load.source", "draw.prompt"]);
  });

  it("draws a link in the colour of its type", () => {
    add("Load", { x: 0, y: 0 });
    link(end("load_2", "out", "output"), end("draw", "model", "input"));
    expect(state().edges.find(({ id }) => id === "draw.model")).toMatchObject({
      source: "load_2",
      data: { type: "Model" },
    });
  });

  it("links a node that was added for a link", () => {
    add("Save", { x: 0, y: 0 }, end("draw", "images", "output"));
    expect(graph().save_2?.inputs.images).toEqual(["draw", "images"]);
  });
});

describe("copying", () => {
  it("copies the selection, and selects what is pasted", () => {
    state().select(["text", "draw"]);
    const copy = copied();
    if (copy) pasteDocument(copy, { x: 1000, y: 1000 });
    expect([...state().selected()]).toEqual(["text_2", "draw_2"]);
    expect(state().level().layout?.nodes.text_2).toEqual({ x: 1000, y: 1200 });
  });
});

describe("subgraphs", () => {
  it("are made of the selection and expanded again", () => {
    state().select(["load", "draw"]);
    collapseSelected();
    expect(Object.keys(graph())).toEqual(["text", "save", "subgraph"]);
    expandSelected();
    expect(shape(state().document)).toEqual(shape(picture()));
  });

  it("are edited inside, for the whole document", () => {
    state().select(["draw"]);
    collapseSelected();
    enter("subgraph");
    setValue("draw", "steps", 7);
    expect(state().document.subgraphs?.Subgraph?.graph.draw?.inputs.steps).toBe(7);
  });
});

describe("what is drawn", () => {
  it("stays the same object where nothing changed", () => {
    const before = new Map(state().nodes.map((node) => [node.id, node]));
    setValue("draw", "steps", 31);
    const changed = state().nodes.filter((node) => before.get(node.id) !== node);
    expect(changed.map(({ id }) => id)).toEqual(["draw"]);
  });

  it("gets positions where the document has none", () => {
    state().open({ graph: picture().graph });
    const places = state().nodes.map(({ position }) => position.x);
    expect(new Set(places).size).toBeGreaterThan(2);
    expect(places.every(Number.isFinite)).toBe(true);
  });

  it("moves the contents of a group along with it", () => {
    state().edit((level) => ({
      ...level,
      layout: {
        ...level.layout,
        groups: { g: { x: -10, y: -10, width: 120, height: 120, title: "", hue: 0 } },
      } as typeof level.layout,
    }));
    state().hold("g");
    state().moveNodes([{ type: "position", id: "g", position: { x: 90, y: -10 }, dragging: false }]);
    expect(state().level().layout?.nodes.load).toMatchObject({ x: 100, y: 0 });
    expect(state().level().layout?.nodes.draw).toMatchObject({ x: 300, y: 0 });
  });
});
