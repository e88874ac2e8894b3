import { describe, expect, it } from "vitest";
import { newRun, owners, reduced, runOf } from "../src/run";
import type { FullJob, Problem, RunEvent } from "../src/schema";

const problem: Problem = { message: "no memory", node: "draw", input: "steps", hint: "fewer steps" };
const started = (node: string): RunEvent => ({ event: "node_started", node, kind: "Draw" });
const finished = (node: string, seconds = 2): RunEvent => ({
  event: "node_finished",
  node,
  kind: "Draw",
  seconds,
});
const run = (...events: RunEvent[]) => reduced(newRun("job"), events);
const file = { filename: "a.png", subfolder: "", type: "output" };

it.each([
  ["draw", []],
  ["draw[3]", ["draw"]],
  ["face/draw", ["face"]],
  ["face/draw[3]", ["face/draw", "face"]],
  ["0:face/draw", ["face/draw", "face"]],
])("%s is part of %j", (node, expected) => {
  expect(owners(node)).toEqual(expected);
});

describe("a run", () => {
  it("follows a node from waiting to done", () => {
    const begun = run({ event: "run_started", nodes: 2, pending: ["draw", "save"] }, started("draw"));
    expect(begun.nodes.draw?.state).toBe("running");
    const going = reduced(begun, [
      { event: "node_progress", node: "draw", done: 3, total: 20, unit: "step" },
    ]);
    expect(going.nodes.draw).toMatchObject({ done: 3, total: 20, unit: "step" });
    const done = reduced(going, [finished("draw")]);
    expect(done.nodes.draw).toMatchObject({ state: "done", seconds: 2 });
    expect(done.nodes.save?.state).toBe("pending");
  });

  it("leaves the run before as it was", () => {
    const before = run(started("draw"));
    reduced(before, [finished("draw")]);
    expect(before.nodes.draw?.state).toBe("running");
  });

  it("shows a list's items and a subgraph's nodes together", () => {
    const items = run(
      { event: "run_extended", nodes: ["face/draw[0]", "face/draw[1]"] },
      started("face/draw[0]"),
      finished("face/draw[0]"),
    );
    expect(items.nodes["face/draw"]).toMatchObject({ state: "running", done: 1, total: 2, seconds: 2 });
    expect(items.nodes.face?.state).toBe("running");
    const all = reduced(items, [started("face/draw[1]"), finished("face/draw[1]", 3)]);
    expect(all.nodes.face).toMatchObject({ state: "done", done: 2, total: 2, seconds: 5 });
  });

  it("appends text as it comes, on the node and on all that it is part of", () => {
    const text = run(
      { event: "node_text", node: "face/tell", text: "once " },
      { event: "node_text", node: "face/tell", text: "upon" },
    );
    expect(text.nodes["face/tell"]?.text).toBe("once upon");
    expect(text.nodes.face?.text).toBe("once upon");
  });

  it("shows the last report of a node, and on what it is part of whose it is", () => {
    const tokens = (node: string, value: number): RunEvent => ({
      event: "node_reported",
      node,
      figures: { tokens: { value, unit: "" } },
    });
    const told = run(tokens("face/tell[0]", 1), tokens("face/tell[2]", 2), tokens("face/tell[2]", 3));
    const figures = { tokens: { value: 3, unit: "" } };
    expect(told.nodes["face/tell[2]"]).toMatchObject({ state: "running", report: { part: "", figures } });
    expect(told.nodes["face/tell[0]"]?.report?.figures.tokens?.value).toBe(1);
    expect(told.nodes["face/tell"]?.report).toMatchObject({ part: "#3", figures });
    expect(told.nodes.face?.report).toMatchObject({ part: "tell #3", figures });
    const swept = run(tokens("1:tell[0]", 3));
    expect(swept.nodes.tell?.report).toMatchObject({ part: "#2 #1", figures });
  });

  it("drops the report of an attempt that failed, and of no other part", () => {
    const figures = { tokens: { value: 3, unit: "" } };
    const told = run(
      { event: "node_reported", node: "tell[0]", figures },
      { event: "node_reported", node: "tell[1]", figures },
      { event: "node_retried", node: "tell[0]", problem, attempt: 2, attempts: 3 },
    );
    expect(told.nodes["tell[0]"]?.report).toBeNull();
    expect(told.nodes.tell?.report).toMatchObject({ node: "tell[1]" });
    expect(reduced(told, [started("tell[1]")]).nodes.tell?.report).toBeNull();
  });

  it("shows why a node failed and which were skipped, up to the subgraph", () => {
    const failed = run(
      { event: "node_failed", node: "face/draw", kind: "Draw", problem, trace: "…" },
      { event: "node_skipped", node: "save", kind: "Save", because: "face/draw" },
    );
    expect(failed.nodes.face).toMatchObject({ state: "failed", problem });
    expect(failed.nodes.save).toMatchObject({ state: "skipped", because: "face/draw" });
  });

  it("drops a problem when the node is retried successfully", () => {
    const again = run(
      { event: "node_retried", node: "draw", problem, attempt: 1, attempts: 2 },
      started("draw"),
    );
    expect(again.nodes.draw?.problem).toBeNull();
  });

  it("shows what a node was warned of, also when it is done", () => {
    const done = run(
      started("face/draw"),
      { event: "node_warned", node: "face/draw", problem },
      { event: "node_finished", node: "face/draw", kind: "Draw", seconds: 1 },
    );
    expect(done.nodes.face).toMatchObject({ state: "done", problem });
  });

  it("marks all unfinished nodes as cancelled when it is cancelled", () => {
    const over = run({ event: "run_started", nodes: 2, pending: ["draw", "save"] }, started("draw"), {
      event: "run_finished",
      status: "cancelled",
      seconds: 4,
      cached: 1,
    });
    expect(over).toMatchObject({ state: "cancelled", seconds: 4, cached: 1 });
    expect([over.nodes.draw?.state, over.nodes.save?.state]).toEqual(["cancelled", "cancelled"]);
  });

  it("collects the files of a list's items", () => {
    const saved = run(
      { event: "node_saved", node: "save[0]", files: [file] },
      { event: "node_saved", node: "save[1]", files: [{ ...file, filename: "b.png" }] },
    );
    expect(saved.nodes.save?.files.map(({ filename }) => filename)).toEqual(["a.png", "b.png"]);
  });
});

it("is reconstructed from its job's record", () => {
  const bytes = { value: 3, unit: "kB" };
  const job = {
    id: "job",
    state: "failed",
    seconds: 9,
    problem,
    document: { graph: { load: {}, save: { inputs: { images: ["load", 0] } } } },
    outputs: { save: { images: [file] }, tell: { text: ["hello"] } },
    record: {
      cached: 2,
      timings: { save: 1.5 },
      reports: { save: { bytes: bytes }, draw: { bytes: bytes }, other: { bytes: bytes } },
      failures: [{ node: "draw", kind: "Draw", problem, trace: "…" }],
    },
  } as unknown as FullJob;
  const run = runOf(job);
  expect(run).toMatchObject({ state: "failed", seconds: 9, cached: 2 });
  expect(run.nodes.save).toMatchObject({ state: "done", seconds: 1.5, files: [file] });
  expect(run.nodes.draw).toMatchObject({ state: "failed", problem });
  expect(run.nodes.save?.report?.figures).toEqual({ bytes });
  expect(run.nodes.draw?.report?.figures).toEqual({ bytes });
  expect(run.nodes.other).toBeUndefined();
  expect(run.nodes.load?.state).toBe("cached");
  expect(run.nodes.tell).toMatchObject({ state: "cached", results: { 1: "hello" } });
});

it("marks the nodes before a running one that needn't run themselves", () => {
  const graph = {
    load: { class_type: "Load", inputs: {} },
    off: { class_type: "Load", inputs: {}, _meta: { mode: "mute" as const } },
    draw: { class_type: "Draw", inputs: { model: ["load", 0], other: ["off", 0] } },
    save: { class_type: "Save", inputs: { images: ["draw", 0] } },
    else: { class_type: "Load", inputs: {} },
  };
  const begun = reduced(newRun("job", graph), [
    { event: "run_started", nodes: 4, pending: ["draw", "save"] },
    { event: "node_started", node: "draw", kind: "Draw" },
  ]);
  const states = Object.fromEntries(Object.entries(begun.nodes).map(([node, { state }]) => [node, state]));
  expect(states).toEqual({ load: "cached", draw: "running", save: "pending" });
});

it("is picked up in the middle from its nodes' events", () => {
  const late = run({ event: "node_progress", node: "draw", done: 3, total: 9, unit: "step" });
  expect(late).toMatchObject({ state: "running", nodes: { draw: { state: "running", done: 3, total: 9 } } });
});
