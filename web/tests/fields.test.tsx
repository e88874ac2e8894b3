import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";
import { FieldOf } from "../src/fields";
import { readJson } from "../src/json";
import type { JsonSchema } from "../src/schema";
import { valuesOf } from "../src/sweeps";
import { fieldFor, readNumber, stepOf } from "../src/widgets";

describe("the field for a schema", () => {
  it.each<[string | null, JsonSchema]>([
    ["slider", { type: "integer", minimum: 1, maximum: 100 }],
    ["slider", { type: "number", exclusiveMinimum: 0, maximum: 1 }],
    ["integer", { type: "integer", minimum: 0 }],
    ["integer", { type: "integer", minimum: 1, maximum: 65536 }],
    ["seed", { type: "integer", minimum: 0, exclusiveMaximum: 2 ** 64, widget: "seed" }],
    ["choice", { type: "string", enum: ["a", "b"] }],
    ["boolean", { type: "boolean" }],
    ["string", { type: "string" }],
    ["multiline", { type: "string", widget: "multiline" }],
    ["model", { anyOf: [{ type: "string", widget: "model" }, { type: "null" }] }],
    ["array of string", { type: "array", items: { type: "string" } }],
    ["object", { type: "object" }],
    [null, { socket: "Image" }],
    [null, { type: "array", items: { socket: "Video" } }],
    [null, { anyOf: [{ socket: "Table" }, { type: "null" }] }],
    [null, { anyOf: [{ socket: "Table" }, { socket: "Video" }] }],
    [null, {}],
  ])("is %s for %j", (name, schema) => {
    expect(fieldFor(schema)).toBe(name);
  });
});

describe("a widget", () => {
  const markup = (schema: JsonSchema, value: unknown) => {
    const name = fieldFor(schema);
    if (!name) throw new Error("no field");
    return renderToStaticMarkup(
      <FieldOf name={name} label="steps" schema={schema} value={value as never} onChange={() => {}} />,
    );
  };

  it("says its name and its range", () => {
    expect(markup({ type: "integer", minimum: 1, maximum: 9 }, 3)).toMatch(
      /type="range".*min="1" max="9".*aria-label="steps"/,
    );
  });

  it("shows the chosen value, even one that isn't offered", () => {
    expect(markup({ enum: ["a", "b"] }, "b")).toContain('<option value="1" selected="">b</option>');
    expect(markup({ enum: ["a", "b"] }, "c")).toContain('<option value="-1" selected="">c</option>');
  });

  it("can be switched off where none is allowed", () => {
    const schema: JsonSchema = { anyOf: [{ type: "string" }, { type: "null" }] };
    expect(markup(schema, null)).not.toContain('type="text"');
    expect(markup(schema, "x")).toContain('type="text"');
  });
});

describe("reading", () => {
  it("requires integers where the schema does", () => {
    expect(readNumber("12", { type: "integer" })).toBe(12);
    expect(readNumber("1.5", { type: "integer" })).toBeUndefined();
    expect(readNumber("1.5", { type: "number" })).toBe(1.5);
    expect(readNumber("", { type: "number" })).toBeUndefined();
    expect(readNumber("-", { type: "number" })).toBeUndefined();
  });

  it("moves a slider in steps that suit its range", () => {
    expect(stepOf({ type: "integer", multipleOf: 8 })).toBe(8);
    expect(stepOf({ type: "number", minimum: 0, maximum: 1 })).toBe(0.01);
  });

  it("distinguishes JSON from unfinished input", () => {
    expect(readJson('{"a": 1}')).toEqual({ a: 1 });
    expect(readJson('{"a"')).toBeUndefined();
  });

  it("reads the values of a sweep between commas, or one per line", () => {
    expect(valuesOf("1, 2,2, x", { type: "integer" })).toEqual([1, 2]);
    expect(valuesOf("a fish, red\na boat", { type: "string" })).toEqual(["a fish, red", "a boat"]);
    expect(valuesOf("true,false", { type: "boolean" })).toEqual([true, false]);
    expect(valuesOf("auto, 2", { enum: ["auto", 2] })).toEqual(["auto", 2]);
  });

  it("reads lists and objects of a sweep as JSON, one per line", () => {
    const numbers: JsonSchema = { type: "array", items: { type: "integer" } };
    expect(valuesOf("[1, 2]\n[3]\n[3]\n[4", numbers)).toEqual([[1, 2], [3]]);
    expect(valuesOf('{"a": 1, "b": 2}', { type: "object" })).toEqual([{ a: 1, b: 2 }]);
  });
});
