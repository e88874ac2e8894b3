import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  addNode,
  exposeInput,
  fragment,
  hideInput,
  paste,
  remove,
  renameExposed,
  setBends,
  setInput,
  setMeta,
} from "../src/edit";
import { linksOf } from "../src/workflow";
import { selections } from "./documents";
import { picture } from "./kinds";

describe("removing", () => {
  it("removes links, exposed inputs, outputs and bends as well", () => {
    const left = remove(picture(), new Set(["draw"]));
    expect(left.graph.save?.inputs).toEqual({});
    expect(left.inputs).toEqual({ prompt: "text.text" });
    expect(left.outputs).toBeUndefined();
    expect(left.layout?.bends).toEqual({});
  });

  it("leaves no link to a removed node, and other nodes as they are", () => {
    fc.assert(
      fc.property(selections, ({ document, ids }) => {
        const left = remove(document, ids);
        for (const { link, node } of linksOf(left.graph)) expect([...ids]).not.toContain(link[0] || node);
        const untouched = Object.keys(left.graph).filter(
          (id) =>
            ![...linksOf({ [id]: document.graph[id] ?? { class_type: "", inputs: {} } })].some(({ link }) =>
              ids.has(link[0]),
            ),
        );
        for (const id of untouched) expect(left.graph[id]).toBe(document.graph[id]);
      }),
    );
  });
});

describe("pasting", () => {
  it("gives copies new ids, keeping links among them and from outside", () => {
    const copy = fragment(picture(), new Set(["text", "draw"]), {});
    const [level, ids] = paste(picture(), copy, { x: 40, y: 40 });
    expect(ids).toEqual(["text_2", "draw_2"]);
    expect(level.graph.draw_2?.inputs).toEqual({ model: ["load", 0], prompt: ["text_2", "out"], steps: 30 });
    expect(level.layout?.nodes.draw_2).toEqual({ x: 340, y: 40 });
  });

  it("drops links to nodes that are neither copied nor present", () => {
    const copy = fragment(picture(), new Set(["save"]), {});
    const [level] = paste({ kinograph: 1, graph: {} }, copy, { x: 0, y: 0 });
    expect(level.graph.save?.inputs).toEqual({});
  });

  it("keeps the copy as it was, however often it is pasted", () => {
    fc.assert(
      fc.property(selections, ({ document, ids }) => {
        const copy = fragment(document, ids, {});
        const [once, first] = paste(document, copy, { x: 0, y: 0 });
        const [twice, second] = paste(once, copy, { x: 0, y: 0 });
        expect(new Set([...Object.keys(document.graph), ...first, ...second]).size).toBe(
          Object.keys(twice.graph).length,
        );
        for (const id of Object.keys(document.graph)) expect(twice.graph[id]).toBe(document.graph[id]);
      }),
    );
  });
});

describe("inputs", () => {
  it("drops the bends of a cut link, and keeps those of a moved one", () => {
    const bent = setBends(picture(), "draw.model", [{ x: 1, y: 2 }]);
    expect(setInput(bent, "draw", "model", ["other", 0]).layout?.bends).toHaveProperty("draw.model");
    expect(setInput(bent, "draw", "model", undefined).layout?.bends).not.toHaveProperty("draw.model");
  });

  it("are exposed under a free name, hidden and renamed in their place", () => {
    const exposed = exposeInput(picture(), "draw", "prompt");
    expect(exposed.inputs).toEqual({ prompt: "text.text", steps: "draw.steps", prompt_2: "draw.prompt" });
    expect(hideInput(exposed, "draw", "prompt").inputs).toEqual(picture().inputs);
    expect(Object.keys(renameExposed(exposed, "prompt", "theme").inputs ?? {})).toEqual([
      "theme",
      "steps",
      "prompt_2",
    ]);
    expect(renameExposed(exposed, "prompt", "steps")).toBe(exposed);
  });
});

it("names new nodes after their kind", () => {
  const [once, first] = addNode(picture(), "KeyframeSampler", { x: 1, y: 2 });
  const [twice, second] = addNode(once, "KeyframeSampler", { x: 1, y: 2 });
  expect([first, second]).toEqual(["keyframe_sampler", "keyframe_sampler_2"]);
  expect(twice.layout?.nodes[second]).toEqual({ x: 1, y: 2 });
});

it("leaves no empty entries when a mode or title is removed", () => {
  const muted = setMeta(picture(), ["load"], { mode: "mute" });
  expect(muted.graph.load?._meta).toEqual({ mode: "mute" });
  expect(setMeta(muted, ["load"], { mode: undefined }).graph.load?._meta).toBeUndefined();
});
