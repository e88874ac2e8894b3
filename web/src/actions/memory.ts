/** Browser storage: the draft, and the last job of each workflow. */

import { parse, stringify } from "../json";
import type { Document } from "../schema";

export interface Draft {
  document: Document;
  name: string | null;
  version?: number;
  job: string | null;
  /** Whether the server has saved this state of it. */
  isKept: boolean;
}

const DRAFT = "kinograph.draft";
const JOBS = "kinograph.jobs";
const MOST_JOBS = 100;

function read<T>(key: string, storage: Storage = localStorage): T | null {
  try {
    return parse(storage.getItem(key) ?? "null") as T | null;
  } catch {
    return null;
  }
}

/** Writes an item; returns whether there was room. */
function write(key: string, value: unknown, storage: Storage = localStorage): boolean {
  try {
    storage.setItem(key, stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** The draft of this tab, which survives reloading; in a new tab, the last draft of any tab. */
export const readDraft = () => read<Draft>(DRAFT, sessionStorage) ?? read<Draft>(DRAFT);

export function writeDraft(draft: Draft): boolean {
  const isInTab = write(DRAFT, draft, sessionStorage);
  return write(DRAFT, draft) && isInTab;
}

export function remember(name: string, job: string): void {
  const { [name]: _, ...jobs } = read<Record<string, string>>(JOBS) ?? {};
  write(JOBS, Object.fromEntries([...Object.entries(jobs), [name, job]].slice(-MOST_JOBS)));
}

export function jobOf(name: string): string | undefined {
  return read<Record<string, string>>(JOBS)?.[name];
}
