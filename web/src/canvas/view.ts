/** The visible part of the canvas, by which positions for new nodes are found. */

import { getViewportForBounds, type ReactFlowInstance } from "@xyflow/react";
import type { Point } from "../schema";
import { ONCE_DRAWN } from "../ui/EditableText";
import type { FlowEdge, FlowNode } from "./flow";

let flow: ReactFlowInstance<FlowNode, FlowEdge> | null = null;
let pointer: Point | null = null;

export function setFlow(instance: ReactFlowInstance<FlowNode, FlowEdge>): void {
  flow = instance;
}

/** Records the position of the pointer in the window; null when it has left the canvas. */
export function setPointer(at: Point | null): void {
  pointer = at;
}

/** A point of the window in the graph's coordinates. */
export function toGraph(at: Point): Point {
  const { x, y } = flow?.screenToFlowPosition(at) ?? at;
  return { x: Math.round(x), y: Math.round(y) };
}

const canvasBox = () => window.document.querySelector(".react-flow")?.getBoundingClientRect();

/** The position for something new: under the pointer, or else in the middle of the view. */
export function placeForNew(): Point {
  if (pointer) return toGraph(pointer);
  const box = canvasBox();
  return box ? toGraph({ x: box.x + box.width / 2 - 140, y: box.y + box.height / 3 }) : { x: 0, y: 0 };
}

export function isPointerIn(): boolean {
  return pointer !== null;
}

const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export const MIN_ZOOM = 0.05;
const FITTED_ZOOM = 1.1;
const PADDING = 0.12;

/**
 * Shows all nodes, or some. React Flow's own `fitView` waits for nodes while there are none, or none measured, and would
 * move the view after the first one has been added.
 */
export function fit(ids?: string[]): void {
  const box = canvasBox();
  const only = ids && new Set(ids);
  const nodes = flow?.getNodes().filter(({ id }) => only?.has(id) ?? true) ?? [];
  if (!flow || !box || nodes.length === 0) return;
  const bounds = flow.getNodesBounds(nodes);
  const view = getViewportForBounds(bounds, box.width, box.height, MIN_ZOOM, FITTED_ZOOM, PADDING);
  void flow.setViewport(view, { duration: isCalm() ? 0 : 250 });
}

/** Resets the view of an empty canvas, at zoom 1. */
export function resetView(): void {
  void flow?.setViewport({ x: 0, y: 0, zoom: 1 });
}

export function zoom(factor: number): void {
  void flow?.zoomTo(flow.getZoom() * factor);
}

/** Moves the keyboard focus to a node. */
export function focusNode(id: string): void {
  window.document.querySelector<HTMLElement>(`.react-flow__node[data-id="${CSS.escape(id)}"]`)?.focus();
}

/** Moves the keyboard focus to a new node, unless a field has got it by then. */
export function focusNewNode(id: string): void {
  setTimeout(() => {
    if (!window.document.activeElement?.matches("input, textarea, select")) focusNode(id);
  }, ONCE_DRAWN);
}
