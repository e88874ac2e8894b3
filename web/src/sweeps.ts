import type { Json, JsonSchema } from "./schema";

const READERS: Record<string, (text: string) => Json> = {
  integer: Number,
  number: Number,
  boolean: (text) => text === "true",
};

/** The values that a text lists: one a line, or between commas where they are numbers or choices. Each is there once. */
export function valuesOf(text: string, schema: JsonSchema): Json[] {
  const isShort = schema.type !== "string" || schema.enum !== undefined || schema.widget === "model";
  const parts = text.split(text.includes("\n") || !isShort ? "\n" : ",");
  const read = READERS[schema.type ?? ""] ?? String;
  const values = parts
    .map((part) => part.trim())
    .filter(Boolean)
    .map(read);
  const sound = values.filter((value) => typeof value !== "number" || Number.isFinite(value));
  return [...new Set(sound)];
}
