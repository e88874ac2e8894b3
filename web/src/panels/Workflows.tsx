/** Saved workflows with their versions, and templates. */

import { Download, FilePlus2, FileUp, History, Save, Trash2 } from "lucide-react";
import { useState } from "react";
import {
  download,
  importFile,
  openNew,
  openSaved,
  openTemplate,
  openVersion,
  save,
  trying,
} from "../actions/files";
import { api } from "../api";
import { t } from "../i18n";
import type { SavedWorkflow } from "../schema";
import { useStore } from "../store";
import { bytes, time } from "../ui/format";
import { IconButton } from "../ui/IconButton";
import { Loading } from "../ui/Loading";
import { useLoaded } from "../ui/useLoaded";

export function Workflows() {
  const kept = useStore((state) => state.kept);
  const saved = useLoaded(api.workflows, [kept]);
  const templates = useLoaded(api.templates, []);
  return (
    <div className="content">
      <div className="buttons">
        <button type="button" onClick={() => void openNew()}>
          <FilePlus2 aria-hidden />
          {t("workflows.new")}
        </button>
        <button type="button" onClick={() => void save()}>
          <Save aria-hidden />
          {t("workflows.save")}
        </button>
        <label className="button">
          <FileUp aria-hidden />
          {t("workflows.file")}
          <input
            type="file"
            className="hidden-input"
            accept=".json,.png,.webp,.mp4,.webm"
            onChange={(event) => {
              const [file] = event.target.files ?? [];
              if (file) void importFile(file, { x: 0, y: 0 });
            }}
          />
        </label>
        <button type="button" onClick={download}>
          <Download aria-hidden />
          {t("workflows.download")}
        </button>
      </div>
      <h3>{t("workflows.saved")}</h3>
      <Loading loaded={saved}>
        {(list) => (
          <ul className="list">
            {list.length === 0 && <li className="empty">{t("workflows.nothing")}</li>}
            {list.map((workflow) => (
              <Saved key={workflow.name} workflow={workflow} onDeleted={saved.reload} />
            ))}
          </ul>
        )}
      </Loading>
      <h3>{t("workflows.templates")}</h3>
      <Loading loaded={templates}>
        {(list) => (
          <ul className="list">
            {list.map(({ name, title, description }) => (
              <li key={name}>
                <button type="button" className="row" onClick={() => void openTemplate(name)}>
                  <b>{title || name}</b>
                  <small>{description}</small>
                </button>
              </li>
            ))}
          </ul>
        )}
      </Loading>
    </div>
  );
}

function Saved({ workflow, onDeleted }: { workflow: SavedWorkflow; onDeleted: () => void }) {
  const { name, title, saved, versions } = workflow;
  const [isOpen, setIsOpen] = useState(false);
  const [isAsked, setIsAsked] = useState(false);
  const isCurrent = useStore((state) => state.name === name);
  const drop = async () => {
    if (!isAsked) return setIsAsked(true);
    await trying(() => api.deleteWorkflow(name));
    onDeleted();
  };
  return (
    <li className={isCurrent ? "current" : ""}>
      <button
        type="button"
        className="row"
        aria-current={isCurrent || undefined}
        onClick={() => void openSaved(name)}
      >
        <b>{title || name}</b>
        <small>
          {name} · {time(saved)}
        </small>
      </button>
      <span className="acts">
        <IconButton
          icon={History}
          label={t("workflows.versions", { name, count: versions })}
          aria-expanded={isOpen}
          onClick={() => setIsOpen(!isOpen)}
        />
        <IconButton
          icon={Trash2}
          className={isAsked ? "sure" : ""}
          label={t(isAsked ? "workflows.sure" : "workflows.delete", { name })}
          onBlur={() => setIsAsked(false)}
          onClick={() => void drop()}
        />
      </span>
      {isOpen && <Versions name={name} />}
    </li>
  );
}

function Versions({ name }: { name: string }) {
  const kept = useStore((state) => state.kept);
  const versions = useLoaded(() => api.versions(name), [name, kept]);
  return (
    <Loading loaded={versions}>
      {(list) => (
        <ul className="versions">
          {list.map(({ version, saved, size }) => (
            <li key={version}>
              <button type="button" onClick={() => void openVersion(name, version)}>
                {t("workflows.restore", { version })}
              </button>
              <small>
                {time(saved)} · {bytes(size)}
              </small>
            </li>
          ))}
        </ul>
      )}
    </Loading>
  );
}
