import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Json } from "../src/schema";
import {
  asConstant,
  asLink,
  closesCircle,
  Faces,
  fits,
  readDocument,
  readLayout,
  splitPath,
  words,
  written,
} from "../src/workflow";
import { documents } from "./documents";
import { KINDS, LINKS, picture } from "./kinds";

describe("reading documents", () => {
  it("keeps every part of a document", () => {
    const document = picture();
    expect(readDocument(JSON.parse(JSON.stringify(document)))).toEqual(document);
  });

  it("keeps random documents", () => {
    fc.assert(
      fc.property(documents, (document) => {
        expect(readDocument(document)).toEqual(document);
      }),
    );
  });

  it("takes a bare graph", () => {
    const allowing = { ...picture(), partial: "allow" as const };
    expect(readDocument(JSON.parse(JSON.stringify(allowing)))?.partial).toBe("allow");
    expect(readDocument(picture().graph)?.graph).toEqual(picture().graph);
  });

  it("gives notes and groups with a node's id new ids", () => {
    const box = { x: 0, y: 0, width: 9, height: 9 };
    const layout = {
      notes: { a: { ...box, text: "" } },
      groups: { a: { ...box, title: "", hue: 1 }, b: { ...box, title: "", hue: 2 } },
    };
    const read = readDocument({ graph: { a: { class_type: "Load" } }, layout })?.layout;
    expect([Object.keys(read?.notes ?? {}), Object.keys(read?.groups ?? {})]).toEqual([
      ["a_2"],
      ["a_3", "b"],
    ]);
  });

  it("gives nodes without inputs none", () => {
    expect(readDocument({ a: { class_type: "Load" } })?.graph.a?.inputs).toEqual({});
  });

  it.each([[null], ["text"], [[]], [{ a: 1 }], [{ graph: { a: {} } }], [{ graph: [] }]])(
    "refuses %j",
    (data) => {
      expect(readDocument(data)).toBeNull();
    },
  );

  it("drops the parts of a foreign layout that it can't place", () => {
    const layout = readLayout({
      nodes: { a: { x: 1, y: 2 }, b: { x: "left" } },
      bends: { "a.b": "none" },
      notes: 7,
    });
    expect(layout).toEqual({ nodes: { a: { x: 1, y: 2 } }, notes: {}, groups: {}, bends: {} });
  });
});

describe("constants and links", () => {
  it("recognises a link by its two parts", () => {
    expect(asLink(["draw", 0])).toEqual(["draw", 0]);
    expect(asLink(["draw", "images"])).toEqual(["draw", "images"]);
    expect(asLink(["a", "b", "c"])).toBeNull();
    expect(asLink(["draw", 0.5])).toBeNull();
  });

  it("writes any constant so that it is read as itself, never as a link", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const json = written(value as Json);
        expect(asLink(json)).toBeNull();
        expect(asConstant(json)).toEqual(value);
      }),
    );
  });

  it("wraps a list of two texts, which would read as a link", () => {
    expect(written(["one", "two"])).toEqual({ __value__: ["one", "two"] });
    expect(written(["one"])).toEqual(["one"]);
  });

  it("splits a path where a node's id ends, or else at its last dot", () => {
    const nodes = { my: {}, "my.node": {} };
    expect(splitPath("my.node.input", nodes)).toEqual(["my.node", "input"]);
    expect(splitPath("my.images.image0", nodes)).toEqual(["my", "images.image0"]);
    expect(splitPath("no.such.input", nodes)).toEqual(["no.such", "input"]);
    expect(splitPath("input", nodes)).toEqual(["", "input"]);
  });
});

describe("what may be linked", () => {
  it("goes by the server's types", () => {
    expect(fits(LINKS, "int", "float")).toBe(true);
    expect(fits(LINKS, "float", "int")).toBe(false);
    expect(fits(LINKS, "Image", "Model")).toBe(false);
  });

  it("lets anything into Any, and Any into anything", () => {
    expect(fits(LINKS, "Image", "Any")).toBe(true);
    expect(fits(LINKS, "Any", "Model")).toBe(true);
  });

  it("recognises the cycle that a link would close", () => {
    const { graph } = picture();
    expect(closesCircle(graph, "save", "load")).toBe(true);
    expect(closesCircle(graph, "load", "save")).toBe(false);
    expect(closesCircle(graph, "draw", "draw")).toBe(true);
  });
});

describe("faces", () => {
  const subgraph = {
    kinograph: 1 as const,
    inputs: { words: "draw.prompt", model: "draw.model" },
    outputs: { picture: ["draw", 0] as [string, number] },
    graph: { draw: { class_type: "Draw", inputs: { prompt: "a fish" } } },
  };

  it("shows a kind's inputs with their schemas", () => {
    const face = new Faces(KINDS, {}).of("Draw");
    expect(face.inputs.map(({ name }) => name)).toEqual(["model", "prompt", "steps"]);
    expect(face.inputs[2]?.schema.maximum).toBe(100);
  });

  it("shows what a subgraph exposes, with the inner constants as defaults", () => {
    const face = new Faces(KINDS, { Painter: subgraph }).of("Painter");
    expect(face.form).toBe("subgraph");
    expect(face.inputs).toMatchObject([
      { name: "words", type: "str", required: false, default: "a fish" },
      { name: "model", type: "Model", required: true },
    ]);
    expect(face.outputs).toEqual([{ name: "picture", type: "Image" }]);
  });

  it("resolves nested subgraphs, and stops at one that contains itself", () => {
    const outer = {
      kinograph: 1 as const,
      inputs: { text: "p.words" },
      graph: { p: { class_type: "Painter", inputs: {} } },
    };
    const loop = {
      kinograph: 1 as const,
      inputs: { x: "l.x" },
      graph: { l: { class_type: "Loop", inputs: {} } },
    };
    const faces = new Faces(KINDS, { Painter: subgraph, Outer: outer, Loop: loop });
    expect(faces.of("Outer").inputs[0]).toMatchObject({ name: "text", type: "str", default: "a fish" });
    expect(faces.of("Loop").inputs[0]).toMatchObject({ name: "x", type: "Any" });
  });

  it("shows a node of an unknown kind by its inputs", () => {
    const face = new Faces(KINDS, {}).of("Foreign", { class_type: "Foreign", inputs: { a: 1 } }, ["0"]);
    expect(face).toMatchObject({ form: "unknown", inputs: [{ name: "a" }], outputs: [{ name: "0" }] });
  });
});

it.each([
  ["KeyframeSampler", "Keyframe sampler"],
  ["max_guidance", "max guidance"],
  ["LoRALoad", "LoRA load"],
  ["SVDSampler", "SVD sampler"],
])("writes %s as %s", (name, written) => {
  expect(words(name)).toBe(written);
});
