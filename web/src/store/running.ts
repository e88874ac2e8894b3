/** Runs and the queue, and the problems that the server has found. */

import type { StateCreator } from "zustand";
import type { Preview } from "../events";
import { newRun, owners, type Run, reduced } from "../run";
import type { ModelProgress, Problem, Queue, RunEvent, Verdict } from "../schema";

export interface RunSlice {
  client: string;
  isConnected: boolean;
  queue: Queue;
  runs: Record<string, Run>;
  /** The job that is shown on the canvas. */
  job: string | null;
  /** Previews of running nodes, as addresses. */
  previews: Record<string, string>;
  verdict: Verdict;
  /** Problems by node, in the flat graph. */
  problems: Record<string, Problem[]>;
  downloads: Record<string, ModelProgress>;
  /** Incremented when a run ends, for lists of files to be read again. */
  ended: number;
  follow: (job: string, run?: Run) => void;
  leave: () => void;
  happen: (job: string, events: RunEvent[]) => void;
  preview: (preview: Preview) => void;
  setVerdict: (verdict: Verdict) => void;
  download: (progress: ModelProgress) => void;
}

const MOST_RUNS = 20;
const SOUND: Verdict = { valid: true, problems: [], missing: [] };

function newClient(): string {
  const known = sessionStorage.getItem("kinograph.client");
  const client =
    known ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join("");
  sessionStorage.setItem("kinograph.client", client);
  return client;
}

/** Releases pictures that are no longer shown. */
function release(previews: Record<string, string>): void {
  for (const picture of Object.values(previews)) URL.revokeObjectURL(picture);
}

export const runSlice: StateCreator<RunSlice> = (set, get) => ({
  client: typeof sessionStorage === "undefined" ? "" : newClient(),
  isConnected: false,
  queue: { paused: false, running: [], pending: [], problems: [], notices: [] },
  runs: {},
  job: null,
  previews: {},
  verdict: SOUND,
  problems: {},
  downloads: {},
  ended: 0,

  follow: (job, run) => {
    const { runs, previews } = get();
    release(previews);
    set({ job, runs: { ...runs, [job]: run ?? runs[job] ?? newRun(job) }, previews: {} });
  },

  leave: () => {
    release(get().previews);
    set({ job: null, previews: {}, verdict: SOUND, problems: {} });
  },

  happen: (job, events) => {
    const { runs, ended, job: shown } = get();
    const known = Object.entries(runs);
    const recent = known.filter(([id], at) => at >= known.length - MOST_RUNS || id === shown);
    const run = reduced(runs[job] ?? newRun(job), events);
    const isOver = events.some((event) => event.event === "run_finished");
    set({ runs: { ...Object.fromEntries(recent), [job]: run }, ended: ended + (isOver ? 1 : 0) });
  },

  preview: ({ job, node, picture }) => {
    const { previews } = get();
    if (job !== get().job) return;
    const base = owners(node);
    const address = URL.createObjectURL(picture);
    const old = previews[node];
    if (old) URL.revokeObjectURL(old);
    set({ previews: { ...previews, ...Object.fromEntries([node, ...base].map((name) => [name, address])) } });
  },

  setVerdict: (verdict) => {
    const problems: Record<string, Problem[]> = {};
    for (const problem of [...verdict.problems, ...verdict.missing]) {
      if (problem.node === null) continue;
      const known = problems[problem.node] ?? [];
      problems[problem.node] = [...known, problem];
      for (const owner of owners(problem.node)) {
        problems[owner] = [...(problems[owner] ?? []), { ...problem, input: null }];
      }
    }
    set({ verdict, problems });
  },

  download: (progress) => set({ downloads: { ...get().downloads, [progress.source]: progress } }),
});
