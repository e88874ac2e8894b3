/** The models that the workflow needs, and those on the server's machine. */

import { CircleCheck, Download } from "lucide-react";
import { trying } from "../actions/files";
import { api } from "../api";
import { t } from "../i18n";
import { byCategory } from "../models";
import type { NeededModel } from "../schema";
import { store, useStore } from "../store";
import { bytes } from "../ui/format";
import { Loading } from "../ui/Loading";
import { useLoaded } from "../ui/useLoaded";

export function Models() {
  const graph = useStore((state) => state.document.graph);
  const downloads = useStore((state) => state.downloads);
  const finished = Object.values(downloads).filter(({ path, error }) => path || error).length;
  const needed = useLoaded(() => api.needed(store.getState().document), [graph, finished]);
  const here = useLoaded(api.models, [finished]);
  return (
    <div className="content">
      <h3>{t("models.needed")}</h3>
      <Loading loaded={needed}>
        {(list) => (
          <ul className="list">
            {list.length === 0 && <li className="empty">{t("models.nothing")}</li>}
            {list.map((model) => (
              <Needed key={model.source} model={model} />
            ))}
          </ul>
        )}
      </Loading>
      <h3>{t("models.here")}</h3>
      <Loading loaded={here}>
        {(list) =>
          byCategory(list).map(([category, models]) => (
            <section key={category}>
              <h4>{category || t("models.others")}</h4>
              <ul className="list plain">
                {models.map(({ source, bytes: size, problem }) => (
                  <li key={source} title={problem ? `${source}: ${problem}` : source}>
                    <span>{source}</span>
                    {problem ? <small className="why">{problem}</small> : <small>{bytes(size)}</small>}
                  </li>
                ))}
              </ul>
            </section>
          ))
        }
      </Loading>
    </div>
  );
}

/** Has the server fetch a model; progress is shown at once, before the server's first message. */
const fetchModel = (source: string) =>
  trying(async () => {
    store.getState().download({ source, done: 0, total: null });
    try {
      await api.fetchModel(source);
    } catch (error) {
      store.getState().download({ source, done: 0, total: null, error: (error as Error).message });
      throw error;
    }
  });

function Needed({ model: { source, here, nodes } }: { model: NeededModel }) {
  const progress = useStore((state) => state.downloads[source]);
  const isFetching = progress && !progress.path && !progress.error;
  return (
    <li className="needed">
      <b>{source}</b>
      <small>{nodes.map(([node, input]) => `${node} · ${input}`).join(", ")}</small>
      {here ? (
        <small className="good">
          <CircleCheck aria-hidden />
          {t("models.isHere")}
        </small>
      ) : (
        <button type="button" disabled={isFetching} onClick={() => void fetchModel(source)}>
          <Download aria-hidden />
          {t("models.fetch")}
        </button>
      )}
      {isFetching && (
        <>
          <button type="button" onClick={() => void trying(() => api.stopFetching(source))}>
            {t("models.stop")}
          </button>
          <progress
            aria-label={t("models.progress", { source })}
            value={progress.total ? progress.done : undefined}
            max={progress.total ?? undefined}
          />
          <small>
            {progress.total ? `${bytes(progress.done)} / ${bytes(progress.total)}` : bytes(progress.done)}
          </small>
        </>
      )}
      {progress?.error && <small className="why">{progress.error}</small>}
    </li>
  );
}
