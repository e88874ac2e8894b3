import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { NoWorkers } from "../src/panels/Queue";

it("says why no worker starts", () => {
  const problems = [{ device: "", problem: "No module named 'torch'" }];
  expect(renderToStaticMarkup(<NoWorkers problems={problems} />)).toMatch(
    /role="alert".*the best device: No module named &#x27;torch&#x27;/,
  );
  expect(renderToStaticMarkup(<NoWorkers problems={[]} />)).toBe("");
});
