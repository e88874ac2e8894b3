/** Background work: the connection, checks of the document, drafts and autosaving. */

import { keepChanges, open, showJob, trying } from "./actions/files";
import { readDraft, remember, writeDraft } from "./actions/memory";
import { api, isFailure, Refused } from "./api";
import { listen } from "./events";
import { t } from "./i18n";
import type { Document } from "./schema";
import { type State, store } from "./store";
import { readTheme } from "./theme";

const CHECK_AFTER = 400;
const DRAFT_AFTER = 500;
const SAVE_AFTER = 4000;
const SAVE_AT_LATEST = 15_000;
const TRY_AGAIN_AFTER = 3000;

/** Debounces a function: it runs some time after the last call, or a longest time after the first. */
function later(act: () => void, wait: number, longest = Infinity): () => void {
  let timer = 0;
  let first = 0;
  const now = () => {
    first = 0;
    act();
  };
  return () => {
    first ||= Date.now();
    clearTimeout(timer);
    timer = window.setTimeout(now, Math.min(wait, first + longest - Date.now()));
  };
}

/** Whether two documents differ in more than their layout. */
function differs(one: Document, other: Document): boolean {
  return one.graph !== other.graph || one.subgraphs !== other.subgraphs || one.inputs !== other.inputs;
}

async function check(): Promise<void> {
  const { document, setVerdict } = store.getState();
  try {
    const verdict = await api.validate(document);
    if (!differs(document, store.getState().document)) setVerdict(verdict);
  } catch (error) {
    if (!(error instanceof Refused)) return; // the server can't be reached, as the status bar shows
    setVerdict({ valid: false, problems: error.problems, missing: [] });
  }
}

/** Saves the document as a new version if it has changed. */
export async function autosave(): Promise<void> {
  try {
    await keepChanges();
  } catch (error) {
    if (!isFailure(error)) throw error;
    if (error instanceof Refused) store.getState().tell(t("save.failed", { why: error.message }), "bad");
    // tried again at the next change, or when the server is back
  }
}

let isDraftFailureShown = false;

function keepDraft(): void {
  const { document, name, version, job, kept, tell } = store.getState();
  const isWritten = writeDraft({ document, name, version, job, isKept: document === kept });
  if (!isWritten && !isDraftFailureShown) tell(t("draft.failed"), "bad");
  isDraftFailureShown = !isWritten;
}

function watch(): void {
  const soonCheck = later(check, CHECK_AFTER);
  const soonDraft = later(keepDraft, DRAFT_AFTER);
  const soonSave = later(autosave, SAVE_AFTER, SAVE_AT_LATEST);
  store.subscribe((state: State, before: State) => {
    if (state.job !== before.job || state.version !== before.version) soonDraft();
    if (state.document === before.document) return;
    soonDraft();
    soonSave();
    if (differs(state.document, before.document)) soonCheck();
  });
  window.addEventListener("pagehide", keepDraft);
  document.addEventListener("visibilitychange", () => document.hidden && keepDraft());
  soonCheck();
  soonSave();
}

/** After a lost connection, reloads kinds and job, which may have changed meanwhile, and saves. */
async function catchUp(): Promise<void> {
  await trying(learn);
  await autosave();
  await showLast();
}

/** Loads the draft's job; later events come over the WebSocket. */
async function showLast(): Promise<void> {
  const { job } = store.getState();
  if (job) await trying(() => showJob(job));
}

/** Loads the kinds of node, and the packs that could not be loaded. */
export async function learn(): Promise<void> {
  const [kinds, { links }] = await Promise.all([api.kinds(), api.types()]);
  store.getState().learn(kinds, links);
  // a server without packs isn't asked for them: browsers log a 404 even if it is handled
  const hasPacks = Object.values(kinds).some(({ pack }) => pack !== undefined);
  const packs = hasPacks ? await trying(api.packs) : [];
  if (packs) store.setState({ failedPacks: packs.filter(({ problem }) => problem !== null) });
}

function connect(): void {
  let wasLost = false;
  listen(store.getState().client, {
    connected: (isConnected) => {
      store.setState({ isConnected });
      if (isConnected) void (wasLost ? catchUp() : showLast());
      wasLost = !isConnected;
    },
    preview: (preview) => store.getState().preview(preview),
    message: (message) => {
      const { happen, download } = store.getState();
      if (message.type === "kinograph") happen(message.data.job, message.data.events);
      else if (message.type === "queue") store.setState({ queue: message.data });
      else download(message.data);
    },
  });
}

const FIRST = "prompt_to_video";

/** Opens this browser's draft, or else a template. */
async function begin(): Promise<void> {
  const draft = readDraft();
  if (!draft) {
    const templates = await api.templates();
    const first = templates.find(({ name }) => name === FIRST) ?? templates[0];
    if (first) await open(await api.template(first.name));
    return;
  }
  store.getState().open(draft.document, draft.name, draft.version);
  if (!draft.isKept) store.setState({ kept: null });
  if (draft.name && draft.job) remember(draft.name, draft.job);
  if (draft.job) store.getState().follow(draft.job);
}

/** Starts the editor; if the server doesn't answer, shows why, and tries again. */
export async function startUp(isFirst = true): Promise<void> {
  if (isFirst) store.setState({ theme: readTheme() });
  try {
    await learn();
    await begin();
  } catch (error) {
    const text = error instanceof Refused && error.status === 401 ? t("start.token") : t("start.failed");
    if (isFirst) store.getState().tell(`${text} ${(error as Error).message}`, "bad");
    setTimeout(startUp, TRY_AGAIN_AFTER, false);
    return;
  }
  connect();
  watch();
}
