/** The component for nodes of every kind: sockets, fields, state and results, all given by the node's face. */

import { type NodeProps, useUpdateNodeInternals } from "@xyflow/react";
import { Boxes, ChevronDown, ChevronRight, MoreHorizontal, Pin } from "lucide-react";
import { type MouseEvent, memo, useCallback, useEffect, useMemo } from "react";
import { rename, setValue, toggleFolded } from "./actions/editing";
import { coloured } from "./canvas/colours";
import type { CardNode } from "./canvas/flow";
import { openNodeMenu, openSocketMenu } from "./canvas/menus";
import { SocketButton, SocketMarks } from "./canvas/Sockets";
import { StateBadge, StateBar } from "./canvas/States";
import { FieldOf } from "./fields";
import { t } from "./i18n";
import { DeprecatedMark, Deprecation, deprecation, labelled, PackMark, VolatileMark } from "./Marks";
import { Results } from "./Results";
import type { Json, Problem } from "./schema";
import { shownRun, useStore } from "./store";
import type { End } from "./store/ui";
import { EditableText } from "./ui/EditableText";
import { fieldFor, isWide } from "./widgets";
import { asConstant, asLink, runId, type Socket, titleOf, words } from "./workflow";

const NO_PROBLEMS: Problem[] = [];

export const NodeCard = memo(function NodeCard(props: NodeProps<CardNode>) {
  const distance = useStore((state) => state.distance);
  if (distance === "near") return <FullCard id={props.id} data={props.data} />;
  return <FarCard {...props} isLegible={distance === "far"} />;
});

/** A card at a small zoom: a box of the card's size, with a title as long as it is legible. */
function FarCard({
  id,
  data: { entry, face },
  width,
  height,
  isLegible,
}: NodeProps<CardNode> & { isLegible: boolean }) {
  const state = useStore((state) => shownRun(state)?.nodes[runId(state.path, id)]?.state) ?? "";
  return (
    <div
      className={`card ${isLegible ? "far" : "speck"} ${state}`}
      style={{ ...coloured(face.category), width, height }}
    >
      {isLegible && <header>{titleOf(entry)}</header>}
      <SocketMarks face={face} entry={entry} />
    </div>
  );
}

const FullCard = memo(function FullCard({ id, data }: Pick<NodeProps<CardNode>, "id" | "data">) {
  const measure = useUpdateNodeInternals();
  useEffect(() => measure(id), [id, measure]);
  const { entry, face, place } = data;
  const flatId = useStore((state) => runId(state.path, id));
  const run = useStore((state) => shownRun(state)?.nodes[flatId]);
  const picture = useStore((state) => state.previews[flatId]);
  const problems = useStore((state) => state.problems[flatId]) ?? NO_PROBLEMS;
  const renaming = useStore((state) => state.renaming === id);
  const setUi = useStore((state) => state.set);
  const title = titleOf(entry);
  const mode = entry._meta?.mode;
  const isFolded = place.collapsed ?? false;

  const bare = face.inputs.filter(
    (input) => isFolded || !fieldFor(input.schema) || asLink(entry.inputs[input.name]),
  );
  const fields = isFolded ? [] : face.inputs.filter((input) => !bare.includes(input));
  const all = run?.problem ? [...problems, run.problem] : problems;
  const general = all.filter(({ input }) => !fields.some(({ name }) => name === input));
  const problemOf = (input: string) => all.find((problem) => problem.input === input);
  const openMenu = (event: MouseEvent) => {
    event.preventDefault();
    event.stopPropagation();
    openNodeMenu(id, { x: event.clientX, y: event.clientY });
  };
  const classes = ["card", run?.state ?? "", mode ?? "", all.length > 0 ? "faulty" : "", face.form].join(" ");

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the menu is also available through its button
    <div className={classes} style={coloured(face.category)} onContextMenu={openMenu}>
      <header>
        <button
          type="button"
          className="icon nodrag"
          aria-expanded={!isFolded}
          aria-label={t(isFolded ? "node.unfold" : "node.fold")}
          onClick={() => toggleFolded(id)}
        >
          {isFolded ? <ChevronRight /> : <ChevronDown />}
        </button>
        <EditableText
          value={title}
          label={t("node.title", { title })}
          isEditing={renaming}
          onEdit={(isEditing) => setUi({ renaming: isEditing ? id : null })}
          onChange={(text) => rename(id, text)}
        />
        {face.form === "subgraph" && <Boxes className="mark" aria-label={t("node.isSubgraph")} />}
        <PackMark pack={face.pack} />
        <VolatileMark volatile={face.volatile} />
        {mode && <span className="mode">{t(mode === "mute" ? "node.muted" : "node.bypassed")}</span>}
        <StateBadge run={run} />
        <button
          type="button"
          className="icon nodrag"
          aria-haspopup="menu"
          aria-label={t("node.menu", { title })}
          onClick={openMenu}
        >
          <MoreHorizontal />
        </button>
      </header>
      <StateBar run={run} title={title} />
      {title !== words(entry.class_type) && !isFolded && <p className="kind">{words(entry.class_type)}</p>}
      <Deprecation instead={face.deprecated} />
      {face.form === "unknown" && <Unknown kind={entry.class_type} />}
      <div className="sockets">
        <ul aria-label={t("node.inputs")}>
          {bare.map((input) => (
            <InputRow
              key={input.name}
              node={id}
              title={title}
              input={input}
              problem={problemOf(input.name)}
              isLinked={asLink(entry.inputs[input.name]) !== null}
              exposed={data.inputs[input.name]}
            />
          ))}
        </ul>
        <ul aria-label={t("node.outputs")} className="outputs">
          {face.outputs.map(({ name, type }, index) => (
            <OutputRow
              key={name}
              node={id}
              title={title}
              name={name}
              type={type}
              isGiven={data.outputs.some((slot) => slot === name || slot === index)}
            />
          ))}
        </ul>
      </div>
      {fields.length > 0 && (
        <ul className="fields" aria-label={t("node.fields")}>
          {fields.map((input) => (
            <FieldRow
              key={input.name}
              node={id}
              title={title}
              input={input}
              value={entry.inputs[input.name]}
              problem={problemOf(input.name)}
              exposed={data.inputs[input.name]}
            />
          ))}
        </ul>
      )}
      {general.map((problem) => (
        <p key={`${problem.input} ${problem.message}`} className="problem" role="alert">
          <ProblemText problem={problem} input={problem.input ?? ""} />
        </p>
      ))}
      {run?.trace && <Trace text={run.trace} />}
      {run?.because && <Because node={run.because} />}
      {!isFolded && <Results run={run} picture={picture} title={title} />}
    </div>
  );
});

interface RowProps {
  node: string;
  title: string;
  input: Socket;
  problem: Problem | undefined;
  exposed: string | undefined;
}

function useEnd(node: string, side: End["side"], socket: string, type: string): End {
  return useMemo(() => ({ node, side, socket, type }), [node, side, socket, type]);
}

/** The tooltip of an input. */
function helpOf({ help, deprecated }: Socket): string {
  return deprecated ? `${deprecation(deprecated)}\n${help}`.trim() : help;
}

/** An input without a field: it only takes a link, or is linked. */
const InputRow = memo(function InputRow({
  node,
  title,
  input,
  problem,
  exposed,
  isLinked,
}: RowProps & { isLinked: boolean }) {
  const end = useEnd(node, "input", input.name, input.type);
  return (
    <li className={problem ? "bad" : ""} title={helpOf(input)}>
      <SocketButton end={end} title={title} isLinked={isLinked} />
      <span className={input.required && !isLinked && !exposed ? "name wanted" : "name"}>
        {words(input.name)}
      </span>
      <DeprecatedMark instead={input.deprecated} />
      {exposed && <Exposed name={exposed} />}
    </li>
  );
});

interface OutputProps {
  node: string;
  title: string;
  name: string;
  type: string;
  isGiven: boolean;
}

const OutputRow = memo(function OutputRow({ node, title, name, type, isGiven }: OutputProps) {
  const end = useEnd(node, "output", name, type);
  return (
    <li title={type}>
      {isGiven && <Exposed name={name} />}
      <span className="name">{name === "out" ? type : words(name)}</span>
      <SocketButton end={end} title={title} isLinked={false} />
    </li>
  );
});

const FieldRow = memo(function FieldRow({
  node,
  title,
  input,
  value,
  problem,
  exposed,
}: RowProps & { value: Json | undefined }) {
  const end = useEnd(node, "input", input.name, input.type);
  const field = fieldFor(input.schema);
  const change = useCallback((json: Json) => setValue(node, input.name, json), [node, input.name]);
  const isDefault = value === undefined;
  const openMenu = (event: MouseEvent) => {
    event.preventDefault();
    event.stopPropagation();
    openSocketMenu(end, { x: event.clientX, y: event.clientY });
  };
  return (
    <li
      className={`field ${field && isWide(field) ? "wide" : ""} ${problem ? "bad" : ""} ${isDefault ? "default" : ""}`}
      title={helpOf(input)}
      onContextMenu={openMenu}
    >
      <SocketButton end={end} title={title} isLinked={false} />
      <span className={input.required && isDefault && !exposed ? "name wanted" : "name"}>
        {words(input.name)}
        <DeprecatedMark instead={input.deprecated} />
        {exposed && <Exposed name={exposed} />}
      </span>
      {field && (
        <FieldOf
          name={field}
          label={labelled(words(input.name), input.deprecated)}
          schema={input.schema}
          value={isDefault ? input.default : asConstant(value)}
          isInvalid={problem !== undefined}
          onChange={change}
        />
      )}
      {problem && (
        <span className="problem" role="alert">
          <ProblemText problem={problem} />
        </span>
      )}
    </li>
  );
});

/** Says that the kind is unknown, and which failed packs it may belong to. */
function Unknown({ kind }: { kind: string }) {
  const failed = useStore((state) => state.failedPacks).map(({ name }) => name);
  return (
    <p className="problem">
      {t("node.unknown", { kind })}
      {failed.length > 0 && (
        <span className="hint">{t("node.unknownOfPack", { packs: failed.join(", ") })}</span>
      )}
    </p>
  );
}

/** Names the node whose failure caused this one to be skipped. */
function Because({ node }: { node: string }) {
  const title = useStore((state) => {
    const entry = state.document.graph[node];
    return entry ? titleOf(entry) : node;
  });
  return <p className="because">{t("node.because", { node: title })}</p>;
}

/** The traceback of a failure, on request. */
function Trace({ text }: { text: string }) {
  return (
    <details className="trace nodrag nowheel">
      <summary>{t("node.trace")}</summary>
      <pre>{text}</pre>
    </details>
  );
}

function Exposed({ name }: { name: string }) {
  return <Pin className="pin" role="img" aria-label={t("socket.exposed", { name })} />;
}

function ProblemText({ problem: { message, hint }, input = "" }: { problem: Problem; input?: string }) {
  return (
    <>
      {input && <b>{words(input)}: </b>}
      {message}
      {hint && <span className="hint">{hint}</span>}
    </>
  );
}
