/** What this browser remembers: the draft, and the last job of each workflow. */

import type { Document } from "../schema";

export interface Draft {
  document: Document;
  name: string | null;
  job: string | null;
  /** Whether the server has it as it is. */
  isKept: boolean;
}

const DRAFT = "kinograph.draft";
const JOBS = "kinograph.jobs";
const MOST_JOBS = 100;

function read<T>(key: string): T | null {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") as T | null;
  } catch {
    return null;
  }
}

/** Writes, and says whether there was room. */
function write(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export const readDraft = () => read<Draft>(DRAFT);
export const writeDraft = (draft: Draft) => write(DRAFT, draft);

export function remember(name: string, job: string): void {
  const { [name]: _, ...jobs } = read<Record<string, string>>(JOBS) ?? {};
  write(JOBS, Object.fromEntries([...Object.entries(jobs), [name, job]].slice(-MOST_JOBS)));
}

export function jobOf(name: string): string | undefined {
  return read<Record<string, string>>(JOBS)?.[name];
}
