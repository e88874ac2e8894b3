/** The rail of panels at the side, and the open panel. */

import { Boxes, FolderOpen, Grid3x3, Images, ListVideo, type LucideIcon, X } from "lucide-react";
import type { ComponentType } from "react";
import { type TextKey, t } from "../i18n";
import { useStore } from "../store";
import type { PanelName } from "../store/ui";
import { IconButton } from "../ui/IconButton";
import { Gallery } from "./Gallery";
import { Models } from "./Models";
import { Queue } from "./Queue";
import { Sweep } from "./Sweep";
import { Workflows } from "./Workflows";

const PANELS: Record<PanelName, { icon: LucideIcon; text: TextKey; Panel: ComponentType }> = {
  workflows: { icon: FolderOpen, text: "panel.workflows", Panel: Workflows },
  queue: { icon: ListVideo, text: "panel.queue", Panel: Queue },
  gallery: { icon: Images, text: "panel.gallery", Panel: Gallery },
  models: { icon: Boxes, text: "panel.models", Panel: Models },
  sweep: { icon: Grid3x3, text: "panel.sweep", Panel: Sweep },
};

export function Panels() {
  const open = useStore((state) => state.panel);
  const waiting = useStore((state) => state.queue.running.length + state.queue.pending.length);
  const toggle = useStore((state) => state.togglePanel);
  const found = open ? PANELS[open] : null;
  return (
    <>
      <nav className="rail" aria-label={t("panel.label")}>
        {Object.entries(PANELS).map(([name, { icon: Icon, text }]) => {
          const count = name === "queue" && waiting > 0 ? ` ${waiting}` : "";
          return (
            <button
              key={name}
              type="button"
              aria-pressed={open === name}
              aria-label={t(text) + count}
              onClick={() => toggle(name as PanelName)}
            >
              <Icon aria-hidden />
              <span>{t(text)}</span>
              {count && <b>{count}</b>}
            </button>
          );
        })}
      </nav>
      {found && open && (
        <aside className="panel" aria-label={t(found.text)}>
          <header>
            <h2>{t(found.text)}</h2>
            <IconButton icon={X} label={t("panel.close")} onClick={() => toggle(open)} />
          </header>
          <found.Panel />
        </aside>
      )}
    </>
  );
}
