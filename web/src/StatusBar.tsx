/** The status bar: the connection, the run, and the document's problems. */

import {
  ChevronRight,
  CircleAlert,
  CircleCheck,
  Maximize,
  Minus,
  Plus,
  TriangleAlert,
  Wifi,
  WifiOff,
  X,
} from "lucide-react";
import type { MouseEvent } from "react";
import { countLeftOut } from "./actions/files";
import { fit, focusNode, zoom } from "./canvas/view";
import { type TextKey, t } from "./i18n";
import { progressOf } from "./run";
import type { JobState, Problem } from "./schema";
import { type State, shownRun, store, useStore } from "./store";
import type { MenuItem } from "./store/ui";
import { seconds } from "./ui/format";
import { IconButton } from "./ui/IconButton";
import { isSamePath, levelAt, type Step, titleOf } from "./workflow";

export function StatusBar() {
  const isConnected = useStore((state) => state.isConnected);
  const fault = useStore((state) => state.queue.problems[0]);
  const notice = useStore((state) => state.queue.notices[0]);
  const leftOut = useStore((state) => state.leftOut);
  return (
    <footer className="statusbar">
      <span className={isConnected ? "online" : "offline"} role="status">
        {isConnected ? <Wifi aria-hidden /> : <WifiOff aria-hidden />}
        {t(isConnected ? "status.online" : "status.offline")}
      </span>
      {fault && (
        <span className="why" role="alert" title={fault.problem}>
          {t("status.noWorker")}
        </span>
      )}
      {notice && (
        <span className="why" role="alert" title={notice}>
          {t("status.newQueue")}
        </span>
      )}
      <Problems />
      <LeftOut leftOut={leftOut} />
      <RunStatus />
      <div className="zoom">
        <IconButton icon={Minus} label={t("canvas.zoomOut")} onClick={() => zoom(0.8)} />
        <IconButton icon={Maximize} label={t("canvas.fit")} onClick={() => fit()} />
        <IconButton icon={Plus} label={t("canvas.zoomIn")} onClick={() => zoom(1.25)} />
      </div>
    </footer>
  );
}

/** Shows the node that has a problem, at its level of the canvas. */
function show({ node }: Problem): void {
  const { enter, select, set, document, path } = store.getState();
  set({ view: "graph" });
  const parts = (node ?? "").split("/");
  const steps: Step[] = [];
  for (const part of parts.slice(0, -1)) {
    const entry = levelAt(document, steps).graph[part];
    if (entry) steps.push({ node: part, name: entry.class_type });
  }
  if (!isSamePath(steps, path)) enter(steps);
  const id = parts.at(-1) ?? "";
  select([id]);
  setTimeout(() => {
    fit([id]);
    focusNode(id);
  }, 120);
}

/** A problem in a line: its node and input, and the message. */
export function lineOf({ node, input, message }: Problem): string {
  const entry = node ? store.getState().document.graph[node] : undefined;
  const place = entry ? titleOf(entry) : (node ?? t("status.document"));
  return `${input ? `${place}, ${input}` : place}: ${message}`;
}

/** Opens a menu of problems above a button; choosing one shows its node. */
function list(event: MouseEvent, label: string, problems: Problem[], more: MenuItem[] = []): void {
  const { left, top } = event.currentTarget.getBoundingClientRect();
  const items: MenuItem[] = problems.map((problem) => ({
    label: lineOf(problem),
    icon: CircleAlert,
    act: () => problem.node && show(problem),
  }));
  items.push(...more);
  store.getState().set({ menu: { label, at: { x: left, y: top - 40 * items.length }, items } });
}

/** What the file that was opened had and the document hasn't, until another is opened or the list is removed. */
export function LeftOut({ leftOut }: Pick<State, "leftOut">) {
  if (leftOut.length === 0) return null;
  const forget = { label: t("status.forget"), icon: X, act: () => store.setState({ leftOut: [] }) };
  return (
    <button
      type="button"
      className="left-out"
      aria-haspopup="menu"
      onClick={(event) => list(event, t("status.leftOut"), leftOut, [forget])}
    >
      <TriangleAlert aria-hidden />
      {countLeftOut(leftOut)}
    </button>
  );
}

function Problems() {
  const { problems, missing } = useStore((state) => state.verdict);
  const all = [...problems, ...missing];
  if (all.length === 0) {
    return (
      <span className="valid">
        <CircleCheck aria-hidden />
        {t("status.valid")}
      </span>
    );
  }
  return (
    <button
      type="button"
      className="faults"
      aria-haspopup="menu"
      onClick={(event) => list(event, t("status.problems"), all)}
    >
      <CircleAlert aria-hidden />
      {t(all.length === 1 ? "status.problem" : "status.problemsCount", { count: all.length })}
    </button>
  );
}

const JOB_TEXTS: Record<JobState, TextKey> = {
  pending: "job.pending",
  running: "job.running",
  done: "job.done",
  failed: "job.failed",
  cancelled: "job.cancelled",
};

function RunStatus() {
  const run = useStore(shownRun);
  if (!run) return <span className="spring" />;
  const { done, total } = progressOf(run);
  const isBusy = run.state === "running";
  return (
    <span className={`job spring ${run.state}`} role="status">
      {t(JOB_TEXTS[run.state])}
      {isBusy && total > 0 && (
        <>
          <progress aria-label={t("status.progress")} value={done} max={total} />
          {`${done}/${total}`}
        </>
      )}
      {!isBusy && run.seconds !== null && ` · ${seconds(run.seconds)}`}
      {!isBusy && run.cached > 0 && ` · ${t("status.cached", { count: run.cached })}`}
      {run.problem && <span className="why">{run.problem.message}</span>}
    </span>
  );
}

export function Breadcrumbs() {
  const path = useStore((state) => state.path);
  const title = useStore((state) => state.document.title || t("document.untitled"));
  const { enter } = store.getState();
  if (path.length === 0) return null;
  const crumbs = [title, ...path.map((step) => step.name)];
  return (
    <nav className="crumbs" aria-label={t("crumbs.label")}>
      <ol>
        {crumbs.map((crumb, at) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: a crumb is identified by its depth
          <li key={at}>
            {at > 0 && <ChevronRight aria-hidden />}
            <button
              type="button"
              aria-current={at === path.length ? "page" : undefined}
              onClick={() => enter(path.slice(0, at))}
            >
              {crumb}
            </button>
          </li>
        ))}
      </ol>
    </nav>
  );
}
