import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { Reported } from "../src/Results";
import type { Figures } from "../src/schema";
import { number } from "../src/ui/format";

const shown = (figures: Figures, part = "") =>
  renderToStaticMarkup(<Reported report={{ node: "tell", part, figures }} title="Tell" />);
const plain = (value: number | string) => ({ value, unit: "" });

it.each([
  [0, "0"],
  [2, "2"],
  [1203, "1,203"],
  [-1234567.8, "-1,234,568"],
  [2.9925, "2.99"],
  [0.0123, "0.0123"],
  [99.96, "100"],
  [1e20, "1e+20"],
  [0.000012345, "1.23e-5"],
])("%d is written as %s", (value, text) => {
  expect(number(value)).toBe(text);
});

it("shows figures with their units in a line", () => {
  const html = shown({ tokens: plain(1203), reading: { value: 0.3125, unit: "s" }, method: plain("heads") });
  expect(html).toContain("<dt>tokens</dt><dd>1,203</dd>");
  expect(html).toContain("<dt>reading</dt><dd>0.313 s</dd>");
  expect(html).toContain("<dt>method</dt><dd>heads</dd>");
  expect(html).not.toContain("<details>");
});

it("folds all but the first figures", () => {
  const html = shown(Object.fromEntries([..."abcdef"].map((name, at) => [name, plain(at)])));
  const [line, folded] = html.split("<details>");
  expect(line?.match(/<dt>/g)).toHaveLength(4);
  expect(folded).toContain("<summary>2 more</summary>");
  expect(folded?.match(/<dt>.</g)).toHaveLength(2);
});

it("says of which part it is", () => {
  expect(shown({ tokens: plain(1) }, "#3")).toContain("#3");
});
