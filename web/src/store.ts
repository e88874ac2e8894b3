/** The one store: the document, runs, and what is open; each slice of it knows only itself. */

import { create } from "zustand";
import type { Run } from "./run";
import { type DocumentSlice, documentSlice } from "./store/document";
import { type RunSlice, runSlice } from "./store/running";
import { type UiSlice, uiSlice } from "./store/ui";

export type State = DocumentSlice & RunSlice & UiSlice;

export const useStore = create<State>()((...all) => ({
  ...documentSlice(...all),
  ...runSlice(...all),
  ...uiSlice(...all),
}));

export const store = useStore;

/** The run whose states and results are shown. */
export const shownRun = ({ job, runs }: State): Run | undefined => (job ? runs[job] : undefined);
