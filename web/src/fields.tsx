/** The components of widgets, by the widget's name. */

import { Dices, FileUp } from "lucide-react";
import { type ChangeEvent, type ComponentType, type DragEvent, useState } from "react";
import { upload } from "./actions/files";
import { viewUrl } from "./api";
import { t } from "./i18n";
import { readJson, stringify } from "./json";
import { FILES_LIST } from "./Lists";
import { kindOf } from "./media";
import { listOf } from "./models";
import type { Json, JsonSchema } from "./schema";
import { emptyOf, type FieldName, lower, readNumber, stepOf, unwrapped, upper } from "./widgets";

export interface FieldProps {
  /** The name for assistive technology. */
  label: string;
  value: Json | undefined;
  schema: JsonSchema;
  isInvalid?: boolean;
  onChange: (value: Json) => void;
}

/** The widget with that name; for an optional input, with a switch. */
export function FieldOf({ name, ...props }: FieldProps & { name: FieldName }) {
  const { schema, isNullable } = unwrapped(props.schema);
  const Widget = FIELDS[name];
  const inner = <Widget {...props} schema={schema} />;
  if (!isNullable) return inner;
  const isNone = props.value === null || props.value === undefined;
  return (
    <span className="nullable">
      <input
        type="checkbox"
        className="nodrag"
        aria-label={t("field.given", { label: props.label })}
        checked={!isNone}
        onChange={() => props.onChange(isNone ? emptyOf(schema) : null)}
      />
      {isNone ? <span className="none">{t("field.none")}</span> : inner}
    </span>
  );
}

/** Text that is edited freely, and passed on whenever it is a valid value. */
function useDraft(value: string, read: (text: string) => Json | undefined, onChange: (value: Json) => void) {
  const [draft, setDraft] = useState<string | null>(null);
  const isBad = draft !== null && read(draft) === undefined;
  return {
    value: draft ?? value,
    isBad,
    onBlur: () => setDraft(null),
    onChange: (event: ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => {
      const text = event.target.value;
      setDraft(text);
      const made = read(text);
      if (made !== undefined) onChange(made);
    },
  };
}

const shown = (value: Json | undefined) => (value === null || value === undefined ? "" : String(value));

function TextField({ label, value, isInvalid, onChange }: FieldProps) {
  return (
    <input
      type="text"
      className="nodrag"
      aria-label={label}
      aria-invalid={isInvalid}
      value={shown(value)}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

function MultilineField({ label, value, isInvalid, onChange }: FieldProps) {
  return (
    <textarea
      className="nodrag nowheel"
      aria-label={label}
      aria-invalid={isInvalid}
      rows={3}
      value={shown(value)}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

function NumberField({ label, value, schema, isInvalid, onChange }: FieldProps) {
  const { isBad, ...draft } = useDraft(shown(value), (text) => readNumber(text, schema), onChange);
  return (
    <input
      type="number"
      className="nodrag"
      inputMode={schema.type === "integer" ? "numeric" : "decimal"}
      aria-label={label}
      aria-invalid={isInvalid || isBad}
      min={schema.minimum?.toString()}
      max={schema.maximum?.toString()}
      step={schema.type === "integer" ? (schema.multipleOf ?? 1) : "any"}
      {...draft}
    />
  );
}

function SliderField(props: FieldProps) {
  const { label, value, schema, onChange } = props;
  const min = lower(schema) ?? 0;
  const max = upper(schema) ?? 1;
  const part = max > min ? ((Number(value ?? min) - min) / (max - min)) * 100 : 0;
  return (
    <span className="slider">
      <input
        type="range"
        className="nodrag"
        aria-label={t("field.slider", { label })}
        tabIndex={-1}
        style={{ "--part": `${Math.min(100, Math.max(0, part))}%` } as React.CSSProperties}
        min={min}
        max={max}
        step={stepOf(schema)}
        value={Number(value ?? min)}
        onChange={(event) => onChange(Number(event.target.value))}
      />
      <NumberField {...props} />
    </span>
  );
}

const LARGEST_SEED = 2 ** 32;

function SeedField(props: FieldProps) {
  const roll = () => props.onChange(Math.floor(Math.random() * LARGEST_SEED));
  return (
    <span className="joined">
      <NumberField {...props} />
      <button
        type="button"
        className="icon nodrag"
        aria-label={t("field.dice", { label: props.label })}
        onClick={roll}
      >
        <Dices />
      </button>
    </span>
  );
}

function BooleanField({ label, value, onChange }: FieldProps) {
  return (
    <input
      type="checkbox"
      role="switch"
      className="switch nodrag"
      aria-label={label}
      checked={value === true}
      aria-checked={value === true}
      onChange={(event) => onChange(event.target.checked)}
    />
  );
}

function ChoiceField({ label, value, schema, isInvalid, onChange }: FieldProps) {
  const choices = schema.enum ?? [];
  const index = choices.indexOf(value ?? null);
  return (
    <select
      className="nodrag"
      aria-label={label}
      aria-invalid={isInvalid}
      value={index}
      onChange={(event) => onChange(choices[Number(event.target.value)] ?? null)}
    >
      {index < 0 && <option value={-1}>{shown(value)}</option>}
      {choices.map((choice, at) => (
        <option key={shown(choice)} value={at}>
          {shown(choice)}
        </option>
      ))}
    </select>
  );
}

function LinesField({ label, value, isInvalid, onChange }: FieldProps) {
  const lines = Array.isArray(value) ? value.map(shown).join("\n") : "";
  const read = (text: string): Json => (text === "" ? [] : text.split("\n"));
  const { isBad: _, ...draft } = useDraft(lines, read, onChange);
  return (
    <textarea
      className="nodrag nowheel"
      aria-label={label}
      aria-invalid={isInvalid}
      rows={2}
      placeholder={t("field.lines")}
      {...draft}
    />
  );
}

function JsonField({ label, value, isInvalid, onChange }: FieldProps) {
  const { isBad, ...draft } = useDraft(value === undefined ? "" : stringify(value), readJson, onChange);
  return (
    <textarea
      className="nodrag nowheel code"
      aria-label={label}
      aria-invalid={isInvalid || isBad}
      rows={2}
      spellCheck={false}
      {...draft}
    />
  );
}

function NamedField({ list, label, value, isInvalid, onChange }: FieldProps & { list: string }) {
  return (
    <input
      type="text"
      className="nodrag"
      list={list}
      spellCheck={false}
      aria-label={label}
      aria-invalid={isInvalid}
      title={shown(value)}
      value={shown(value)}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

function ModelField(props: FieldProps) {
  return <NamedField list={listOf(props.schema)} {...props} />;
}

function MediaField(props: FieldProps) {
  const { label, value, onChange } = props;
  const [isOver, setIsOver] = useState(false);
  const take = async (files: FileList | null) => {
    const [file] = files ?? [];
    const name = file && (await upload(file));
    if (name) onChange(name);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    event.stopPropagation();
    setIsOver(false);
    void take(event.dataTransfer.files);
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is a shortcut for the upload button inside
    <div
      className={isOver ? "media over" : "media"}
      onDragOver={(event) => {
        event.preventDefault();
        setIsOver(true);
      }}
      onDragLeave={() => setIsOver(false)}
      onDrop={drop}
    >
      <span className="joined">
        <NamedField list={FILES_LIST} {...props} />
        <label className="icon upload nodrag" title={t("field.upload", { label })}>
          <FileUp />
          <input
            type="file"
            className="hidden-input"
            aria-label={t("field.upload", { label })}
            onChange={(event) => take(event.target.files)}
          />
        </label>
      </span>
      <Thumbnail key={shown(value)} name={shown(value)} />
    </div>
  );
}

function Thumbnail({ name }: { name: string }) {
  const [isBroken, setIsBroken] = useState(false);
  if (!name || isBroken) return null;
  const slash = name.lastIndexOf("/");
  const src = viewUrl({
    filename: name.slice(slash + 1),
    subfolder: name.slice(0, Math.max(slash, 0)),
    type: "input",
  });
  const fail = () => setIsBroken(true);
  const byKind: Record<string, React.ReactNode> = {
    image: <img src={src} alt="" draggable={false} onError={fail} />,
    video: <video src={src} muted loop autoPlay playsInline onError={fail} />,
  };
  return byKind[kindOf(name)] ?? null;
}

const FIELDS: Record<FieldName, ComponentType<FieldProps>> = {
  seed: SeedField,
  multiline: MultilineField,
  model: ModelField,
  media: MediaField,
  files: TextField,
  choice: ChoiceField,
  slider: SliderField,
  integer: NumberField,
  number: NumberField,
  boolean: BooleanField,
  string: TextField,
  "array of string": LinesField,
  "array of integer": JsonField,
  "array of number": JsonField,
  object: JsonField,
};
