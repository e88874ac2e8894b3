/** Files that runs make: their kinds, and the content of tables. */

import { csvParseRows, tsvParseRows } from "d3-dsv";
import type { FileRef, Job } from "./schema";

export type FileKind = "image" | "video" | "table" | "text" | "other";

const KINDS: Record<string, FileKind> = {
  png: "image",
  jpg: "image",
  jpeg: "image",
  webp: "image",
  gif: "image",
  avif: "image",
  mp4: "video",
  webm: "video",
  mov: "video",
  csv: "table",
  tsv: "table",
  json: "table",
  jsonl: "table",
  txt: "text",
  md: "text",
  log: "text",
};

function extension(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1).toLowerCase();
}

export function kindOf(name: string): FileKind {
  return KINDS[extension(name)] ?? "other";
}

export interface Table {
  columns: string[];
  rows: string[][];
  /** The total number of rows, if only the first are loaded. */
  total: number;
}

/** A CSV, TSV, JSON or JSON-lines file as a table; null if it isn't one. */
export function readTable(name: string, text: string): Table | null {
  const read = READERS[extension(name)];
  try {
    return read?.(text) ?? null;
  } catch {
    return null;
  }
}

const READERS: Record<string, (text: string) => Table | null> = {
  csv: (text) => fromLines(csvParseRows(text)),
  tsv: (text) => fromLines(tsvParseRows(text)),
  json: (text) => fromJson(JSON.parse(text)),
  jsonl: (text) =>
    fromRecords(
      text
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    ),
};

function fromLines([columns, ...rows]: string[][]): Table | null {
  return columns ? { columns, rows, total: rows.length } : null;
}

/** A preview, as `PreviewTable` writes it, or a list of records. */
function fromJson(data: unknown): Table | null {
  const { columns, rows, total } = (data ?? {}) as { columns?: unknown; rows?: unknown; total?: unknown };
  if (!Array.isArray(columns) || !Array.isArray(rows) || !rows.every(Array.isArray)) return fromRecords(data);
  return {
    columns: columns.map(String),
    rows: rows.map((row: unknown[]) => row.map(cell)),
    total: typeof total === "number" ? total : rows.length,
  };
}

function fromRecords(data: unknown): Table | null {
  const isRecords =
    Array.isArray(data) && data.length > 0 && data.every((row) => row && typeof row === "object");
  if (!isRecords) return null;
  const records = data as Record<string, unknown>[];
  const columns = [...new Set(records.flatMap((record) => Object.keys(record)))];
  return fromLines([columns, ...records.map((record) => columns.map((column) => cell(record[column])))]);
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export interface Bin {
  from: number;
  to: number;
  count: number;
}

/** A histogram with equal bins; null if a column isn't numeric, or has a single value. */
export function histogram(values: string[], bins = 24): Bin[] | null {
  const given = values.filter((value) => value.trim() !== "");
  const numbers = given.map(Number);
  if (numbers.length < 3 || !numbers.every(Number.isFinite)) return null;
  const low = numbers.reduce((least, number) => Math.min(least, number), Infinity);
  const high = numbers.reduce((most, number) => Math.max(most, number), -Infinity);
  if (low === high) return null;
  const width = (high - low) / bins;
  const counted = Array.from({ length: bins }, (_, at) => ({
    from: low + at * width,
    to: low + (at + 1) * width,
    count: 0,
  }));
  for (const number of numbers) {
    const bin = counted[Math.min(bins - 1, Math.floor((number - low) / width))];
    if (bin) bin.count += 1;
  }
  return counted;
}

/** Files without duplicates. */
export function eachOnce(files: FileRef[]): FileRef[] {
  return [
    ...new Map(files.map((file) => [`${file.type}/${file.subfolder}/${file.filename}`, file])).values(),
  ];
}

/** All files among a job's outputs. */
export function filesOf(job: Job): FileRef[] {
  const lists = Object.values(job.outputs ?? {}).flatMap((byKind) => Object.values(byKind));
  return eachOnce(lists.flat().filter((item): item is FileRef => typeof item === "object"));
}
