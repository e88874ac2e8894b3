/** JSON whose integers keep all their digits: those that a `number` can't represent are `bigint`. */

import type { Json } from "./schema";

/** Marks a string as a large number; it is random, so that no text is mistaken for one. */
const MARK = `whole number ${crypto.getRandomValues(new Uint32Array(4)).join("-")} `;
const MARKED = new RegExp(`"${MARK}(-?\\d+)"`, "g");
/** A string or number in JSON. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

function marked(token: string): string {
  const isLarge = /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
  return isLarge ? `"${MARK}${token}"` : token;
}

function revived(_: string, value: unknown): unknown {
  return typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
}

/** Parses JSON text; throws a SyntaxError, as `JSON.parse` does. */
export function parse(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(TOKEN, marked), revived);
}

/** Serialises a value as JSON. */
export function stringify(value: unknown, indent?: number): string {
  const keep = (_: string, part: unknown) => (typeof part === "bigint" ? `${MARK}${part}` : part);
  return JSON.stringify(value, keep, indent).replace(MARKED, "$1");
}

/** An integer from its digits. */
export function asWhole(digits: string): number | bigint {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

/** Parses JSON text; undefined if it isn't JSON. */
export function readJson(text: string): Json | undefined {
  try {
    return parse(text) as Json;
  } catch {
    return undefined;
  }
}
