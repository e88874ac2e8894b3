import { describe, expect, it } from "vitest";
import { byCategory, listOf, modelSchemas, suits } from "../src/models";
import type { JsonSchema, Kinds, ListedModel } from "../src/schema";

const model = (source: string, form: string, category?: string, problem?: string): ListedModel => ({
  source,
  path: `/models/${source}`,
  bytes: 5,
  form,
  category,
  problem,
});

const lora: JsonSchema = {
  type: "string",
  widget: "model",
  takes: ["safetensors", "folder"],
  categories: ["loras"],
};

describe("the models that an input is offered", () => {
  it.each<[boolean, ListedModel, JsonSchema]>([
    [true, model("neon.safetensors", "safetensors", "loras"), lora],
    [true, model("hf:a/neon", "folder"), lora],
    [false, model("sd_xl.safetensors", "safetensors", "checkpoints"), lora],
    [false, model("qwen.gguf", "gguf"), lora],
    [false, model("old.pt", "pt", "loras", "can run code"), { ...lora, takes: ["pt"] }],
    [true, model("qwen.gguf", "gguf", "llm"), { type: "string", widget: "model" }],
  ])("%s for %j and %j", (isOffered, found, schema) => {
    expect(suits(schema, found)).toBe(isOffered);
  });

  it("have a list for each sort of input, also for those that may be left out", () => {
    const kind = (source: JsonSchema) => ({ schema: { properties: { source, steps: { type: "integer" } } } });
    const optional: JsonSchema = { anyOf: [{ type: "string", widget: "model" }, { type: "null" }] };
    const kinds = { A: kind(lora), B: kind(lora), C: kind(optional) } as unknown as Kinds;
    expect([...modelSchemas(kinds).keys()]).toEqual([listOf(lora), listOf({})]);
  });

  it("are shown by category, those of none last", () => {
    const models = [model("a", "folder"), model("b", "gguf", "vae"), model("c", "gguf", "loras")];
    expect(byCategory(models).map(([category, [first]]) => [category, first?.source])).toEqual([
      ["loras", "c"],
      ["vae", "b"],
      ["", "a"],
    ]);
  });
});
