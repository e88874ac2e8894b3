import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parse, readJson, stringify } from "../src/json";
import { readNumber } from "../src/widgets";

const LARGEST_SEED = "18446744073709551615";
const seed = { type: "integer", minimum: 0, maximum: 2n ** 64n - 1n };

describe("JSON", () => {
  it("keeps every digit of the largest seed", () => {
    const text = `{"seed":${LARGEST_SEED},"least":-9007199254740993}`;
    expect(parse(text)).toEqual({ seed: 2n ** 64n - 1n, least: -9007199254740993n });
    expect(stringify(parse(text))).toBe(text);
  });

  it("uses ordinary numbers where they are exact, and for fractions", () => {
    const text = '{"a":9007199254740991,"b":0.1234567890123456789,"c":12345678901234567e3,"d":1e21}';
    expect(parse(text)).toEqual(JSON.parse(text));
  });

  it("leaves digits in texts alone, however they are quoted", () => {
    const text = String.raw`{"t":"a \" 12345678901234567890, \\","12345678901234567890":[12345678901234567890]}`;
    expect(parse(text)).toEqual({
      t: `a " 12345678901234567890, ${"\\"}`,
      "12345678901234567890": [12345678901234567890n],
    });
  });

  it("returns undefined for invalid text", () => {
    expect(readJson('{"a": 12345678901234567890')).toBeUndefined();
  });

  it("round-trips any value", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(stringify(parse(stringify(value)))).toBe(JSON.stringify(value));
      }),
    );
    fc.assert(
      fc.property(fc.bigInt(), fc.string(), (number, text) => {
        const [back, same] = parse(stringify([number, text])) as [number | bigint, string];
        expect([BigInt(back), same]).toEqual([number, text]);
      }),
    );
  });
});

it("is read by a field for a seed", () => {
  expect(readNumber(LARGEST_SEED, seed)).toBe(2n ** 64n - 1n);
  expect(readNumber("7", seed)).toBe(7);
  expect(readNumber("1.5", seed)).toBeUndefined();
  expect(readNumber("1e3", seed)).toBe(1000);
});
