/** The state of a node, as a short text and a progress bar. */

import {
  Ban,
  Check,
  CircleAlert,
  Clock,
  LoaderCircle,
  type LucideIcon,
  SkipForward,
  Zap,
} from "lucide-react";
import { type TextKey, t } from "../i18n";
import type { NodeRun, NodeState } from "../run";
import { seconds } from "../ui/format";

const LOOKS: Record<NodeState, { icon: LucideIcon; text: TextKey }> = {
  pending: { icon: Clock, text: "state.pending" },
  running: { icon: LoaderCircle, text: "state.running" },
  cached: { icon: Zap, text: "state.cached" },
  done: { icon: Check, text: "state.done" },
  failed: { icon: CircleAlert, text: "state.failed" },
  skipped: { icon: SkipForward, text: "state.skipped" },
  cancelled: { icon: Ban, text: "state.cancelled" },
};

export function StateBadge({ run }: { run: NodeRun | undefined }) {
  if (!run) return null;
  const { icon: Icon, text } = LOOKS[run.state];
  const isCounted = run.total > 0 && run.state === "running";
  const detail = isCounted
    ? `${run.done}/${run.total}`
    : run.seconds !== null && run.state === "done"
      ? seconds(run.seconds)
      : "";
  return (
    <span
      className={`state ${run.state}`}
      role="img"
      aria-label={`${t(text)} ${detail}`.trim()}
      title={t(text)}
    >
      {detail}
      <Icon aria-hidden />
    </span>
  );
}

export function StateBar({ run, title }: { run: NodeRun | undefined; title: string }) {
  if (run?.state !== "running") return <div className="bar" />;
  const isKnown = run.total > 0;
  return (
    <div
      className={isKnown ? "bar" : "bar unknown"}
      role="progressbar"
      aria-label={t("node.progress", { title })}
      aria-valuemin={0}
      aria-valuemax={isKnown ? run.total : undefined}
      aria-valuenow={isKnown ? run.done : undefined}
      aria-valuetext={isKnown ? `${run.done} / ${run.total} ${run.unit}` : t("state.running")}
    >
      <span style={isKnown ? { width: `${(run.done / run.total) * 100}%` } : undefined} />
    </div>
  );
}
