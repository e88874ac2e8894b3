/** Running jobs, pending jobs in order, and past jobs. */

import { ArrowDown, ArrowUp, Eye, FolderOpen, Minus, Pause, Play, Plus, RotateCcw, X } from "lucide-react";
import { type DragEvent, useState } from "react";
import { openJob, showJob, trying } from "../actions/files";
import { cancel, retry } from "../actions/running";
import { api } from "../api";
import { t } from "../i18n";
import { isUnderWay, progressOf } from "../run";
import type { Job, Queue as State } from "../schema";
import { useStore } from "../store";
import { seconds, time } from "../ui/format";
import { IconButton } from "../ui/IconButton";
import { Loading } from "../ui/Loading";
import { useLoaded } from "../ui/useLoaded";

const RECENT = 30;
const titleOf = (job: Job) => job.title || t("document.untitled");

export function Queue() {
  const { paused, running, pending, problems, notices } = useStore((state) => state.queue);
  const ended = useStore((state) => state.ended);
  const recent = useLoaded(() => api.jobs(RECENT), [ended, running.length, pending.length]);
  const toggle = () => trying(paused ? api.resume : api.pause);
  return (
    <div className="content">
      <button type="button" className="wide" onClick={toggle} aria-pressed={paused}>
        {paused ? <Play aria-hidden /> : <Pause aria-hidden />}
        {t(paused ? "queue.resume" : "queue.pause")}
      </button>
      <NoWorkers problems={problems} />
      <Notices notices={notices} />
      <h3>{t("queue.running")}</h3>
      {running.length === 0 && <p className="empty">{t(paused ? "queue.paused" : "queue.nothingRuns")}</p>}
      <ul className="jobs">
        {running.map((job) => (
          <Running key={job.id} job={job} />
        ))}
      </ul>
      <h3>{t("queue.pending")}</h3>
      {pending.length === 0 && <p className="empty">{t("queue.nothingWaits")}</p>}
      <ol className="jobs">
        {pending.map((job, at) => (
          <Pending
            key={job.id}
            job={job}
            before={pending[at - 1]}
            after={pending[at + 2]}
            isLast={at === pending.length - 1}
          />
        ))}
      </ol>
      <h3>{t("queue.past")}</h3>
      <Loading loaded={recent}>
        {({ jobs }) => {
          const past = jobs.filter(({ state }) => !isUnderWay(state));
          return (
            <ul className="jobs">
              {past.map((job) => (
                <Past key={job.id} job={job} />
              ))}
              {past.length === 0 && <li className="empty">{t("queue.nothingPast")}</li>}
            </ul>
          );
        }}
      </Loading>
    </div>
  );
}

/** Why nothing runs on some devices. */
export function NoWorkers({ problems }: Pick<State, "problems">) {
  return problems.map(({ device, problem }) => (
    <p key={device} className="why" role="alert">
      {t("queue.noWorker", { device: device || t("queue.bestDevice"), problem })}
    </p>
  ));
}

/** What happened to the queue. */
export function Notices({ notices }: Pick<State, "notices">) {
  return notices.map((notice) => (
    <p key={notice} className="why" role="alert">
      {notice}
    </p>
  ));
}

function Running({ job }: { job: Job }) {
  const run = useStore((state) => state.runs[job.id]);
  const { done, total } = run ? progressOf(run) : { done: 0, total: 0 };
  return (
    <li className="job running">
      <b>{titleOf(job)}</b>
      <small>{total > 0 ? t("queue.progress", { done, total }) : t("job.running")}</small>
      <span className="acts">
        <IconButton
          icon={Eye}
          label={t("queue.show", { title: titleOf(job) })}
          onClick={() => void showJob(job.id)}
        />
        <IconButton
          icon={X}
          label={t("queue.cancel", { title: titleOf(job) })}
          onClick={() => void cancel(job.id)}
        />
      </span>
      {total > 0 && <progress aria-label={t("status.progress")} value={done} max={total} />}
    </li>
  );
}

interface PendingProps {
  job: Job;
  before: Job | undefined;
  /** The job that follows this one after it is moved down by one. */
  after: Job | undefined;
  isLast: boolean;
}

const DRAGGED = "application/x-kinograph-job";

function Pending({ job, before, after, isLast }: PendingProps) {
  const [isOver, setIsOver] = useState(false);
  const title = titleOf(job);
  const move = (where: Parameters<typeof api.move>[1], id = job.id) => void trying(() => api.move(id, where));
  const setPriority = (priority: number) => void trying(() => api.prioritise(job.id, priority));
  const drop = (event: DragEvent) => {
    setIsOver(false);
    const dragged = event.dataTransfer.getData(DRAGGED);
    if (dragged && dragged !== job.id) move({ before: job.id }, dragged);
  };
  return (
    <li
      className={isOver ? "job over" : "job"}
      draggable
      onDragStart={(event) => event.dataTransfer.setData(DRAGGED, job.id)}
      onDragOver={(event) => {
        event.preventDefault();
        setIsOver(true);
      }}
      onDragLeave={() => setIsOver(false)}
      onDrop={drop}
    >
      <b>{title}</b>
      <small>{t("queue.priority", { priority: job.priority })}</small>
      <span className="acts">
        <IconButton
          icon={Minus}
          label={t("queue.lower", { title })}
          onClick={() => setPriority(job.priority - 1)}
        />
        <IconButton
          icon={Plus}
          label={t("queue.raise", { title })}
          onClick={() => setPriority(job.priority + 1)}
        />
        <IconButton
          icon={ArrowUp}
          label={t("queue.up", { title })}
          disabled={!before}
          onClick={() => before && move({ before: before.id })}
        />
        <IconButton
          icon={ArrowDown}
          label={t("queue.down", { title })}
          disabled={isLast}
          onClick={() => move(after ? { before: after.id } : { to: "back" })}
        />
        <IconButton icon={X} label={t("queue.cancel", { title })} onClick={() => void cancel(job.id)} />
      </span>
    </li>
  );
}

function Past({ job }: { job: Job }) {
  const title = titleOf(job);
  const isShown = useStore((state) => state.job === job.id);
  return (
    <li className={`job ${job.state} ${isShown ? "shown" : ""}`}>
      <b>{title}</b>
      <small>
        {t(`job.${job.state}`)} · {time(job.finished)}
        {job.seconds !== null && ` · ${seconds(job.seconds)}`}
      </small>
      {job.problem && <small className="why">{job.problem.message}</small>}
      <span className="acts">
        <IconButton icon={Eye} label={t("queue.show", { title })} onClick={() => void showJob(job.id)} />
        <IconButton
          icon={FolderOpen}
          label={t("queue.open", { title })}
          onClick={() => void openJob(job.id)}
        />
        {job.state !== "done" && (
          <IconButton
            icon={RotateCcw}
            label={t("queue.retry", { title })}
            onClick={() => void retry(job.id)}
          />
        )}
      </span>
    </li>
  );
}
