/** Notes and groups: they are drawn, but are no part of the graph. */

import { type NodeProps, NodeResizer } from "@xyflow/react";
import { Trash2 } from "lucide-react";
import { type CSSProperties, memo } from "react";
import { GROUP_HUES, removeNode, setGroup, setNote } from "../actions/editing";
import { t } from "../i18n";
import type { GroupNode, NoteNode } from "./flow";

export const NoteCard = memo(function NoteCard({ id, data, selected }: NodeProps<NoteNode>) {
  return (
    <div className="note">
      <NodeResizer isVisible={selected} minWidth={120} minHeight={70} />
      <textarea
        className="nowheel"
        aria-label={t("note.text")}
        placeholder={t("note.placeholder")}
        value={data.note.text}
        onChange={(event) => setNote(id, event.target.value)}
      />
      <button
        type="button"
        className="icon nodrag"
        aria-label={t("note.delete")}
        onClick={() => removeNode(id)}
      >
        <Trash2 />
      </button>
    </div>
  );
});

export const GroupBox = memo(function GroupBox({ id, data: { group }, selected }: NodeProps<GroupNode>) {
  return (
    <div className="group" style={{ "--hue": group.hue, "--sat": "55%" } as CSSProperties}>
      <NodeResizer isVisible={selected} minWidth={160} minHeight={100} />
      <header>
        <input
          aria-label={t("group.name")}
          className="nodrag"
          value={group.title}
          onChange={(event) => setGroup(id, { title: event.target.value })}
        />
        {selected && (
          <>
            {GROUP_HUES.map((hue) => (
              <button
                key={hue}
                type="button"
                className="swatch nodrag"
                style={{ "--hue": hue } as CSSProperties}
                aria-label={t("group.colour", { hue })}
                aria-pressed={hue === group.hue}
                onClick={() => setGroup(id, { hue })}
              />
            ))}
            <button
              type="button"
              className="icon nodrag"
              aria-label={t("group.delete")}
              onClick={() => removeNode(id)}
            >
              <Trash2 />
            </button>
          </>
        )}
      </header>
    </div>
  );
});
