/** A few kinds of node, as the server describes them, and documents made of these. */

import type { Document, InputSpec, JsonSchema, Kind, Kinds, Links } from "../src/schema";

type Given = [name: string, type: string, schema: JsonSchema, more?: Partial<InputSpec>];

function kind(
  name: string,
  inputs: Given[],
  outputs: [name: string, type: string][],
  saves: string | null = null,
): Kind {
  return {
    kind: name,
    version: 1,
    category: "image",
    help: `${name} helps.`,
    uses: "cpu",
    saves,
    inputs: inputs.map(([input, type, , more]) => ({ name: input, type, required: true, help: "", ...more })),
    outputs: outputs.map(([output, type]) => ({ name: output, type })),
    schema: { properties: Object.fromEntries(inputs.map(([input, , schema]) => [input, schema])) },
  };
}

const optional = (value: InputSpec["default"]) => ({ required: false, default: value });

export const KINDS: Kinds = {
  Load: kind("Load", [["source", "str", { type: "string", widget: "model" }]], [["out", "Model"]]),
  Text: kind("Text", [["text", "str", { type: "string", widget: "multiline" }]], [["out", "str"]]),
  Draw: kind(
    "Draw",
    [
      ["model", "Model", { socket: "Model" }],
      ["prompt", "str", { type: "string", widget: "multiline" }],
      ["steps", "int", { type: "integer", minimum: 1, maximum: 100 }, optional(20)],
    ],
    [
      ["images", "Image"],
      ["seed", "int"],
    ],
  ),
  Save: kind("Save", [["images", "Image", { socket: "Image" }]], [["out", "Files"]], "image"),
};

export const LINKS: Links = {
  Model: ["Model"],
  str: ["str"],
  Image: ["Image"],
  int: ["int", "float"],
  Files: [],
};

/** Load → Draw → Save, with a text for the prompt. */
export function picture(): Document {
  return {
    kinograph: 1,
    title: "A picture",
    inputs: { prompt: "text.text", steps: "draw.steps" },
    outputs: { image: ["draw", 0] },
    graph: {
      load: { class_type: "Load", inputs: { source: "sprite/sdxl" } },
      text: { class_type: "Text", inputs: { text: "a fish" } },
      draw: { class_type: "Draw", inputs: { model: ["load", 0], prompt: ["text", "out"], steps: 30 } },
      save: { class_type: "Save", inputs: { images: ["draw", "images"] }, _meta: { title: "Keep" } },
    },
    layout: {
      nodes: { load: { x: 0, y: 0 }, text: { x: 0, y: 200 }, draw: { x: 300, y: 0 }, save: { x: 600, y: 0 } },
      notes: {},
      groups: {},
      bends: { "save.images": [{ x: 500, y: 40 }] },
    },
  };
}
