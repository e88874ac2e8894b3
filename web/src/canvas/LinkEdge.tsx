/** A link, in the colour of its type, with its bends. */

import { BaseEdge, type EdgeProps } from "@xyflow/react";
import { memo, type PointerEvent, useState } from "react";
import { bend } from "../actions/editing";
import { t } from "../i18n";
import type { Point } from "../schema";
import { shownRun, useStore } from "../store";
import { runId } from "../workflow";
import { coloured } from "./colours";
import type { FlowEdge } from "./flow";
import { pathThrough, withBend } from "./paths";
import { toGraph } from "./view";

export const LinkEdge = memo(function LinkEdge(props: EdgeProps<FlowEdge>) {
  const { id, sourceX, sourceY, targetX, targetY, target, data, selected } = props;
  const isRunning = useStore(
    (state) => shownRun(state)?.nodes[runId(state.path, target)]?.state === "running",
  );
  const isNear = useStore((state) => state.distance === "near");
  const [moved, setMoved] = useState<Point[] | null>(null);
  const bends = moved ?? data?.bends ?? [];
  const from = { x: sourceX, y: sourceY };
  const to = { x: targetX, y: targetY };

  const drag = (at: number) => ({
    onPointerDown: (event: PointerEvent) => {
      event.stopPropagation();
      event.currentTarget.setPointerCapture(event.pointerId);
      setMoved(bends);
    },
    onPointerMove: (event: PointerEvent) => {
      if (moved) setMoved(moved.with(at, toGraph({ x: event.clientX, y: event.clientY })));
    },
    onPointerUp: (event: PointerEvent) => {
      if (moved) bend(id, moved.with(at, toGraph({ x: event.clientX, y: event.clientY })));
      setMoved(null);
    },
    onDoubleClick: (event: React.MouseEvent) => {
      event.stopPropagation();
      bend(id, bends.toSpliced(at, 1));
    },
  });

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: bends only affect the drawing; links can be made and cut by keyboard
    <g
      className={isRunning ? "link running" : "link"}
      style={coloured(data?.type ?? "")}
      onDoubleClick={(event) => {
        event.stopPropagation();
        bend(id, withBend(from, bends, to, toGraph({ x: event.clientX, y: event.clientY })));
      }}
    >
      <BaseEdge id={id} path={pathThrough(from, bends, to)} interactionWidth={isNear ? 18 : 0} />
      {bends.map((point, at) => (
        <circle
          // biome-ignore lint/suspicious/noArrayIndexKey: a bend is identified by its position along the line
          key={at}
          className={selected ? "bend selected" : "bend"}
          cx={point.x}
          cy={point.y}
          r={6}
          {...drag(at)}
        >
          <title>{t("link.bend")}</title>
        </circle>
      ))}
    </g>
  );
});
