/** Starting and cancelling runs. */

import { api } from "../api";
import { t } from "../i18n";
import { newRun, ofGraph } from "../run";
import type { Document } from "../schema";
import { store } from "../store";
import { runId } from "../workflow";
import { trying } from "./files";
import { remember } from "./memory";

const { getState } = store;

/** Starts a job and shows it. */
async function start(
  begin: (document: Document, client: string) => Promise<{ prompt_id: string }>,
): Promise<void> {
  const { document, client, name } = getState();
  await trying(async () => {
    const { prompt_id } = await begin(document, client);
    const run = getState().runs[prompt_id] ?? newRun(prompt_id); // its first events may arrive before the answer
    getState().follow(prompt_id, ofGraph(run, document.graph));
    if (name) remember(name, prompt_id);
  });
}

export const run = () => start((document, client) => api.run(document, client));

export function runOnly(nodes: Iterable<string>): Promise<void> {
  const { path } = getState();
  const targets = [...nodes].map((node) => runId(path, node));
  return targets.length > 0
    ? start((document, client) => api.run(document, client, targets))
    : Promise.resolve();
}

export function sweep(axes: { name: string; values: unknown[] }[]): Promise<void> {
  return start((document, client) => api.sweep(document, axes, client));
}

export async function cancel(job = getState().job): Promise<void> {
  if (!job) return;
  await trying(async () => {
    await api.cancel(job);
    getState().tell(t("run.cancelling"));
  });
}

/** Runs a failed or cancelled job again. */
export const retry = (job: string) =>
  trying(async () => {
    await api.retry(job);
    getState().follow(job, newRun(job, getState().runs[job]?.graph));
  });
