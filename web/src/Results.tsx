/** A node's results: pictures, videos, texts, tables. */

import { type ComponentType, useEffect, useMemo, useRef } from "react";
import { thumbnailUrl, viewUrl } from "./api";
import { t } from "./i18n";
import { type Bin, type FileKind, histogram, kindOf, readTable, type Table } from "./media";
import type { NodeRun, Report } from "./run";
import type { FileRef } from "./schema";
import { store } from "./store";
import { number } from "./ui/format";
import { useLoaded } from "./ui/useLoaded";

const MOST_SHOWN = 16;
const MOST_ROWS = 50;
const MOST_PLOTS = 6;
const MOST_FIGURES = 4;
const PICTURE = /^data:image\/(jpeg|png);base64,/;

interface Props {
  run: NodeRun | undefined;
  /** A preview of the result in progress. */
  picture: string | undefined;
  title: string;
}

export function Results({ run, picture, title }: Props) {
  if (!run) return null;
  const { files, text, results, report } = run;
  const isAtWork = run.state === "running" && picture !== undefined;
  const facts = Object.entries(results);
  if (!isAtWork && files.length === 0 && !text && facts.length === 0 && !report) return null;
  return (
    <div className="results nodrag">
      {isAtWork && (
        <img className="preview" src={picture} alt={t("results.preview", { title })} draggable={false} />
      )}
      {text && <Streamed text={text} />}
      {report && <Reported report={report} title={title} />}
      {facts.length > 0 && (
        <dl>
          {facts.map(([name, value]) => (
            <Fact key={name} name={name} value={value} />
          ))}
        </dl>
      )}
      {files.length > 0 && <Files files={files} />}
    </div>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** What a node says about how it worked: the first figures in a line, the others on request. */
export function Reported({ report: { part, figures }, title }: { report: Report; title: string }) {
  const all = Object.entries(figures).map(([name, { value, unit }]) => {
    const shown = typeof value === "number" ? number(value) : value;
    return <Fact key={name} name={name} value={`${shown} ${unit}`.trim()} />;
  });
  const more = all.slice(MOST_FIGURES);
  return (
    <section className="report" aria-label={t("results.report", { title })}>
      {part && <p className="part">{part}</p>}
      <dl className="line">{all.slice(0, MOST_FIGURES)}</dl>
      {more.length > 0 && (
        <details>
          <summary>{t("results.moreFigures", { count: more.length })}</summary>
          <dl>{more}</dl>
        </details>
      )}
    </section>
  );
}

/** A text that is being written, scrolled to its end. */
function Streamed({ text }: { text: string }) {
  const box = useRef<HTMLParagraphElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text's growth is what it scrolls for
  useEffect(() => {
    box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [text]);
  return (
    <p ref={box} className="text nowheel">
      {text}
    </p>
  );
}

/** Files below one another, pictures side by side. */
export function Files({ files }: { files: FileRef[] }) {
  const shown = files.slice(-MOST_SHOWN);
  const isPair = shown.filter(({ filename }) => kindOf(filename) === "image").length > 1;
  return (
    <div className={isPair ? "files paired" : "files"}>
      {shown.map((file) => {
        const View = VIEWS[kindOf(file.filename)];
        return <View key={`${file.subfolder}/${file.filename}`} file={file} />;
      })}
      {files.length > shown.length && (
        <p className="more">{t("results.more", { count: files.length - shown.length })}</p>
      )}
    </div>
  );
}

interface ViewProps {
  file: FileRef;
}

function Picture({ file }: ViewProps) {
  const openLarge = () =>
    store.getState().set({ dialog: { name: "media", address: viewUrl(file), isVideo: false } });
  return (
    <button
      type="button"
      className="thumb"
      aria-label={t("results.open", { name: file.filename })}
      onClick={openLarge}
    >
      <img src={thumbnailUrl(file, 640)} alt={file.filename} loading="lazy" draggable={false} />
    </button>
  );
}

function Video({ file }: ViewProps) {
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return (
    <video
      src={viewUrl(file)}
      poster={thumbnailUrl(file, 640)}
      aria-label={file.filename}
      controls
      loop
      muted
      playsInline
      autoPlay={!isCalm}
      preload="metadata"
    />
  );
}

function useText(file: FileRef) {
  const address = viewUrl(file);
  return useLoaded(async () => {
    const response = await fetch(address);
    return response.ok ? response.text() : "";
  }, [address]);
}

function Text({ file }: ViewProps) {
  const { data } = useText(file);
  return <p className="text nowheel">{data}</p>;
}

function TableFile({ file }: ViewProps) {
  const { data } = useText(file);
  const table = useMemo(
    () => (data === undefined ? null : readTable(file.filename, data)),
    [data, file.filename],
  );
  if (!table) return <p className="text nowheel">{data}</p>;
  return <TableView table={table} />;
}

function TableView({ table: { columns, rows, total } }: { table: Table }) {
  const plots = useMemo(
    () =>
      columns
        .map((column, index) => ({ column, bins: histogram(rows.map((row) => row[index] ?? "")) }))
        .filter((plot): plot is { column: string; bins: Bin[] } => plot.bins !== null)
        .slice(0, MOST_PLOTS),
    [columns, rows],
  );
  return (
    <div className="table">
      {plots.length > 0 && (
        <div className="plots">
          {plots.map(({ column, bins }) => (
            <Histogram key={column} name={column} bins={bins} />
          ))}
        </div>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it */}
      <section className="scroll nowheel" tabIndex={0} aria-label={t("results.table")}>
        <table>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column} scope="col">
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, MOST_ROWS).map((row, at) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: rows have no key, and don't move
              <tr key={at}>
                {row.map((value, column) => (
                  <td key={columns[column]}>
                    {PICTURE.test(value) ? <img src={value} alt={columns[column]} /> : value}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <p className="more">
        {rows.length < total
          ? t("results.first", { count: rows.length, total })
          : t("results.rows", { count: total })}
      </p>
    </div>
  );
}

const PLOT = { width: 120, height: 40 };
const short = new Intl.NumberFormat([], { maximumSignificantDigits: 3 });

function Histogram({ name, bins }: { name: string; bins: Bin[] }) {
  const most = Math.max(...bins.map(({ count }) => count));
  const width = PLOT.width / bins.length;
  const from = short.format(bins[0]?.from ?? 0);
  const to = short.format(bins.at(-1)?.to ?? 0);
  return (
    <figure>
      <svg
        viewBox={`0 0 ${PLOT.width} ${PLOT.height}`}
        role="img"
        aria-label={t("results.histogram", { name, from, to })}
      >
        {bins.map((bin, at) => {
          const height = (bin.count / most) * PLOT.height;
          return (
            <rect
              key={bin.from}
              x={at * width + 0.5}
              y={PLOT.height - height}
              width={width - 1}
              height={height}
              rx={0.8}
            />
          );
        })}
      </svg>
      <figcaption>
        {name}
        <span>
          {from} – {to}
        </span>
      </figcaption>
    </figure>
  );
}

function Other({ file }: ViewProps) {
  return (
    <a className="file" href={viewUrl(file)} download={file.filename}>
      {file.filename}
    </a>
  );
}

const VIEWS: Record<FileKind, ComponentType<ViewProps>> = {
  image: Picture,
  video: Video,
  text: Text,
  table: TableFile,
  other: Other,
};
