import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { Notices, NoWorkers } from "../src/panels/Queue";

it("says why no worker starts", () => {
  const problems = [{ device: "", problem: "No module named 'torch'" }];
  expect(renderToStaticMarkup(<NoWorkers problems={problems} />)).toMatch(
    /role="alert".*the best device: No module named &#x27;torch&#x27;/,
  );
  expect(renderToStaticMarkup(<NoWorkers problems={[]} />)).toBe("");
});

it("says that a damaged queue was replaced", () => {
  const notices = ["jobs.sqlite was damaged: it is kept"];
  expect(renderToStaticMarkup(<Notices notices={notices} />)).toMatch(/role="alert">jobs.sqlite was damaged/);
  expect(renderToStaticMarkup(<Notices notices={[]} />)).toBe("");
});
