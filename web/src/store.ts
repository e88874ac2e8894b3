/** The only store: the document, runs, and the state of the interface; no slice depends on another. */

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

/** The run that is shown on the canvas. */
export const shownRun = ({ job, runs }: State): Run | undefined => (job ? runs[job] : undefined);
