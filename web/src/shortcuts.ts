/** Keyboard shortcuts: one table for their actions and for the displayed list. */

import {
  addGroup,
  collapseSelected,
  copied,
  duplicate,
  enter,
  expandSelected,
  pasteText,
  removeSelected,
  tidy,
  toggleMode,
} from "./actions/editing";
import { importFile, openNew, save } from "./actions/files";
import { cancel, run, runOnly } from "./actions/running";
import { fit, isPointerIn, placeForNew, zoom } from "./canvas/view";
import type { TextKey } from "./i18n";
import { stringify } from "./json";
import { store } from "./store";

interface Shortcut {
  keys: string;
  label: TextKey;
  act: () => void;
}

const { getState } = store;

function openFirstSubgraph(): void {
  const card = getState().nodes.find(
    (node) => node.selected && node.type === "card" && node.data.face.form === "subgraph",
  );
  if (card) enter(card.id);
}

function leaveSubgraph(): void {
  const { path, enter: go } = getState();
  if (path.length > 0) go(path.slice(0, -1));
}

function fitSelected(): void {
  const ids = [...getState().selected()];
  fit(ids.length > 0 ? ids : undefined);
}

function renameSelected(): void {
  const [id] = getState().selected();
  if (id) getState().set({ renaming: id });
}

/** Shortcuts with Ctrl and a key that fields don't use also work while a field has the focus. */
const ALWAYS = new Set(["Ctrl+Enter", "Ctrl+Shift+Enter", "Ctrl+S"]);

export const SHORTCUTS: Shortcut[] = [
  { keys: "Ctrl+Enter", label: "key.run", act: () => void run() },
  { keys: "Ctrl+Shift+Enter", label: "key.runOnly", act: () => void runOnly(getState().selected()) },
  { keys: "Ctrl+.", label: "key.cancel", act: () => void cancel() },
  { keys: "/", label: "key.add", act: () => getState().set({ palette: { at: placeForNew(), end: null } }) },
  { keys: "Ctrl+Z", label: "key.undo", act: () => getState().undo() },
  { keys: "Ctrl+Shift+Z", label: "key.redo", act: () => getState().redo() },
  { keys: "Ctrl+Y", label: "key.redo", act: () => getState().redo() },
  { keys: "Ctrl+S", label: "key.save", act: () => void save() },
  { keys: "Delete", label: "key.delete", act: removeSelected },
  { keys: "Backspace", label: "key.delete", act: removeSelected },
  {
    keys: "Ctrl+A",
    label: "key.selectAll",
    act: () => getState().select(getState().nodes.map(({ id }) => id)),
  },
  { keys: "Ctrl+D", label: "key.duplicate", act: duplicate },
  { keys: "M", label: "key.mute", act: () => toggleMode("mute") },
  { keys: "B", label: "key.bypass", act: () => toggleMode("bypass") },
  { keys: "F2", label: "key.rename", act: renameSelected },
  { keys: "G", label: "key.group", act: () => addGroup(placeForNew()) },
  { keys: "Ctrl+G", label: "key.collapse", act: collapseSelected },
  { keys: "Ctrl+Shift+G", label: "key.expand", act: () => expandSelected() },
  { keys: "E", label: "key.enter", act: openFirstSubgraph },
  { keys: "U", label: "key.leave", act: leaveSubgraph },
  { keys: "L", label: "key.tidy", act: tidy },
  { keys: "F", label: "key.fit", act: fitSelected },
  { keys: "+", label: "key.zoomIn", act: () => zoom(1.25) },
  { keys: "-", label: "key.zoomOut", act: () => zoom(0.8) },
  { keys: "Alt+N", label: "key.new", act: () => void openNew() },
  { keys: "?", label: "key.help", act: () => getState().set({ dialog: { name: "shortcuts" } }) },
];

/** Shortcuts that other modules handle, for the list. */
export const OTHER_KEYS: { keys: string; label: TextKey }[] = [
  { keys: "Ctrl+C", label: "key.copy" },
  { keys: "Ctrl+X", label: "key.cut" },
  { keys: "Ctrl+V", label: "key.paste" },
  { keys: "Tab", label: "key.tab" },
  { keys: "←↑↓→", label: "key.move" },
  { keys: "Enter", label: "key.enterNode" },
  { keys: "Escape", label: "key.escape" },
  { keys: "Shift+drag", label: "key.box" },
];

function pressed(event: KeyboardEvent): string {
  const isLetter = /^[a-z]$/i.test(event.key);
  const parts = [
    event.ctrlKey || event.metaKey ? "Ctrl" : "",
    event.altKey ? "Alt" : "",
    event.shiftKey && (isLetter || event.key.length > 1) ? "Shift" : "",
    isLetter ? event.key.toUpperCase() : event.key,
  ];
  return parts.filter(Boolean).join("+");
}

/** Elements where keys enter text, or choose something. */
const FIELDS = "input:not([type=range], [type=checkbox]), textarea, select, dialog, [contenteditable]";

function isEditable(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest(FIELDS) !== null;
}

function isBusy(): boolean {
  const { dialog, palette, menu } = getState();
  return dialog !== null || palette !== null || menu !== null;
}

const BY_KEYS = new Map(SHORTCUTS.map((shortcut) => [shortcut.keys, shortcut]));

function onKeyDown(event: KeyboardEvent): void {
  if (event.defaultPrevented || isBusy()) return;
  const keys = pressed(event);
  const isOnPage = document.activeElement === document.body || document.activeElement === null;
  const isTab = keys === "Tab" && isOnPage && isPointerIn();
  const shortcut = BY_KEYS.get(isTab ? "/" : keys);
  if (!shortcut || (isEditable(event.target) && !ALWAYS.has(keys))) return;
  event.preventDefault();
  shortcut.act();
}

function isForFields(event: ClipboardEvent): boolean {
  return isEditable(event.target) || isBusy() || !document.getSelection()?.isCollapsed;
}

function onCopy(event: ClipboardEvent): void {
  const copy = isForFields(event) ? null : copied();
  if (!copy) return;
  event.preventDefault();
  event.clipboardData?.setData("text/plain", stringify(copy));
  if (event.type === "cut") removeSelected();
}

function onPaste(event: ClipboardEvent): void {
  if (isEditable(event.target) || isBusy()) return;
  const [file] = event.clipboardData?.files ?? [];
  const place = placeForNew();
  const isTaken = pasteText(event.clipboardData?.getData("text/plain") ?? "", isPointerIn() ? place : null);
  if (!isTaken && file) void importFile(file, place);
  if (isTaken || file) event.preventDefault();
}

/** Listens to keys and the clipboard until the returned function is called. */
export function listenToKeys(): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  document.addEventListener("keydown", onKeyDown, { signal });
  document.addEventListener("copy", onCopy, { signal });
  document.addEventListener("cut", onCopy, { signal });
  document.addEventListener("paste", onPaste, { signal });
  return () => stop.abort();
}
