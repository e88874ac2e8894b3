/** The canvas: React Flow, connected to the store. */

import {
  Background,
  BackgroundVariant,
  type Connection,
  type Edge,
  type FinalConnectionState,
  MiniMap,
  type OnConnectStartParams,
  ReactFlow,
  type Viewport,
} from "@xyflow/react";
import { type DragEvent, type KeyboardEvent, type MouseEvent, useEffect } from "react";
import { bend, endOf, enter, link, mayLink, unlink } from "../actions/editing";
import { importFile } from "../actions/files";
import { t } from "../i18n";
import { NodeCard } from "../NodeCard";
import { store, useStore } from "../store";
import { GroupBox, NoteCard } from "./Annotations";
import { plainColour } from "./colours";
import type { FlowEdge, FlowNode } from "./flow";
import { LinkEdge } from "./LinkEdge";
import { openCanvasMenu } from "./menus";
import { RemoteLinks } from "./RemoteLinks";
import { fit, MIN_ZOOM, resetView, setFlow, setPointer, toGraph } from "./view";

const NODE_TYPES = { card: NodeCard, note: NoteCard, group: GroupBox };
const EDGE_TYPES = { link: LinkEdge };
const NO_EDGES: FlowEdge[] = [];
const SELECT_MORE_KEYS = ["Meta", "Control"];

const { getState } = store;
const place = ({ clientX, clientY }: { clientX: number; clientY: number }) => ({ x: clientX, y: clientY });
const isPane = (target: EventTarget) =>
  target instanceof Element && target.classList.contains("react-flow__pane");

function ends({ source, sourceHandle, target, targetHandle }: Connection | Edge) {
  const output = endOf(source, sourceHandle ?? "", "output");
  const input = endOf(target, targetHandle ?? "", "input");
  return output && input ? { output, input } : null;
}

function isValid(connection: Connection | Edge): boolean {
  const both = ends(connection);
  return both !== null && mayLink(both.output, both.input);
}

function connect(connection: Connection): void {
  const both = ends(connection);
  if (both) link(both.output, both.input);
}

function startLink(_: unknown, { nodeId, handleId, handleType }: OnConnectStartParams): void {
  getState().set({
    linking: endOf(nodeId ?? "", handleId ?? "", handleType === "source" ? "output" : "input"),
  });
}

/** A link that is dropped on empty canvas asks for a node to link to. */
function endLink(
  event: globalThis.MouseEvent | TouchEvent,
  { isValid, toHandle }: FinalConnectionState,
): void {
  const { linking, set } = getState();
  set({ linking: null });
  if (isValid || toHandle || !linking || !event.target || !isPane(event.target)) return;
  const at = place(
    "changedTouches" in event ? (event.changedTouches[0] ?? { clientX: 0, clientY: 0 }) : event,
  );
  set({ palette: { at: toGraph(at), end: linking } });
}

function openPalette(event: MouseEvent): void {
  if (isPane(event.target)) getState().set({ palette: { at: toGraph(place(event)), end: null } });
}

/** A click on one of several selected nodes selects only that one. */
function selectOne(event: MouseEvent, { id }: FlowNode): void {
  const { selected, select } = getState();
  const isMore = event.ctrlKey || event.metaKey || event.shiftKey;
  if (!isMore && selected().size > 1) select([id]);
}

function openSubgraph(_: MouseEvent, node: FlowNode): void {
  if (node.type === "card" && node.data.face.form === "subgraph") enter(node.id);
}

function openEdgeMenu(event: MouseEvent, edge: FlowEdge): void {
  event.preventDefault();
  const items = [
    { label: t("link.delete"), act: () => unlink(edge.target, edge.targetHandle ?? "") },
    {
      label: t("link.addBend"),
      act: () => bend(edge.id, [...(edge.data?.bends ?? []), toGraph(place(event))]),
    },
    { label: t("link.straighten"), isOff: !edge.data?.bends.length, act: () => bend(edge.id, []) },
  ];
  getState().set({ menu: { label: t("link.menu"), at: place(event), items } });
}

/** Enter on a node goes to its first field, Escape in a field back to the node. */
function enterNode(event: KeyboardEvent): void {
  const { target } = event;
  if (event.key === "Escape" && target instanceof HTMLElement && target.matches("input, textarea, select")) {
    target.closest<HTMLElement>(".react-flow__node")?.focus();
  }
  const isNode = target instanceof HTMLElement && target.classList.contains("react-flow__node");
  if (!isNode || event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
  const field = target.querySelector<HTMLElement>(
    ".fields input:not([tabindex='-1']), .fields select, textarea",
  );
  if (!field) return;
  event.preventDefault();
  event.stopPropagation();
  field.focus();
}

function drop(event: DragEvent): void {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) void importFile(file, toGraph(place(event)));
}

function miniMapColour(node: FlowNode): string {
  if (node.type === "card") return plainColour(node.data.face.category);
  return node.type === "group" ? `hsl(${node.data.group.hue} 40% 60% / 0.25)` : "hsl(48 70% 70%)";
}

const DESCRIPTIONS = {
  "node.a11yDescription.default": t("canvas.nodeHelp"),
  "node.a11yDescription.keyboardDisabled": t("canvas.nodeHelp"),
  "edge.a11yDescription.default": t("canvas.linkHelp"),
};

/** From the first zoom on, cards are drawn completely; down to the second, their titles are legible. */
const NEAR = 0.25;
const LEGIBLE = 0.15;

/** At a small zoom, cards are drawn as boxes: thousands of them may be visible. */
function noteZoom(_: unknown, { zoom }: Viewport): void {
  const distance = zoom >= NEAR ? "near" : zoom >= LEGIBLE ? "far" : "remote";
  if (distance !== getState().distance) getState().set({ distance });
}

export function Canvas() {
  const nodes = useStore((state) => state.nodes);
  const edges = useStore((state) => state.edges);
  const shown = useStore((state) => state.shown);
  const theme = useStore((state) => state.theme);
  const isRemote = useStore((state) => state.distance === "remote");
  const isLinking = useStore((state) => state.linking !== null);
  const { moveNodes, changeEdges, hold, forgetGuesses } = getState();

  // biome-ignore lint/correctness/useExhaustiveDependencies: React Flow has received the nodes when this effect runs
  useEffect(forgetGuesses, [nodes]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `shown` is incremented when the view is to fit something else
  useEffect(() => {
    if (getState().nodes.length === 0) return resetView();
    const timer = setTimeout(fit, 60);
    return () => clearTimeout(timer);
  }, [shown]);

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: all that the pointer does here can be done with menus and keys
    <div
      className={isLinking ? "canvas linking" : "canvas"}
      onDoubleClick={openPalette}
      onPointerMove={(event) => setPointer(place(event))}
      onPointerLeave={() => setPointer(null)}
      onKeyDownCapture={enterNode}
      onDragOver={(event) => event.preventDefault()}
      onDrop={drop}
    >
      <ReactFlow<FlowNode, FlowEdge>
        nodes={nodes}
        edges={isRemote ? NO_EDGES : edges}
        nodeTypes={NODE_TYPES}
        edgeTypes={EDGE_TYPES}
        colorMode={theme}
        aria-label={t("canvas.label")}
        ariaLabelConfig={DESCRIPTIONS}
        onlyRenderVisibleElements
        minZoom={MIN_ZOOM}
        maxZoom={2.5}
        zoomOnDoubleClick={false}
        deleteKeyCode={null}
        multiSelectionKeyCode={SELECT_MORE_KEYS}
        connectionRadius={28}
        nodeDragThreshold={3}
        elevateNodesOnSelect={false}
        onInit={setFlow}
        onMove={noteZoom}
        onNodesChange={moveNodes}
        onEdgesChange={changeEdges}
        onNodeDragStart={(_, node) => hold(node.type === "group" ? node.id : null)}
        onNodeDragStop={() => hold(null)}
        onNodeClick={selectOne}
        onNodeDoubleClick={openSubgraph}
        isValidConnection={isValid}
        onConnect={connect}
        onConnectStart={startLink}
        onConnectEnd={endLink}
        onClickConnectStart={startLink}
        onClickConnectEnd={() => getState().set({ linking: null })}
        onEdgeContextMenu={openEdgeMenu}
        onPaneContextMenu={(event) => {
          event.preventDefault();
          openCanvasMenu(place(event), toGraph(place(event)));
        }}
      >
        <Background variant={BackgroundVariant.Dots} gap={22} size={1.4} />
        {isRemote && <RemoteLinks />}
        <MiniMap<FlowNode> pannable zoomable nodeColor={miniMapColour} ariaLabel={t("canvas.map")} />
      </ReactFlow>
    </div>
  );
}
