import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Document } from "../src/schema";
import { adopt, collapse, expand, mayHold, renameSubgraph, soundPath } from "../src/subgraphs";
import { selections } from "./documents";
import { shape } from "./inlined";
import { KINDS, picture } from "./kinds";

describe("making a subgraph", () => {
  it("exposes what comes in, gives what goes out, and keeps what was exposed", () => {
    const [document, id] = collapse(picture(), [], new Set(["draw"]), "Painter", KINDS);
    expect(document.graph[id]).toEqual({
      class_type: "Painter",
      inputs: { model: ["load", 0], prompt: ["text", "out"] },
      _meta: { title: "Painter" },
    });
    expect(document.subgraphs?.Painter?.inputs).toEqual({
      model: "draw.model",
      prompt: "draw.prompt",
      steps: "draw.steps",
    });
    expect(document.inputs).toEqual({ prompt: "text.text", steps: "painter.steps" });
    expect(document.graph.save?.inputs.images).toEqual(["painter", "images"]);
    expect(document.layout?.bends).toEqual(picture().layout?.bends);
  });

  it("keeps what its nodes do with lists whose items have failed", () => {
    const [document, id] = collapse(
      { ...picture(), partial: "allow" },
      [],
      new Set(["draw"]),
      "Painter",
      KINDS,
    );
    expect(document.partial).toBe("allow");
    const part = document.subgraphs?.Painter;
    if (!part) throw new Error("no subgraph");
    const [expanded, [draw]] = expand(
      { ...document, subgraphs: { Painter: { ...part, partial: "fail" } } },
      [],
      id,
    );
    expect(expanded.graph[draw ?? ""]?._meta?.partial).toBe("fail");
  });

  it("exposes inputs with dots in their names, through several levels", () => {
    const document = picture();
    const batch = {
      class_type: "Batch",
      inputs: { "images.image0": ["draw", "images"], "images.image1": 1 },
    };
    const whole = { ...document, graph: { ...document.graph, batch } } as Document;
    whole.inputs = { ...whole.inputs, second: "batch.images.image1" };
    const [once, outer] = collapse(whole, [], new Set(["batch"]), "Part", KINDS);
    expect(once.subgraphs?.Part?.inputs).toEqual({
      images_image0: "batch.images.image0",
      second: "batch.images.image1",
    });
    const [twice, node] = collapse(once, [], new Set([outer]), "Whole", KINDS);
    expect(shape(twice)).toEqual(shape(whole));
    expect(twice.inputs?.second).toBe("whole.second");
    const [back, [part]] = expand(twice, [], node);
    const [all] = expand(back, [], part ?? "");
    expect(shape(all)).toEqual(shape(whole));
    expect(all.inputs?.second).toBe("batch.images.image1");
  });

  it("takes a name that is neither a kind's nor another subgraph's", () => {
    const [once] = collapse(picture(), [], new Set(["load"]), "Draw", KINDS);
    expect(Object.keys(once.subgraphs ?? {})).toEqual(["Draw 2"]);
  });

  it("keeps the flat graph the same, and so does expanding it again", () => {
    fc.assert(
      fc.property(selections, ({ document, ids }) => {
        const [collapsed, id] = collapse(document, [], ids, "Part", KINDS);
        expect(shape(collapsed)).toEqual(shape(document));
        const [expanded, came] = expand(collapsed, [], id);
        expect(shape(expanded)).toEqual(shape(document));
        expect(came).toHaveLength(ids.size);
        expect(expanded.subgraphs).toBeUndefined();
        expect(Object.keys(expanded.inputs ?? {})).toEqual(["steps"]);
      }),
    );
  });

  it("does so within subgraphs", () => {
    fc.assert(
      fc.property(selections, fc.nat(), ({ document, ids }, chance) => {
        const [outer, node] = collapse(document, [], ids, "Part", KINDS);
        const path = [{ node, name: "Part" }];
        const inner = [...ids][chance % ids.size] ?? "";
        const [nested, deep] = collapse(outer, path, new Set([inner]), "Deep", KINDS);
        expect(shape(nested)).toEqual(shape(document));
        expect(shape(expand(nested, path, deep)[0])).toEqual(shape(document));
        expect(shape(expand(nested, [], node)[0])).toEqual(shape(document));
      }),
    );
  });

  it("mutes all nodes of an expanded muted one", () => {
    const [document, id] = collapse(picture(), [], new Set(["load", "text"]), "Sources", KINDS);
    const entry = document.graph[id];
    if (entry) entry._meta = { mode: "mute" };
    expect(shape(expand(document, [], id)[0])).toEqual(shape(document));
  });
});

describe("names and paths", () => {
  const [document, id] = collapse(picture(), [], new Set(["draw"]), "Painter", KINDS);

  it("renames a subgraph with its only node", () => {
    const renamed = renameSubgraph(document, "Painter", "Artist", KINDS);
    expect(renamed.graph[id]?.class_type).toBe("Artist");
    expect(shape(renamed)).toEqual(shape(picture()));
    expect(renameSubgraph(document, "Painter", "Save", KINDS)).toBe(document);
  });

  it("adds pasted subgraphs, under another name where theirs is taken by a different one", () => {
    const other = { ...document, subgraphs: { Painter: { kinograph: 1 as const, graph: {} } } };
    const [same] = adopt(document, document);
    expect(Object.keys(same.subgraphs ?? {})).toEqual(["Painter"]);
    const [both, copy] = adopt(document, other);
    expect(Object.keys(both.subgraphs ?? {})).toEqual(["Painter", "Painter 2"]);
    expect(copy.graph[id]?.class_type).toBe("Painter 2");
  });

  it("shortens a path to the steps that still exist", () => {
    const path = [{ node: id, name: "Painter" }];
    expect(soundPath(document, path)).toEqual(path);
    expect(soundPath(picture(), path)).toEqual([]);
  });

  it("keeps a subgraph out of itself", () => {
    expect(mayHold(document, [{ node: id, name: "Painter" }], "Painter")).toBe(false);
    expect(mayHold(document, [], "Painter")).toBe(true);
    expect(mayHold(document, [{ node: id, name: "Painter" }], "Load")).toBe(true);
  });
});
