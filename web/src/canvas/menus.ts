/** The menus of nodes, sockets and the canvas, as lists of actions. */

import {
  BoxSelect,
  CircleSlash,
  Copy,
  CornerDownRight,
  EyeOff,
  Group,
  Info,
  LogIn,
  Minimize2,
  Pencil,
  Pin,
  Play,
  Plus,
  RotateCcw,
  StickyNote,
  Trash2,
  Ungroup,
  Unlink,
} from "lucide-react";
import {
  addGroup,
  addNote,
  collapseSelected,
  duplicate,
  enter,
  expandSelected,
  fittingEnds,
  isLinked,
  link,
  nameOfEnd,
  removeSelected,
  setValue,
  toggleFolded,
  toggleInput,
  toggleMode,
  toggleOutput,
  unlink,
} from "../actions/editing";
import { runOnly } from "../actions/running";
import { isExposed, isGiven } from "../edit";
import { t } from "../i18n";
import type { Point } from "../schema";
import { store } from "../store";
import type { End, MenuItem } from "../store/ui";
import { words } from "../workflow";

const { getState } = store;

export function openNodeMenu(node: string, at: Point): void {
  const { nodes, selected, select, set } = getState();
  const card = nodes.find(({ id }) => id === node);
  if (card?.type !== "card") return;
  if (!selected().has(node)) select([node]);
  const { form, kind } = card.data.face;
  const subgraph: MenuItem[] = [
    { label: t("node.enter"), icon: LogIn, act: () => enter(node) },
    { label: t("node.expand"), icon: Ungroup, act: () => expandSelected([node]) },
  ];
  const items: MenuItem[] = [
    { label: t("node.runOnly"), icon: Play, act: () => runOnly(getState().selected()) },
    { label: t("node.rename"), icon: Pencil, hint: "F2", act: () => set({ renaming: node }) },
    ...(form === "subgraph" ? subgraph : []),
    { label: t("node.mute"), icon: EyeOff, hint: "M", act: () => toggleMode("mute") },
    { label: t("node.bypass"), icon: CircleSlash, hint: "B", act: () => toggleMode("bypass") },
    { label: t("node.fold"), icon: Minimize2, act: () => toggleFolded(node) },
    { label: t("node.collapse"), icon: BoxSelect, hint: "Ctrl G", act: collapseSelected },
    { label: t("node.group"), icon: Group, act: () => addGroup(card.position) },
    { label: t("node.duplicate"), icon: Copy, hint: "Ctrl D", act: duplicate },
    ...(form === "kind"
      ? [{ label: t("node.about"), icon: Info, act: () => set({ dialog: { name: "about", kind } }) }]
      : []),
    { label: t("node.delete"), icon: Trash2, hint: "Del", act: removeSelected },
  ];
  set({ menu: { label: t("node.menu", { title: card.ariaLabel ?? node }), at, items } });
}

/** The actions of a socket, above all linking it without a pointer. */
export function openSocketMenu(end: End, at: Point): void {
  const { set } = getState();
  const links = fittingEnds(end).map(
    (other): MenuItem => ({
      label: t(end.side === "output" ? "socket.linkTo" : "socket.linkFrom", { end: nameOfEnd(other) }),
      icon: CornerDownRight,
      act: () => link(end, other),
    }),
  );
  const grow = { label: t("socket.addNode"), icon: Plus, act: () => set({ palette: { at: null, end } }) };
  const own = end.side === "input" ? inputItems(end) : outputItems(end);
  set({
    menu: { label: t("socket.menu", { socket: words(end.socket) }), at, items: [...own, grow, ...links] },
  });
}

function inputItems({ node, socket }: End): MenuItem[] {
  const level = getState().level();
  const isSet = level.graph[node]?.inputs[socket] !== undefined;
  const items: MenuItem[] = [
    {
      label: t(isExposed(level, node, socket) ? "socket.hide" : "socket.expose"),
      icon: Pin,
      act: () => toggleInput(node, socket),
    },
  ];
  if (isLinked(node, socket))
    items.push({ label: t("socket.unlink"), icon: Unlink, act: () => unlink(node, socket) });
  else if (isSet)
    items.push({ label: t("socket.reset"), icon: RotateCcw, act: () => setValue(node, socket, undefined) });
  return items;
}

function outputItems({ node, socket }: End): MenuItem[] {
  const card = getState().nodes.find(({ id }) => id === node);
  const index = card?.type === "card" ? card.data.face.outputs.findIndex(({ name }) => name === socket) : -1;
  const slots = [socket, index];
  return [
    {
      label: t(isGiven(getState().level(), node, slots) ? "socket.keep" : "socket.give"),
      icon: Pin,
      act: () => toggleOutput(node, slots, socket),
    },
  ];
}

export function openCanvasMenu(at: Point, place: Point): void {
  const { set, selected } = getState();
  const items: MenuItem[] = [
    {
      label: t("canvas.addNode"),
      icon: Plus,
      hint: "/",
      act: () => set({ palette: { at: place, end: null } }),
    },
    { label: t("canvas.addNote"), icon: StickyNote, act: () => addNote(place) },
    { label: t("canvas.addGroup"), icon: Group, act: () => addGroup(place) },
    {
      label: t("node.collapse"),
      icon: BoxSelect,
      hint: "Ctrl G",
      isOff: selected().size === 0,
      act: collapseSelected,
    },
  ];
  set({ menu: { label: t("canvas.menu"), at, items } });
}
