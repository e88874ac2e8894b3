import type { ReactNode } from "react";
import { t } from "../i18n";
import type { Loaded } from "./useLoaded";

interface Props<T> {
  loaded: Loaded<T>;
  children: (data: T) => ReactNode;
}

/** Loaded content, or that it is loading, or why loading failed. */
export function Loading<T>({ loaded, children }: Props<T>) {
  if (loaded.data !== undefined) return children(loaded.data);
  if (loaded.error) return <p className="empty">{loaded.error}</p>;
  return <p className="empty">{t("loading")}</p>;
}
