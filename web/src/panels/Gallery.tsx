/** The gallery of saved files: search, view, open, delete. */

import { Film, FolderOpen, Trash2 } from "lucide-react";
import { useState } from "react";
import { openWorkflowOf, trying } from "../actions/files";
import { api, thumbnailUrl, viewUrl } from "../api";
import { type TextKey, t } from "../i18n";
import type { OutputFile } from "../schema";
import { store, useStore } from "../store";
import { time } from "../ui/format";
import { IconButton } from "../ui/IconButton";
import { Loading } from "../ui/Loading";
import { useLoaded } from "../ui/useLoaded";

const PAGE = 40;
const KINDS: { kind: string; text: TextKey }[] = [
  { kind: "", text: "gallery.all" },
  { kind: "image", text: "gallery.images" },
  { kind: "video", text: "gallery.videos" },
  { kind: "text", text: "gallery.texts" },
];

export function Gallery() {
  const [query, setQuery] = useState("");
  const [kind, setKind] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const ended = useStore((state) => state.ended);
  const found = useLoaded(() => api.outputs({ query, kind, limit }), [query, kind, limit, ended]);
  return (
    <div className="content">
      <input
        type="search"
        aria-label={t("gallery.search")}
        placeholder={t("gallery.search")}
        value={query}
        onChange={(event) => setQuery(event.target.value)}
      />
      <fieldset className="switcher">
        <legend>{t("gallery.kind")}</legend>
        {KINDS.map((item) => (
          <button
            key={item.kind}
            type="button"
            aria-pressed={kind === item.kind}
            onClick={() => setKind(item.kind)}
          >
            {t(item.text)}
          </button>
        ))}
      </fieldset>
      <Loading loaded={found}>
        {({ items, total }) => (
          <>
            {items.length === 0 && <p className="empty">{t("gallery.nothing")}</p>}
            <ul className="gallery">
              {items.map((file) => (
                <Item key={`${file.subfolder}/${file.filename}`} file={file} onDeleted={found.reload} />
              ))}
            </ul>
            {total > items.length && (
              <button type="button" className="wide" onClick={() => setLimit(limit + PAGE)}>
                {t("gallery.more", { count: total - items.length })}
              </button>
            )}
          </>
        )}
      </Loading>
    </div>
  );
}

function Item({ file, onDeleted }: { file: OutputFile; onDeleted: () => void }) {
  const { filename, kind } = file;
  const address = viewUrl(file);
  const show = () => store.getState().set({ dialog: { name: "media", address, isVideo: kind === "video" } });
  const drop = async () => {
    await trying(() => api.deleteOutput(file));
    onDeleted();
  };
  const isSeen = kind === "image" || kind === "video";
  return (
    <li>
      {isSeen ? (
        <button
          type="button"
          className="thumb"
          aria-label={t("results.open", { name: filename })}
          onClick={show}
        >
          <img src={thumbnailUrl(file, 256)} alt="" loading="lazy" />
          {kind === "video" && <Film aria-hidden />}
        </button>
      ) : (
        <a className="thumb" href={address} target="_blank" rel="noreferrer">
          {filename}
        </a>
      )}
      <small title={filename}>
        {file.title || filename}
        <br />
        {time(file.modified)}
      </small>
      <span className="acts">
        <IconButton
          icon={FolderOpen}
          label={t("gallery.open", { name: filename })}
          onClick={() => void openWorkflowOf(file)}
        />
        <IconButton
          icon={Trash2}
          label={t("gallery.delete", { name: filename })}
          onClick={() => void drop()}
        />
      </span>
    </li>
  );
}
