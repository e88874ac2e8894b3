import { useEffect } from "react";
import { startUp } from "./background";
import { Canvas } from "./canvas/Canvas";
import { DialogLayer } from "./Dialogs";
import { FormView } from "./FormView";
import { t } from "./i18n";
import { Lists } from "./Lists";
import { PaletteLayer } from "./Palette";
import { Panels } from "./panels/Panels";
import { Breadcrumbs, StatusBar } from "./StatusBar";
import { listenToKeys } from "./shortcuts";
import { useStore } from "./store";
import { TopBar } from "./TopBar";
import { MenuLayer } from "./ui/Menu";
import { Toasts } from "./ui/Toasts";

export function App() {
  const view = useStore((state) => state.view);
  const isReady = useStore((state) => Object.keys(state.kinds).length > 0);
  useEffect(() => {
    void startUp();
    return listenToKeys();
  }, []);
  return (
    <>
      <TopBar />
      <div className="body">
        <Panels />
        <main aria-label={t(view === "graph" ? "view.graph" : "view.form")}>
          {view === "graph" ? (
            <>
              <Breadcrumbs />
              <Canvas />
              {isReady && <Empty />}
              <StatusBar />
            </>
          ) : (
            <FormView />
          )}
        </main>
      </div>
      {isReady && <Lists />}
      <MenuLayer />
      <PaletteLayer />
      <DialogLayer />
      <Toasts />
    </>
  );
}

/** A hint on an empty canvas. */
function Empty() {
  const isEmpty = useStore((state) => state.nodes.length === 0);
  return isEmpty ? <p className="nothing">{t("canvas.empty")}</p> : null;
}
