/** JSON whose whole numbers keep all of their digits: those that a `number` can't hold are `bigint`. */

import type { Json } from "./schema";

/** What stands before a large number while it is a string; nobody can guess it, so no text is taken for one. */
const MARK = `whole number ${crypto.getRandomValues(new Uint32Array(4)).join("-")} `;
const MARKED = new RegExp(`"${MARK}(-?\\d+)"`, "g");
/** A string or a number of JSON. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

function marked(token: string): string {
  const isLarge = /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
  return isLarge ? `"${MARK}${token}"` : token;
}

function revived(_: string, value: unknown): unknown {
  return typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
}

/** What text in JSON says. Throws a SyntaxError, as `JSON.parse` does. */
export function parse(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(TOKEN, marked), revived);
}

/** Text in JSON. */
export function stringify(value: unknown, indent?: number): string {
  const keep = (_: string, part: unknown) => (typeof part === "bigint" ? `${MARK}${part}` : part);
  return JSON.stringify(value, keep, indent).replace(MARKED, "$1");
}

/** A whole number from its digits. */
export function asWhole(digits: string): number | bigint {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

/** JSON as text says it, or undefined if it isn't any. */
export function readJson(text: string): Json | undefined {
  try {
    return parse(text) as Json;
  } catch {
    return undefined;
  }
}
