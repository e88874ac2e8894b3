/** A grid of runs: one or two inputs, each with several values. */

import { Play } from "lucide-react";
import { useMemo, useState } from "react";
import { sweep } from "../actions/running";
import { api } from "../api";
import { t } from "../i18n";
import { filesOf } from "../media";
import { Files } from "../Results";
import type { JsonSchema } from "../schema";
import { store, useStore } from "../store";
import { valuesOf } from "../sweeps";
import { Loading } from "../ui/Loading";
import { useLoaded } from "../ui/useLoaded";
import { fieldFor, unwrapped } from "../widgets";
import { asLink, socketPath, titleOf, words } from "../workflow";

interface Choice {
  name: string;
  label: string;
  schema: JsonSchema;
}

/** All inputs of the document that take values. */
function useChoices(): Choice[] {
  const document = useStore((state) => state.document);
  const kinds = useStore((state) => state.kinds);
  // biome-ignore lint/correctness/useExhaustiveDependencies: faces depend on the kinds
  return useMemo(() => {
    const faces = store.getState().faces();
    return Object.entries(document.graph).flatMap(([id, entry]) =>
      faces
        .of(entry.class_type, entry)
        .inputs.filter(({ name, schema }) => fieldFor(schema) && !asLink(entry.inputs[name]))
        .map(({ name, schema }) => ({
          name: socketPath(id, name),
          label: `${titleOf(entry)} · ${words(name)}`,
          schema: unwrapped(schema).schema,
        })),
    );
  }, [document, kinds]);
}

export function Sweep() {
  const choices = useChoices();
  const [names, setNames] = useState(["", ""]);
  const [texts, setTexts] = useState(["", ""]);
  const axes = names.flatMap((name, at) => {
    const choice = choices.find((found) => found.name === name);
    const values = choice ? valuesOf(texts[at] ?? "", choice.schema) : [];
    return choice && values.length > 0 ? [{ name, values }] : [];
  });
  const count = axes.reduce((product, { values }) => product * values.length, 1);
  return (
    <div className="content">
      <p className="lead">{t("sweep.lead")}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void sweep(axes);
        }}
      >
        {["X", "Y"].map((axis, at) => (
          <fieldset key={axis} className="axis">
            <legend>{t(at === 0 ? "sweep.across" : "sweep.down")}</legend>
            <select
              aria-label={t("sweep.input", { axis })}
              value={names[at]}
              onChange={(event) => setNames(names.with(at, event.target.value))}
            >
              <option value="">{t("sweep.choose")}</option>
              {choices.map(({ name, label }) => (
                <option key={name} value={name}>
                  {label}
                </option>
              ))}
            </select>
            <textarea
              rows={2}
              aria-label={t("sweep.values", { axis })}
              placeholder={t("sweep.placeholder")}
              value={texts[at]}
              onChange={(event) => setTexts(texts.with(at, event.target.value))}
            />
          </fieldset>
        ))}
        <button type="submit" className="primary wide" disabled={axes.length === 0}>
          <Play aria-hidden />
          {t("sweep.run", { count: axes.length > 0 ? count : 0 })}
        </button>
      </form>
      <Picture />
    </div>
  );
}

function Picture() {
  const job = useStore((state) => state.job);
  const ended = useStore((state) => state.ended);
  // the grid is assembled after the last run has ended, before the job leaves the queue
  const isBusy = useStore((state) => state.queue.running.some(({ id }) => id === job));
  const found = useLoaded(async () => (job ? await api.job(job) : null), [job, ended, isBusy]);
  if (!job) return null;
  return (
    <Loading loaded={found}>
      {(full) => {
        const { sweep: made } = full?.outputs ?? {};
        if (!full || !made) return null;
        return (
          <section aria-label={t("sweep.result")}>
            <h3>{t("sweep.result")}</h3>
            <Files files={filesOf({ ...full, outputs: { sweep: made } })} />
          </section>
        );
      }}
    </Loading>
  );
}
