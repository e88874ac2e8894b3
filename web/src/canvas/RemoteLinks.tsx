/** All links at once, when thousands are visible: straight lines, in one element per colour. */

import { ViewportPortal } from "@xyflow/react";
import { useMemo } from "react";
import { useStore } from "../store";
import { coloured } from "./colours";
import type { FlowEdge, FlowNode } from "./flow";

/** Lines from the middle of a card's right side to the middle of another's left, by type. */
function lines(nodes: FlowNode[], edges: FlowEdge[]): Map<string, string> {
  const known = new Map(nodes.map((node) => [node.id, node]));
  const found = new Map<string, string>();
  for (const { source, target, data } of edges) {
    const [from, to] = [known.get(source), known.get(target)];
    if (!from || !to || !data) continue;
    const start = `${from.position.x + (from.measured?.width ?? 0)} ${middle(from)}`;
    const line = `M${start}L${to.position.x} ${middle(to)}`;
    found.set(data.type, (found.get(data.type) ?? "") + line);
  }
  return found;
}

function middle({ position, measured }: FlowNode): number {
  return position.y + (measured?.height ?? 0) / 2;
}

export function RemoteLinks() {
  const nodes = useStore((state) => state.nodes);
  const edges = useStore((state) => state.edges);
  const found = useMemo(() => lines(nodes, edges), [nodes, edges]);
  return (
    <ViewportPortal>
      <svg className="remote-links" aria-hidden="true">
        {[...found].map(([type, path]) => (
          <path key={type} d={path} style={coloured(type)} />
        ))}
      </svg>
    </ViewportPortal>
  );
}
