import type { Json, JsonSchema } from "./schema";
import { readNumber } from "./widgets";

function reader(schema: JsonSchema): (text: string) => Json | undefined {
  if (schema.type === "integer" || schema.type === "number") return (text) => readNumber(text, schema);
  return schema.type === "boolean" ? (text) => text === "true" : String;
}

/** The distinct values in a text: one per line, or separated by commas if they are numbers or choices. */
export function valuesOf(text: string, schema: JsonSchema): Json[] {
  const isShort = schema.type !== "string" || schema.enum !== undefined || schema.widget === "model";
  const parts = text.split(text.includes("\n") || !isShort ? "\n" : ",");
  const texts = parts.map((part) => part.trim()).filter(Boolean);
  return [...new Set(texts.map(reader(schema)).filter((value) => value !== undefined))];
}
