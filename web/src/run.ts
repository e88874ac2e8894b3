/** A run as it is shown, built from its events: the nodes of the flat graph, and all nodes that they are part of. */

import type { Document, Figures, FileRef, FullJob, JobState, Problem, RunEvent } from "./schema";
import { asLink } from "./workflow";

export type NodeState = "pending" | "running" | "cached" | "done" | "failed" | "skipped" | "cancelled";

/** What a node, or the last of its parts that said anything, says about how it worked. */
export interface Report {
  node: string;
  /** Which part of the node it is from, such as "#3"; empty if it is the node's own. */
  part: string;
  figures: Figures;
}

export interface NodeRun {
  state: NodeState;
  done: number;
  total: number;
  unit: string;
  seconds: number | null;
  text: string;
  files: FileRef[];
  results: Record<string, string>;
  report: Report | null;
  problem: Problem | null;
  trace: string;
  because: string | null;
  /** The number of its parts (a list's items, a subgraph's nodes) in each state. */
  parts: Partial<Record<NodeState, number>>;
}

export interface Run {
  job: string;
  /** The document that was run, if known. */
  graph: Document["graph"];
  state: JobState;
  nodes: Record<string, NodeRun>;
  seconds: number | null;
  cached: number;
  problem: Problem | null;
}

const FRESH: NodeRun = {
  state: "pending",
  done: 0,
  total: 0,
  unit: "",
  seconds: null,
  text: "",
  files: [],
  results: {},
  report: null,
  problem: null,
  trace: "",
  because: null,
  parts: {},
};

export function newRun(job: string, graph: Document["graph"] = {}): Run {
  return { job, graph, state: "pending", nodes: {}, seconds: null, cached: 0, problem: null };
}

/** The nodes that a node is part of: "0:face/draw[3]" is part of "face/draw", which is part of "face". */
export function owners(node: string): string[] {
  const found: string[] = [];
  let name = node.replace(/^\d+:/, "");
  if (name !== node) found.push(name);
  for (;;) {
    const shorter = /\[\d+\]$/.test(name) ? name.replace(/\[\d+\]$/, "") : name.replace(/\/?[^/]*$/, "");
    if (!shorter || shorter === name) return found;
    found.push(shorter);
    name = shorter;
  }
}

/** A part of a node in words: "0:face/draw[3]" is "#1 draw #4" of "face". */
function partOf(owner: string, node: string): string {
  const [, run, name = node] = /^(\d+):(.*)$/.exec(node) ?? [];
  const rest = name.slice(owner.length).replace(/\[(\d+)\]/g, (_, at) => `/#${Number(at) + 1}`);
  const combination = run && owner !== node ? `#${Number(run) + 1}` : "";
  return [combination, ...rest.split("/")].filter(Boolean).join(" ");
}

/** Whether a job, or a node, has not ended yet. */
export function isUnderWay(state: JobState | NodeState | undefined): boolean {
  return state === "pending" || state === "running";
}

/** The number of a run's nodes that have ended, and the total. */
export function progressOf(run: Run): { done: number; total: number } {
  const leaves = Object.values(run.nodes).filter((node) => Object.keys(node.parts).length === 0);
  const waiting = leaves.filter(({ state }) => isUnderWay(state));
  return { done: leaves.length - waiting.length, total: leaves.length };
}

const RANK: NodeState[] = ["running", "failed", "pending", "cancelled", "skipped", "done", "cached"];

/** The state of a node, from the states of its parts. */
function stateOf(parts: NodeRun["parts"]): NodeState {
  const { pending = 0, ...begun } = parts;
  const isBegun = Object.values(begun).some((count) => count > 0);
  if (pending > 0 && isBegun && !parts.failed) return "running";
  return RANK.find((state) => (parts[state] ?? 0) > 0) ?? "pending";
}

/** A run whose graph is not known yet. */
export function ofGraph(run: Run, graph: Document["graph"]): Run {
  const draft = new Draft({ ...run, graph });
  for (const [node, { state }] of Object.entries(run.nodes)) if (state !== "pending") draft.keepBefore(node);
  return draft.run;
}

/** Applies events to a run, in order. */
export function reduced(run: Run, events: readonly RunEvent[]): Run {
  const draft = new Draft(run);
  for (const event of events) draft.apply(event);
  return draft.run;
}

/** A copy of a run that may be changed; each node is copied on its first change. */
class Draft {
  readonly run: Run;

  constructor(run: Run) {
    this.run = { ...run, nodes: { ...run.nodes } };
  }

  apply(event: RunEvent): void {
    switch (event.event) {
      case "run_started":
        this.run.state = "running";
        for (const node of event.pending) this.become(node, "pending");
        break;
      case "run_extended":
        for (const node of event.nodes) this.become(node, "pending");
        break;
      case "node_started":
        this.become(event.node, "running", { problem: null });
        this.forget(event.node);
        this.keepBefore(event.node);
        break;
      case "node_progress":
        this.work(event.node);
        this.change(event.node, { done: event.done, total: event.total, unit: event.unit });
        break;
      case "node_text":
        this.work(event.node);
        this.each(event.node, (node) => ({ text: node.text + event.text }));
        break;
      case "node_reported":
        this.work(event.node);
        this.report(event.node, event.figures);
        break;
      case "node_saved":
        this.each(event.node, (node) => ({ files: [...node.files, ...event.files] }));
        break;
      case "node_result":
        this.each(event.node, () => ({ results: event.outputs }));
        break;
      case "node_cached":
        this.become(event.node, "cached");
        this.keepBefore(event.node);
        break;
      case "node_finished":
        this.become(event.node, "done", { seconds: event.seconds });
        this.keepBefore(event.node);
        break;
      case "node_retried":
        this.forget(event.node);
        this.each(event.node, () => ({ problem: event.problem }));
        break;
      case "node_warned":
        this.each(event.node, () => ({ problem: event.problem }));
        break;
      case "node_failed":
        this.become(event.node, "failed", { problem: event.problem, trace: event.trace });
        break;
      case "node_skipped":
        this.become(event.node, "skipped", { because: event.because });
        break;
      case "run_finished":
        Object.assign(this.run, { state: event.status, seconds: event.seconds, cached: event.cached });
        this.stop();
        break;
    }
  }

  /** Marks a node as running when it reports something: a client that joins late has missed its start. */
  private work(node: string): void {
    if (this.run.nodes[node]?.state !== "running") this.become(node, "running");
    this.run.state = "running";
  }

  private change(node: string, change: Partial<NodeRun>): void {
    this.run.nodes[node] = { ...(this.run.nodes[node] ?? FRESH), ...change };
  }

  private each(node: string, change: (node: NodeRun) => Partial<NodeRun>): void {
    for (const name of [node, ...owners(node)]) this.change(name, change(this.run.nodes[name] ?? FRESH));
  }

  private report(node: string, figures: Figures): void {
    for (const name of [node, ...owners(node)]) {
      this.change(name, { report: { node, part: partOf(name, node), figures } });
    }
  }

  /** Drops what a node has reported: another attempt begins. */
  private forget(node: string): void {
    this.each(node, ({ report }) => ({ report: report?.node === node ? null : report }));
  }

  private become(node: string, state: NodeState, also: Partial<NodeRun> = {}): void {
    const before = this.run.nodes[node]?.state;
    this.change(node, { ...also, state });
    for (const owner of owners(node)) {
      const { parts, seconds } = this.run.nodes[owner] ?? FRESH;
      const counted = { ...parts, [state]: (parts[state] ?? 0) + 1 };
      if (before) counted[before] = Math.max(0, (counted[before] ?? 0) - 1);
      const total = Object.values(counted).reduce((sum, count) => sum + count, 0);
      const waiting = (counted.pending ?? 0) + (counted.running ?? 0);
      const took = also.seconds == null ? seconds : (seconds ?? 0) + also.seconds;
      const failure = state === "failed" ? { problem: also.problem ?? null, trace: also.trace ?? "" } : {};
      this.change(owner, {
        ...failure,
        parts: counted,
        state: stateOf(counted),
        done: total - waiting,
        total,
        unit: "parts",
        seconds: took,
      });
    }
  }

  /** Marks the nodes that lead to a starting node, and needn't run themselves, as cached. */
  keepBefore(node: string): void {
    const waiting = [owners(node).at(-1) ?? node];
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      for (const value of Object.values(this.run.graph[name]?.inputs ?? {})) {
        const source = asLink(value)?.[0];
        if (!source || source in this.run.nodes || this.run.graph[source]?._meta?.mode) continue;
        this.change(source, { state: "cached" });
        waiting.push(source);
      }
    }
  }

  /** Ends all nodes that have not ended yet. */
  private stop(): void {
    for (const [name, node] of Object.entries(this.run.nodes)) {
      if (isUnderWay(node.state)) this.change(name, { state: "cancelled" });
    }
  }
}

/** The events that can be reconstructed from a job's record. */
function recorded({ outputs, record }: FullJob): RunEvent[] {
  const events: RunEvent[] = [];
  const report = (node: string): RunEvent[] => {
    const figures = record?.reports?.[node];
    return figures ? [{ event: "node_reported", node, figures }] : [];
  };
  const isKept = (node: string) => !(node in (record?.timings ?? {}));
  for (const node of Object.keys(outputs ?? {}).filter(isKept)) {
    events.push({ event: "node_cached", node, kind: "" });
  }
  for (const [node, seconds] of Object.entries(record?.timings ?? {})) {
    events.push(...report(node), { event: "node_finished", node, kind: "", seconds });
  }
  for (const [node, { text, ...kinds }] of Object.entries(outputs ?? {})) {
    const files = Object.values(kinds).flat() as FileRef[];
    if (files.length > 0) events.push({ event: "node_saved", node, files });
    const lines = (text ?? []).map((line, at) => [`${at + 1}`, String(line)]);
    if (lines.length > 0) events.push({ event: "node_result", node, outputs: Object.fromEntries(lines) });
  }
  for (const { node, kind, problem, trace } of record?.failures ?? []) {
    events.push(...report(node), { event: "node_failed", node, kind, problem, trace });
  }
  for (const problem of record?.warnings ?? []) {
    if (problem.node) events.push({ event: "node_warned", node: problem.node, problem });
  }
  return events;
}

/** A run reconstructed from its job's record. */
export function runOf(job: FullJob): Run {
  const run = reduced(newRun(job.id, job.document.graph), recorded(job));
  const { state, seconds, problem, record } = job;
  const isAtNode = record?.failures?.some((failure) => failure.node === problem?.node) ?? false;
  return { ...run, state, seconds, cached: record?.cached ?? 0, problem: isAtNode ? null : problem };
}
