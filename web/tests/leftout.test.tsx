import { renderToStaticMarkup } from "react-dom/server";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { importFile, openWorkflowOf } from "../src/actions/files";
import { api } from "../src/api";
import { LeftOut, lineOf } from "../src/StatusBar";
import type { Problem } from "../src/schema";
import { store } from "../src/store";
import { emptyDocument } from "../src/workflow";
import { KINDS, LINKS, picture } from "./kinds";

const LOST: Problem = {
  message: "is ignored: Draw has no such input",
  node: "draw",
  input: "polish",
  hint: null,
};
const AT = { x: 0, y: 0 };

const json = (data: unknown) => new File([JSON.stringify(data)], "a.json");
const toasts = () => store.getState().toasts.map(({ text }) => text);
const bar = () => renderToStaticMarkup(<LeftOut leftOut={store.getState().leftOut} />);
const answer = (...warnings: Problem[]) =>
  vi.spyOn(api, "convertFile").mockResolvedValue({ document: picture(), warnings });

beforeEach(() => {
  store.getState().learn(KINDS, LINKS);
  store.getState().open(emptyDocument());
  store.setState({ toasts: [] });
  return () => void vi.restoreAllMocks();
});

describe("a foreign file with values that its nodes don't have", () => {
  it("is opened, and tells of them", async () => {
    answer(LOST);
    await importFile(json({ nodes: [], links: [] }), AT);
    expect(store.getState().document.title).toBe("A picture");
    expect(toasts()).toEqual(["1 value was left out. The status bar says which, and why."]);
    expect(store.getState().leftOut).toEqual([LOST]);
    expect(lineOf(LOST)).toBe("Draw, polish: is ignored: Draw has no such input");
  });

  it("is counted in the status bar until another is opened", async () => {
    answer(LOST, { ...LOST, input: "shine" });
    await importFile(new File([], "a.png"), AT);
    expect(bar()).toContain("2 values were left out");
    store.getState().open(picture());
    expect(bar()).toBe("");
  });

  it("may be one that the gallery shows", async () => {
    vi.spyOn(api, "workflowOf").mockResolvedValue({ document: picture(), warnings: [LOST] });
    await openWorkflowOf({ filename: "a.png", subfolder: "", type: "output" });
    expect(store.getState().document.title).toBe("A picture");
    expect(store.getState().leftOut).toEqual([LOST]);
  });

  it("may be a bare graph", async () => {
    answer(LOST);
    await importFile(json({ draw: { class_type: "Draw", inputs: { polish: 3 } } }), AT);
    expect(store.getState().leftOut).toEqual([LOST]);
  });
});

describe("a file whose values are all known", () => {
  it("is opened without a word", async () => {
    answer();
    await importFile(json({ nodes: [], links: [] }), AT);
    expect(store.getState().document.title).toBe("A picture");
    expect([toasts(), bar()]).toEqual([[], ""]);
  });

  it("isn't sent to the server if it is a document", async () => {
    const sent = answer(LOST);
    await importFile(json(picture()), AT);
    expect(sent).not.toHaveBeenCalled();
    expect(store.getState()).toMatchObject({ leftOut: [], document: { title: "A picture" } });
  });
});

it("names a problem's place as well as it can", () => {
  expect(lineOf({ ...LOST, node: "gone", input: null })).toBe("gone: is ignored: Draw has no such input");
  expect(lineOf({ ...LOST, node: null, input: null })).toMatch(/^The workflow: /);
});
