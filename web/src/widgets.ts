/** Which widget a JSON schema asks for, and what it may hold. */

import { asWhole } from "./json";
import type { Json, JsonSchema } from "./schema";

const NAMES = [
  "seed",
  "multiline",
  "model",
  "media",
  "files",
  "choice",
  "slider",
  "integer",
  "number",
  "boolean",
  "string",
  "array of string",
  "array of integer",
  "array of number",
  "object",
] as const;

export type FieldName = (typeof NAMES)[number];

/** Widgets that are placed below their label. */
const WIDE: ReadonlySet<FieldName> = new Set<FieldName>([
  "multiline",
  "media",
  "array of string",
  "array of integer",
  "array of number",
  "object",
]);

export function isWide(name: FieldName): boolean {
  return WIDE.has(name);
}

/** A schema without null, and whether null was allowed. */
export function unwrapped(schema: JsonSchema): { schema: JsonSchema; isNullable: boolean } {
  const choices = schema.anyOf?.filter((choice) => choice.type !== "null") ?? [];
  const isNullable = schema.anyOf?.some((choice) => choice.type === "null") ?? false;
  const [only] = choices;
  return { schema: choices.length === 1 && only ? only : schema, isNullable };
}

const bound = (limit: number | bigint | undefined) => (limit === undefined ? undefined : Number(limit));
export const lower = (schema: JsonSchema) => bound(schema.minimum ?? schema.exclusiveMinimum);
export const upper = (schema: JsonSchema) => bound(schema.maximum ?? schema.exclusiveMaximum);
const WIDEST_SLIDER = 10_000;

/** The possible names of a schema's widget, most specific first. */
function namesOf(schema: JsonSchema): (string | undefined)[] {
  const span = (upper(schema) ?? Infinity) - (lower(schema) ?? -Infinity);
  return [
    schema.widget,
    schema.enum ? "choice" : undefined,
    span <= WIDEST_SLIDER ? "slider" : undefined,
    schema.items?.type ? `${schema.type} of ${schema.items.type}` : undefined,
    schema.type === "array" ? undefined : schema.type,
  ];
}

const isField = (name: string | undefined): name is FieldName => NAMES.some((known) => known === name);

/** The field for a schema, or null for a type that only a link can provide. */
export function fieldFor(schema: JsonSchema): FieldName | null {
  return namesOf(unwrapped(schema).schema).find(isField) ?? null;
}

export function emptyOf(schema: JsonSchema): Json {
  const byType: Record<string, Json> = { string: "", boolean: false, array: [], object: {} };
  return schema.enum?.[0] ?? byType[schema.type ?? ""] ?? lower(schema) ?? 0;
}

/** The number in a text, or undefined if it is none. */
export function readNumber(text: string, schema: JsonSchema): number | bigint | undefined {
  if (schema.type === "integer" && /^\s*-?\d+\s*$/.test(text)) return asWhole(text.trim());
  const number = text.trim() === "" ? Number.NaN : Number(text);
  const isWhole = schema.type !== "integer" || Number.isInteger(number);
  return Number.isFinite(number) && isWhole ? number : undefined;
}

/** The step of a slider. */
export function stepOf(schema: JsonSchema): number {
  if (schema.multipleOf) return schema.multipleOf;
  if (schema.type === "integer") return 1;
  const span = (upper(schema) ?? 10) - (lower(schema) ?? 0);
  return span <= 2 ? 0.01 : span <= 20 ? 0.1 : 1;
}
