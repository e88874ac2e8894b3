/** The server's routes. Addresses are relative to the page, so that the page may be served under any path. */

import { parse, stringify } from "./json";
import type {
  Converted,
  Document,
  FileRef,
  FullJob,
  InputFile,
  Job,
  Kinds,
  Links,
  ListedModel,
  NeededModel,
  OutputFile,
  Pack,
  Problem,
  SavedWorkflow,
  Template,
  Verdict,
  Version,
} from "./schema";

/** The server refused a request, with these problems. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly problems: Problem[] = [],
  ) {
    super(message);
  }
}

/** Whether an error means that a request failed: the server refused it, or can't be reached. */
export function isFailure(error: unknown): error is Refused | TypeError {
  return error instanceof Refused || error instanceof TypeError;
}

type Query = Record<string, string | number | undefined>;

export function address(path: string, query: Query = {}): string {
  const url = new URL(`api/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url.href;
}

export function viewUrl({ filename, subfolder, type }: FileRef): string {
  return address("view", { filename, subfolder, type });
}

/** The address of a thumbnail of a picture or video; `size` is the longer side in pixels. */
export function thumbnailUrl({ filename, subfolder, type }: FileRef, size: number): string {
  return address("kinograph/thumbnail", { filename, subfolder, type, size });
}

async function refusal(response: Response): Promise<Refused> {
  const text = await response.text();
  try {
    const { error, problems } = JSON.parse(text);
    return new Refused(error?.message ?? text, response.status, problems ?? []);
  } catch {
    return new Refused(text || response.statusText, response.status);
  }
}

async function ask<T>(method: string, path: string, query?: Query, body?: unknown): Promise<T> {
  const isForm = body instanceof FormData;
  const response = await fetch(address(path, query), {
    method,
    body: isForm ? body : body === undefined ? undefined : stringify(body),
    headers: body === undefined || isForm ? {} : { "Content-Type": "application/json" },
  });
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return (text ? parse(text) : undefined) as T;
}

const get = <T>(path: string, query?: Query) => ask<T>("GET", `kinograph/${path}`, query);
const post = <T>(path: string, body: unknown = {}) => ask<T>("POST", `kinograph/${path}`, undefined, body);
const at = encodeURIComponent;

/** The packs of kinds, including those that could not be loaded; none if the server has no such route. */
async function packs(): Promise<Pack[]> {
  try {
    return (await get<{ packs: Pack[] }>("packs")).packs;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return [];
    throw error;
  }
}

export const api = {
  kinds: () => get<Kinds>("nodes"),
  packs,
  types: () => get<{ links: Links }>("types"),
  validate: (workflow: Document) => post<Verdict>("validate", { workflow }),
  convertFile: (file: File) => post<Converted>("convert", form({ file })),

  templates: () => get<Template[]>("templates"),
  template: (name: string) => get<Document>(`templates/${at(name)}`),
  workflows: () => get<SavedWorkflow[]>("workflows"),
  /** Refused (409) if `after` is not the last version. */
  save: (name: string, workflow: Document, after?: number) =>
    ask<{ version: number }>("PUT", `kinograph/workflows/${at(name)}`, { after }, workflow),
  deleteWorkflow: (name: string) => ask<void>("DELETE", `kinograph/workflows/${at(name)}`),
  versions: (name: string) => get<Version[]>(`workflows/${at(name)}/versions`),
  version: (name: string, version: number) => get<Document>(`workflows/${at(name)}/versions/${version}`),
  restore: (name: string, version: number) =>
    post<{ version: number }>(`workflows/${at(name)}/versions/${version}/restore`),

  run: (prompt: Document, client_id: string, targets?: string[]) =>
    ask<{ prompt_id: string; node_errors: Record<string, unknown> }>("POST", "prompt", undefined, {
      prompt,
      client_id,
      ...(targets ? { partial_execution_targets: targets } : {}),
    }),
  sweep: (workflow: Document, axes: { name: string; values: unknown[] }[], client_id: string) =>
    post<{ prompt_id: string }>("sweeps", { workflow, axes, client_id }),
  jobs: (limit: number) => get<{ jobs: Job[]; total: number }>("jobs", { limit }),
  job: (id: string) => get<FullJob>(`jobs/${at(id)}`),
  cancel: (id: string) => post<void>(`jobs/${at(id)}/cancel`),
  retry: (id: string) => post<void>(`jobs/${at(id)}/retry`),
  move: (id: string, where: { before: string } | { to: "front" | "back" }) =>
    post<void>(`jobs/${at(id)}/move`, where),
  prioritise: (id: string, priority: number) => post<void>(`jobs/${at(id)}/priority`, { priority }),
  pause: () => post<void>("pause"),
  resume: () => post<void>("resume"),

  models: () => get<ListedModel[]>("models"),
  needed: (workflow: Document) => post<NeededModel[]>("models/needed", { workflow }),
  fetchModel: (source: string) => post<void>("models/fetch", { source }),
  stopFetching: (source: string) => post<void>("models/cancel", { source }),

  files: () => get<InputFile[]>("files", { type: "input" }),
  outputs: (query: { query?: string; kind?: string; limit: number }) =>
    get<{ items: OutputFile[]; total: number }>("outputs", query),
  workflowOf: ({ filename, subfolder, type }: FileRef) =>
    get<Converted>("outputs/workflow", { filename, subfolder, type }),
  deleteOutput: ({ filename, subfolder, type }: FileRef) =>
    ask<void>("DELETE", "kinograph/outputs", { filename, subfolder, type }),
  upload: (image: File) =>
    ask<FileRef & { name: string }>("POST", "upload/image", undefined, form({ image, type: "input" })),
};

function form(parts: Record<string, string | File>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(parts)) data.append(name, value);
  return data;
}
