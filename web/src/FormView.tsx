/** The inputs that a workflow exposes, as a plain form, and its results. */

import { PinOff, Play, Square } from "lucide-react";
import { cancel, run } from "./actions/running";
import { hideInput, renameExposed, setInput } from "./edit";
import { FieldOf } from "./fields";
import { t } from "./i18n";
import { Deprecation, labelled } from "./Marks";
import { eachOnce } from "./media";
import { Files } from "./Results";
import { isUnderWay, progressOf } from "./run";
import { StatusBar } from "./StatusBar";
import type { Problem } from "./schema";
import { shownRun, store, useStore } from "./store";
import { IconButton } from "./ui/IconButton";
import { fieldFor } from "./widgets";
import { asConstant, asLink, splitPath, words, written } from "./workflow";

const NO_PROBLEMS: Problem[] = [];

export function FormView() {
  const document = useStore((state) => state.document);
  const inputs = Object.entries(document.inputs ?? {});
  return (
    <div className="form-page">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <h2>{document.title || t("document.untitled")}</h2>
        {document.description && <p className="lead">{document.description}</p>}
        {inputs.length === 0 && <p className="empty">{t("form.nothing")}</p>}
        {inputs.map(([name, path]) => (
          <FormRow key={path} name={name} path={path} />
        ))}
        <FormRun />
      </form>
      <FormResults />
      <StatusBar />
    </div>
  );
}

function FormRow({ name, path }: { name: string; path: string }) {
  const node = useStore((state) => splitPath(path, state.document.graph)[0]);
  const input = path.slice(node.length + 1);
  const entry = useStore((state) => state.document.graph[node]);
  const problems = useStore((state) => state.problems[node]) ?? NO_PROBLEMS;
  const { faces, editWhole } = store.getState();
  if (!entry) return null;
  const socket = faces()
    .of(entry.class_type, entry)
    .inputs.find((found) => found.name === input);
  const field = socket && fieldFor(socket.schema);
  const value = entry.inputs[input];
  const problem = problems.find((found) => found.input === input);
  return (
    <div className="form-row">
      <span className="name">
        <input
          className="rename"
          aria-label={t("form.name", { name })}
          defaultValue={words(name)}
          onBlur={(event) => {
            const wanted = event.target.value.trim();
            if (wanted !== words(name)) editWhole((document) => renameExposed(document, name, wanted));
          }}
        />
        <IconButton
          icon={PinOff}
          label={t("form.hide", { name })}
          onClick={() => editWhole((document) => hideInput(document, node, input))}
        />
      </span>
      {socket && field && !asLink(value) ? (
        <FieldOf
          name={field}
          label={labelled(words(name), socket.deprecated)}
          schema={socket.schema}
          value={value === undefined ? socket.default : asConstant(value)}
          isInvalid={problem !== undefined}
          onChange={(json) =>
            editWhole((document) => setInput(document, node, input, written(json)), `form ${path}`)
          }
        />
      ) : (
        <p className="empty">{t("form.linked")}</p>
      )}
      <Deprecation instead={socket?.deprecated} />
      {socket?.help && <small>{socket.help}</small>}
      {problem && (
        <small className="why" role="alert">
          {problem.message}
        </small>
      )}
    </div>
  );
}

function FormRun() {
  const found = useStore(shownRun);
  const isBusy = isUnderWay(found?.state);
  const { done, total } = found ? progressOf(found) : { done: 0, total: 0 };
  return (
    <div className="form-run">
      <button type="submit" className="primary">
        <Play aria-hidden />
        {t("form.run")}
      </button>
      {isBusy && (
        <>
          <button type="button" onClick={() => void cancel()}>
            <Square aria-hidden />
            {t("run.cancel")}
          </button>
          <progress
            aria-label={t("status.progress")}
            value={total ? done : undefined}
            max={total || undefined}
          />
        </>
      )}
    </div>
  );
}

function FormResults() {
  const found = useStore(shownRun);
  const pictures = useStore((state) => state.previews);
  const files = eachOnce(Object.values(found?.nodes ?? {}).flatMap((node) => node.files));
  const texts = Object.entries(found?.nodes ?? {}).filter(([id, node]) => node.text && !id.includes("["));
  const [picture] = found?.state === "running" ? Object.values(pictures).slice(-1) : [];
  return (
    <section className="form-results" aria-label={t("form.results")}>
      {picture && <img className="preview" src={picture} alt={t("form.preview")} />}
      {texts.map(([id, { text }]) => (
        <p key={id} className="text">
          {text}
        </p>
      ))}
      {files.length > 0 ? (
        <Files files={files} />
      ) : (
        !picture && <p className="empty">{t("form.noResults")}</p>
      )}
      {Object.entries(found?.nodes ?? {}).map(
        ([id, { problem }]) =>
          problem && (
            <p key={id} className="problem" role="alert">
              {problem.message}
            </p>
          ),
      )}
    </section>
  );
}
