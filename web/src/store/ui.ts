/** The state of the interface: what is open, and notifications. */

import type { LucideIcon } from "lucide-react";
import type { StateCreator } from "zustand";
import type { Point } from "../schema";

export type PanelName = "workflows" | "gallery" | "queue" | "models" | "sweep";
export type View = "graph" | "form";
export type Theme = "system" | "light" | "dark";

/** The start of a link that is being made. */
export interface End {
  node: string;
  side: "input" | "output";
  socket: string;
  type: string;
}

export interface MenuItem {
  label: string;
  icon?: LucideIcon;
  hint?: string;
  isOff?: boolean;
  act: () => void;
}

export interface Menu {
  label: string;
  at: Point;
  items: MenuItem[];
}

export interface Palette {
  /** The position of the new node on the canvas. */
  at: Point | null;
  /** The end that it is to be linked to. */
  end: End | null;
}

export interface Toast {
  id: number;
  tone: "good" | "bad";
  text: string;
}

export interface UiSlice {
  view: View;
  panel: PanelName | null;
  palette: Palette | null;
  menu: Menu | null;
  dialog:
    | { name: "shortcuts" }
    | { name: "about"; kind: string }
    | { name: "media"; address: string; isVideo: boolean }
    | null;
  linking: End | null;
  toasts: Toast[];
  theme: Theme;
  renaming: string | null;
  /** The level of detail: `far` is where cards show only their titles, `remote` where not even these. */
  distance: "near" | "far" | "remote";
  /** Incremented at each upload, for lists of files to be read again. */
  uploads: number;
  set: (change: Partial<Omit<UiSlice, "set" | "tell">>) => void;
  togglePanel: (panel: PanelName) => void;
  tell: (text: string, tone?: Toast["tone"]) => void;
}

const TOAST_MILLISECONDS = 6000;

export const uiSlice: StateCreator<UiSlice> = (set, get) => ({
  view: "graph",
  panel: null,
  palette: null,
  menu: null,
  dialog: null,
  linking: null,
  toasts: [],
  theme: "system",
  renaming: null,
  distance: "near",
  uploads: 0,
  set: (change) => set(change),
  togglePanel: (panel) => set({ panel: get().panel === panel ? null : panel }),
  tell: (text, tone = "good") => {
    const id = Date.now() + Math.random();
    set({ toasts: [...get().toasts, { id, tone, text }] });
    setTimeout(() => set({ toasts: get().toasts.filter((toast) => toast.id !== id) }), TOAST_MILLISECONDS);
  },
});
