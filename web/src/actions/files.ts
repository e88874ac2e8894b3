/** Opening, saving, uploading and downloading. */

import { api, isFailure, Refused } from "../api";
import { addNode } from "../edit";
import { t } from "../i18n";
import { parse, stringify } from "../json";
import { kindOf } from "../media";
import { freeName } from "../names";
import { isUnderWay, runOf } from "../run";
import type { Converted, Document, FileRef, Point, Problem } from "../schema";
import { store } from "../store";
import { emptyDocument, isBareGraph, readDocument } from "../workflow";
import { jobOf, remember } from "./memory";

/** Runs an action that may fail, and shows the error if it does. */
export async function trying<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (!isFailure(error)) throw error;
    const hint = error instanceof Refused ? error.problems[0]?.hint : null;
    store.getState().tell(hint ? `${error.message} – ${hint}` : error.message, "bad");
    return undefined;
  }
}

let downloaded: Document | null = null;

/** Saves changes before another document is opened; false if that failed, unless they were downloaded. */
async function mayLeave(): Promise<boolean> {
  try {
    await keepChanges();
    return true;
  } catch (error) {
    if (!isFailure(error)) throw error;
    const { document, tell } = store.getState();
    if (document === downloaded) return true;
    tell(t("open.unsaved", { why: error.message }), "bad");
    return false;
  }
}

/**
 * Opens a document in place of the current one, whose changes are saved first, and shows the results of its last known
 * run; returns whether it was opened.
 */
export async function open(
  document: unknown,
  name: string | null = null,
  version?: number,
): Promise<boolean> {
  if (!(await mayLeave())) return false;
  const { open: show, leave, tell } = store.getState();
  leave();
  if (!show(document, name, version)) {
    tell(t("open.notWorkflow"), "bad");
    return false;
  }
  const job = name && jobOf(name);
  if (job) await showJob(job);
  return true;
}

/** Shows a job's states and results on the canvas; for a running job, the events so far say more than its record. */
export async function showJob(id: string): Promise<void> {
  try {
    const job = await api.job(id);
    const { runs, follow } = store.getState();
    const isToldOf = Object.keys(runs[id]?.nodes ?? {}).length > 0;
    follow(id, isUnderWay(job.state) && isToldOf ? runs[id] : runOf(job));
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) throw error;
    if (store.getState().job === id) store.getState().leave();
  }
}

export function openNew(): Promise<boolean> {
  return open(emptyDocument());
}

export const openTemplate = (name: string) => trying(async () => open(await api.template(name)));
const openAt = async (name: string, version: number) => open(await api.version(name, version), name, version);
export const openSaved = (name: string) =>
  trying(async () => {
    const [last] = await api.versions(name);
    return last && openAt(name, last.version);
  });
export const openVersion = (name: string, version: number) =>
  trying(async () => {
    if (!(await mayLeave())) return; // saving changes later would replace the restored version
    await openAt(name, (await api.restore(name, version)).version);
  });
export const openWorkflowOf = (file: FileRef) =>
  trying(async () => openConverted(await api.workflowOf(file)));
export const openJob = (id: string) =>
  trying(async () => {
    const job = await api.job(id);
    if (await open(job.document)) store.getState().follow(id, runOf(job));
  });

const LONGEST_NAME = 60;

/** The file name of a downloaded workflow. */
export function nameFor(title: string): string {
  const plain = title.normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  const name = plain
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "");
  return name.slice(0, LONGEST_NAME) || "untitled";
}

let lastKept: Promise<unknown> = Promise.resolve();

/**
 * Saves the document on the server, after any save under way; a document without a name gets an unused one. Returns the
 * name.
 */
export function keep(): Promise<string> {
  const now = lastKept.then(keepNow);
  lastKept = now.catch(() => undefined);
  return now;
}

async function keepNow(): Promise<string> {
  const { document, kept, name, version, opened } = store.getState();
  if (name && document === kept) return name;
  const saved = (name ? await savedOver(name, document, version) : null) ?? (await savedAnew(document));
  const now = store.getState();
  if (now.opened === opened) now.setKept(document, saved.name, saved.version);
  if (name && saved.name !== name) now.tell(t("save.aside", { name, other: saved.name }), "bad");
  return saved.name;
}

interface SavedAs {
  name: string;
  version: number;
}

/** Saves the next version, unless another one was saved meanwhile, say in a second window. */
async function savedOver(name: string, document: Document, version?: number): Promise<SavedAs | null> {
  try {
    return { name, version: (await api.save(name, document, version)).version };
  } catch (error) {
    if (error instanceof Refused && error.status === 409) return null;
    throw error;
  }
}

async function savedAnew(document: Document): Promise<SavedAs> {
  const name = await nameOnServer(document);
  return { name, version: (await api.save(name, document, 0)).version };
}

/** Saves changes, including those made while saving; an unchanged document isn't saved. */
export async function keepChanges(): Promise<void> {
  for (let now = store.getState(); now.document !== now.kept; now = store.getState()) await keep();
}

/** Saves on request, and confirms it. */
export async function save(): Promise<void> {
  await trying(async () => {
    const as = await keep();
    const { job, name, tell } = store.getState();
    if (job && name === as) remember(as, job);
    tell(t("save.done", { name: as }));
  });
}

/** A name that no saved workflow has: the title, with a number if needed. */
async function nameOnServer(document: Document): Promise<string> {
  const taken = new Set((await api.workflows()).map(({ name }) => name));
  const title = (document.title ?? "").replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, " ").trim();
  const base = title.slice(0, LONGEST_NAME).trim() || t("document.untitled");
  return freeName(base, (name) => taken.has(name));
}

/** Uploads a file; returns its name as an input takes it. */
export function upload(file: File): Promise<string | undefined> {
  return trying(async () => {
    const { name, subfolder } = await api.upload(file);
    store.setState({ uploads: store.getState().uploads + 1 });
    return subfolder ? `${subfolder}/${name}` : name;
  });
}

/** The document in a file, if it is Kinograph's format; others are left to the server, which knows what they mean. */
async function ownDocument(file: File): Promise<Document | null> {
  if (!file.name.endsWith(".json")) return null;
  try {
    const data = parse(await file.text());
    return isBareGraph(data) ? null : readDocument(data);
  } catch {
    return null;
  }
}

/** Opens a workflow that the server has converted, and tells which of its values are left out. */
async function openConverted({ document, warnings }: Converted): Promise<void> {
  if (!(await open(document)) || warnings.length === 0) return;
  store.setState({ leftOut: warnings });
  store.getState().tell(t("open.leftOut", { values: countLeftOut(warnings) }), "bad");
}

/** How many values were left out, in words. */
export function countLeftOut({ length }: Problem[]): string {
  return t(length === 1 ? "status.leftOutOne" : "status.leftOutCount", { count: length });
}

/** Opens the workflow in a file; other pictures and videos become a node that loads them. */
export const importFile = (file: File, at: Point) =>
  trying(async () => {
    try {
      const own = await ownDocument(file);
      await (own ? open(own) : openConverted(await api.convertFile(file)));
    } catch (error) {
      if (!(error instanceof Refused && (await addLoader(file, at)))) throw error;
    }
  });

const GIVES: Record<string, string> = { image: "Image", video: "Video" };

/** Adds a node that loads a picture or video; returns whether there is a kind for this file. */
async function addLoader(file: File, at: Point): Promise<boolean> {
  const { kinds, edit } = store.getState();
  const type = GIVES[kindOf(file.name)];
  const kind = Object.values(kinds).find(
    ({ inputs, outputs, deprecated }) =>
      !deprecated &&
      inputs.some(({ holds }) => holds === "media") &&
      outputs.some((output) => output.type === type),
  );
  const input = kind?.inputs.find(({ holds }) => holds === "media");
  const name = kind && input && (await upload(file));
  if (!name) return false;
  edit((level) => addNode(level, kind.kind, at, { [input.name]: name })[0]);
  return true;
}

export function download(): void {
  const { document, name } = store.getState();
  const text = `${stringify(document, 2)}\n`;
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = window.document.createElement("a");
  link.href = address;
  link.download = `${nameFor(name ?? document.title ?? "")}.json`;
  link.click();
  URL.revokeObjectURL(address);
  downloaded = document;
}
