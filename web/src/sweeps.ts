import { readJson } from "./json";
import type { Json, JsonSchema } from "./schema";
import { readNumber } from "./widgets";

function reader(schema: JsonSchema): (text: string) => Json | undefined {
  if (schema.enum) return (text) => schema.enum?.find((choice) => String(choice) === text) ?? text;
  if (schema.type === "integer" || schema.type === "number") return (text) => readNumber(text, schema);
  if (isJson(schema)) return readJson;
  return schema.type === "boolean" ? (text) => text === "true" : String;
}

/** Whether values are written as JSON. */
const isJson = ({ type }: JsonSchema) => type === "array" || type === "object";

/**
 * The distinct values in a text: one per line, or separated by commas if they are numbers or choices.
 *
 * Lists and objects are JSON; what can't be read is left out.
 */
export function valuesOf(text: string, schema: JsonSchema): Json[] {
  const isText = schema.type === "string" && schema.enum === undefined && schema.widget !== "model";
  const isShort = !isText && !isJson(schema);
  const parts = text.split(text.includes("\n") || !isShort ? "\n" : ",");
  const texts = new Set(parts.map((part) => part.trim()).filter(Boolean));
  return [...new Set([...texts].map(reader(schema)).filter((value) => value !== undefined))];
}
