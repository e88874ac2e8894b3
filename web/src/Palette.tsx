/** Searching for a kind of node to add; if it is for a link, only kinds that fit. */

import { Boxes, Puzzle, Search, TriangleAlert } from "lucide-react";
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import { add, fittingSockets } from "./actions/editing";
import { coloured } from "./canvas/colours";
import { focusNewNode, placeForNew } from "./canvas/view";
import { t } from "./i18n";
import { deprecation } from "./Marks";
import type { Pack } from "./schema";
import { kindsFound } from "./search";
import { store, useStore } from "./store";
import { Dialog } from "./ui/Dialog";
import { type Face, words } from "./workflow";

const FAILED = "palette-failed";

export function PaletteLayer() {
  const palette = useStore((state) => state.palette);
  return palette ? <Palette /> : null;
}

function useFaces(): Face[] {
  const kinds = useStore((state) => state.kinds);
  const subgraphs = useStore((state) => state.document.subgraphs);
  const end = useStore((state) => state.palette?.end ?? null);
  return useMemo(() => {
    const faces = store.getState().faces();
    const names = [...Object.keys(kinds), ...Object.keys(subgraphs ?? {})];
    const all = names.map((name) => faces.of(name));
    return end ? all.filter((face) => fittingSockets(face, end).length > 0) : all;
  }, [kinds, subgraphs, end]);
}

function Palette() {
  const { palette, set } = store.getState();
  const faces = useFaces();
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const failed = useStore((state) => state.failedPacks);
  const found = useMemo(() => kindsFound(faces, text), [faces, text]);

  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

  const close = () => set({ palette: null });
  const choose = (face: Face | undefined) => {
    if (!face) return;
    close();
    add(face.kind, palette?.at ?? placeForNew(), palette?.end);
    const [made] = store.getState().selected();
    if (made) focusNewNode(made);
  };
  const keys: Record<string, () => void> = {
    ArrowDown: () => setChosen((at) => Math.min(found.length - 1, at + 1)),
    ArrowUp: () => setChosen((at) => Math.max(0, at - 1)),
    Enter: () => choose(found[chosen]),
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };

  return (
    <Dialog label={t("palette.label")} className="palette" isBare onClose={close}>
      <label className="search">
        <Search aria-hidden />
        <input
          autoFocus
          role="combobox"
          aria-label={t("palette.label")}
          aria-expanded
          aria-controls="palette-list"
          aria-activedescendant={found[chosen] ? `palette-${found[chosen].kind}` : undefined}
          aria-autocomplete="list"
          aria-describedby={failed.length > 0 ? FAILED : undefined}
          placeholder={
            palette?.end ? t("palette.fitting", { type: palette.end.type }) : t("palette.placeholder")
          }
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            setChosen(0);
          }}
          onKeyDown={onKeyDown}
        />
      </label>
      <FailedPacks packs={failed} />
      <ul ref={list} id="palette-list" role="listbox" aria-label={t("palette.kinds")}>
        {found.map((face, at) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the combobox has the focus and its keys
          <li
            key={face.kind}
            id={`palette-${face.kind}`}
            role="option"
            tabIndex={-1}
            aria-selected={at === chosen}
            className={face.deprecated ? "old" : ""}
            style={coloured(face.category)}
            onClick={() => choose(face)}
            onPointerMove={() => setChosen(at)}
          >
            <Told face={face} />
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="empty">{t("palette.nothing")}</p>}
    </Dialog>
  );
}

/** A kind in the list: its name, what it does or what to use instead, and its pack. */
export function Told({ face }: { face: Face }) {
  const [help] = face.help.split("\n");
  return (
    <>
      <span className="dot">{face.form === "subgraph" && <Boxes aria-hidden />}</span>
      <span className="what">
        <b>{words(face.kind)}</b>
        {face.deprecated ? (
          <small className="deprecated" title={deprecation(face.deprecated)}>
            {deprecation(face.deprecated)}
          </small>
        ) : (
          <small>{help}</small>
        )}
      </span>
      <span className="from">
        <em>{face.category || t("node.isSubgraph")}</em>
        {face.pack && (
          <small className="pack" title={t("kind.pack", { pack: face.pack })}>
            <Puzzle aria-hidden />
            <span>{face.pack}</span>
          </small>
        )}
      </span>
    </>
  );
}

/** The packs that could not be loaded, and why. */
export function FailedPacks({ packs }: { packs: Pack[] }) {
  if (packs.length === 0) return null;
  return (
    <section className="failed" aria-label={t("palette.failed")}>
      <div id={FAILED}>
        {packs.map(({ name, version, problem }) => (
          <p key={name}>
            <TriangleAlert aria-hidden />
            <span>
              <b>{t("pack.failed", { name, version })}</b> {problem}
            </span>
          </p>
        ))}
      </div>
    </section>
  );
}
