/** The types of documents, kinds of node, and the server's answers. */

export type Json = null | boolean | number | bigint | string | Json[] | { [name: string]: Json };

/** A node, and the index or the name of one of its outputs. */
export type Link = [node: string, slot: number | string];

export type Mode = "mute" | "bypass";

/** Whether a node takes what is left of a list whose items have failed in part, or fails, as is usual. */
export type Partiality = "allow" | "fail";

export interface Meta {
  title?: string;
  mode?: Mode;
  partial?: Partiality;
}

export interface Entry {
  class_type: string;
  inputs: Record<string, Json>;
  _meta?: Meta;
}

export interface Point {
  x: number;
  y: number;
}

export interface Box extends Point {
  width: number;
  height: number;
}

export interface Placed extends Point {
  width?: number;
  collapsed?: boolean;
}

export interface Note extends Box {
  text: string;
}

export interface Group extends Box {
  title: string;
  hue: number;
}

/** Where things are drawn; the server stores it without reading it. */
export interface Layout {
  nodes: Record<string, Placed>;
  notes: Record<string, Note>;
  groups: Record<string, Group>;
  /** The bends of links, by "node.input". */
  bends: Record<string, Point[]>;
}

export interface Document {
  kinograph: 1;
  title?: string;
  description?: string;
  inputs?: Record<string, string>;
  outputs?: Record<string, Link>;
  partial?: Partiality;
  graph: Record<string, Entry>;
  subgraphs?: Record<string, Document>;
  layout?: Layout;
}

export interface JsonSchema {
  type?: string;
  title?: string;
  enum?: Json[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  minimum?: number | bigint;
  maximum?: number | bigint;
  exclusiveMinimum?: number | bigint;
  exclusiveMaximum?: number | bigint;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  /** The type of an input that only a link can provide. */
  socket?: string;
  widget?: string;
  /** Of an input that names a model: the forms that it takes, and the categories of the folders that have them. */
  takes?: string[];
  categories?: string[];
}

export interface InputSpec {
  name: string;
  type: string;
  required: boolean;
  help: string;
  default?: Json;
  holds?: "model" | "media" | "files";
  /** What to use instead; absent unless the input is deprecated. */
  deprecated?: string;
}

export interface OutputSpec {
  name: string;
  type: string;
}

export interface Kind {
  kind: string;
  version: number;
  category: string;
  help: string;
  uses: string;
  saves: string | null;
  /** The distribution that the kind comes from; null if it is built in. */
  pack?: string | null;
  /** What to use instead; empty unless the kind is deprecated. */
  deprecated?: string;
  /** Whether it runs in every run, and so does what depends on it. */
  volatile?: boolean;
  inputs: InputSpec[];
  outputs: OutputSpec[];
  schema: { properties?: Record<string, JsonSchema> };
}

export type Kinds = Record<string, Kind>;

/** A distribution that provides kinds of node. */
export interface Pack {
  name: string;
  version: string;
  kinds: string[];
  /** Why it could not be loaded; null if it was. */
  problem: string | null;
}

/** For each output type, the input types that it may be linked to. */
export type Links = Record<string, string[]>;

export interface Problem {
  message: string;
  node: string | null;
  input: string | null;
  hint: string | null;
}

export interface FileRef {
  filename: string;
  subfolder: string;
  type: string;
}

export interface InputFile extends FileRef {
  size: number;
  modified: number;
}

export interface OutputFile extends InputFile {
  kind: string;
  title: string;
}

export type JobState = "pending" | "running" | "done" | "failed" | "cancelled";

export interface Job {
  id: string;
  number: number;
  state: JobState;
  title: string;
  priority: number;
  created: number | null;
  started: number | null;
  finished: number | null;
  attempts: number;
  seconds: number | null;
  problem: Problem | null;
  outputs: Record<string, Record<string, (FileRef | string)[]>>;
  client_id: string | null;
}

export interface FullJob extends Job {
  document: Document;
  record?: {
    cached?: number;
    timings?: Record<string, number>;
    reports?: Record<string, Figures>;
    failures?: { node: string; kind: string; problem: Problem; trace: string }[];
    warnings?: Problem[];
  };
}

export interface Queue {
  paused: boolean;
  running: Job[];
  pending: Job[];
  /** Devices whose workers can't start; a device without a name is the best of the machine. */
  problems: { device: string; problem: string }[];
  /** That the queue was damaged when the server started, and where it is kept. */
  notices: string[];
}

export interface Verdict {
  valid: boolean;
  problems: Problem[];
  missing: Problem[];
}

/** A workflow as a document, and what that lacks, such as values for which its nodes have no input. */
export interface Converted {
  document: Document;
  warnings: Problem[];
}

export interface SavedWorkflow {
  name: string;
  title: string;
  saved: string | number;
  versions: number;
}

export interface Version {
  version: number;
  saved: string | number;
  size: number;
}

export interface Template {
  name: string;
  title: string;
  description: string;
}

/** A model on the server's machine. */
export interface ListedModel {
  source: string;
  path: string;
  bytes: number;
  /** "folder", or the ending of its file. */
  form: string;
  category?: string | null;
  /** Why it can't be used. */
  problem?: string | null;
}

export interface NeededModel {
  source: string;
  here: boolean;
  nodes: [node: string, input: string][];
}

export interface ModelProgress {
  source: string;
  done: number;
  total: number | null;
  path?: string;
  error?: string;
}

/** What a node says about how it worked. */
export interface Figure {
  value: number | string;
  unit: string;
}

export type Figures = Record<string, Figure>;

/** The events of a run, named as in the engine. */
export type RunEvent =
  | { event: "run_started"; nodes: number; pending: string[] }
  | { event: "run_extended"; nodes: string[] }
  | { event: "node_started"; node: string; kind: string }
  | { event: "node_progress"; node: string; done: number; total: number; unit: string }
  | { event: "node_text"; node: string; text: string }
  | { event: "node_reported"; node: string; figures: Figures }
  | { event: "node_saved"; node: string; files: FileRef[] }
  | { event: "node_result"; node: string; outputs: Record<string, string> }
  | { event: "node_cached"; node: string; kind: string }
  | { event: "node_finished"; node: string; kind: string; seconds: number }
  | { event: "node_retried"; node: string; problem: Problem; attempt: number; attempts: number }
  | { event: "node_warned"; node: string; problem: Problem }
  | { event: "node_failed"; node: string; kind: string; problem: Problem; trace: string }
  | { event: "node_skipped"; node: string; kind: string; because: string }
  | { event: "run_finished"; status: "done" | "failed" | "cancelled"; seconds: number; cached: number };
