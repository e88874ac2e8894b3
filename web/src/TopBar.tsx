/** The document's title, and the most frequent actions. */

import {
  CircleHelp,
  LayoutDashboard,
  Moon,
  Play,
  Plus,
  Redo2,
  Square,
  Sun,
  SunMoon,
  Undo2,
} from "lucide-react";
import { tidy } from "./actions/editing";
import { cancel, run } from "./actions/running";
import { placeForNew } from "./canvas/view";
import { t } from "./i18n";
import icon from "./icon.svg";
import { isUnderWay } from "./run";
import { shownRun, store, useStore } from "./store";
import type { Theme, View } from "./store/ui";
import { nextTheme, setTheme } from "./theme";
import { IconButton } from "./ui/IconButton";

const THEME_ICONS = { system: SunMoon, light: Sun, dark: Moon };
const THEME_TEXTS = { system: "theme.system", light: "theme.light", dark: "theme.dark" } as const;
const VIEWS: { view: View; text: "view.graph" | "view.form" }[] = [
  { view: "graph", text: "view.graph" },
  { view: "form", text: "view.form" },
];

export function TopBar() {
  const canUndo = useStore((state) => state.past.length > 0);
  const canRedo = useStore((state) => state.future.length > 0);
  const view = useStore((state) => state.view);
  const theme = useStore((state) => state.theme);
  const { undo, redo, set } = store.getState();
  const changeTheme = (to: Theme) => {
    setTheme(to);
    set({ theme: to });
  };
  return (
    <header className="topbar">
      <h1>
        <img src={icon} alt="" width="26" height="26" />
        <span>Kinograph</span>
      </h1>
      <Title />
      <fieldset className="switcher">
        <legend>{t("view.label")}</legend>
        {VIEWS.map((item) => (
          <button
            key={item.view}
            type="button"
            aria-pressed={view === item.view}
            onClick={() => set({ view: item.view })}
          >
            {t(item.text)}
          </button>
        ))}
      </fieldset>
      <div className="tools" role="toolbar" aria-label={t("tools.label")}>
        <IconButton
          icon={Plus}
          label={t("tools.add")}
          onClick={() => set({ palette: { at: placeForNew(), end: null } })}
        />
        <IconButton icon={Undo2} label={t("tools.undo")} disabled={!canUndo} onClick={undo} />
        <IconButton icon={Redo2} label={t("tools.redo")} disabled={!canRedo} onClick={redo} />
        <IconButton icon={LayoutDashboard} label={t("tools.tidy")} onClick={tidy} />
        <IconButton
          icon={THEME_ICONS[theme]}
          label={t(THEME_TEXTS[theme])}
          onClick={() => changeTheme(nextTheme(theme))}
        />
        <IconButton
          icon={CircleHelp}
          label={t("tools.keys")}
          onClick={() => set({ dialog: { name: "shortcuts" } })}
        />
      </div>
      <RunButtons />
    </header>
  );
}

function Title() {
  const title = useStore((state) => state.document.title ?? "");
  const saved = useStore((state) => {
    if (!state.name) return "save.never";
    return state.document === state.kept ? "save.saved" : "save.unsaved";
  });
  const name = useStore((state) => state.name);
  const { editWhole } = store.getState();
  return (
    <div className="document">
      <input
        aria-label={t("document.title")}
        placeholder={t("document.untitled")}
        value={title}
        onChange={(event) => editWhole((document) => ({ ...document, title: event.target.value }), "title")}
      />
      <small className={saved.replace(".", "-")}>{t(saved, { name: name ?? "" })}</small>
    </div>
  );
}

function RunButtons() {
  const isBusy = useStore((state) => isUnderWay(shownRun(state)?.state));
  return (
    <div className="run">
      {isBusy && (
        <button type="button" className="stop" onClick={() => void cancel()}>
          <Square aria-hidden />
          {t("run.cancel")}
        </button>
      )}
      <button type="button" className="primary" title="Ctrl+Enter" onClick={() => void run()}>
        <Play aria-hidden />
        {t("run.run")}
      </button>
    </div>
  );
}
