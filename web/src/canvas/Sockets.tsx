/** The ends of links: round buttons on a card's sides. */

import { Handle, Position } from "@xyflow/react";
import { type KeyboardEvent, type MouseEvent, memo, useCallback } from "react";
import { mayLink } from "../actions/editing";
import { t } from "../i18n";
import type { Entry } from "../schema";
import { useStore } from "../store";
import type { End } from "../store/ui";
import { coreType, type Face } from "../workflow";
import { coloured } from "./colours";
import { guessedHandles } from "./geometry";
import { openSocketMenu } from "./menus";

interface Props {
  end: End;
  /** The title of its node. */
  title: string;
  isLinked: boolean;
}

export const SocketButton = memo(function SocketButton({ end, title, isLinked }: Props) {
  const fit = useStore(
    useCallback(
      ({ linking }) => {
        if (!linking || (linking.node === end.node && linking.socket === end.socket)) return "";
        return mayLink(linking, end) ? "lit" : "dim";
      },
      [end],
    ),
  );
  const isOutput = end.side === "output";
  const name = t(isOutput ? "socket.output" : "socket.input", { socket: end.socket, title });
  const openMenu = (event: KeyboardEvent | MouseEvent) => {
    event.preventDefault();
    event.stopPropagation();
    const { right, bottom } = event.currentTarget.getBoundingClientRect();
    openSocketMenu(end, { x: right, y: bottom });
  };
  const state = `socket ${fit}${isLinked ? " linked" : ""}${end.type.startsWith("list of") ? " many" : ""}`;
  return (
    <Handle
      id={end.socket}
      type={isOutput ? "source" : "target"}
      position={isOutput ? Position.Right : Position.Left}
      className={state}
      style={coloured(coreType(end.type))}
      role="button"
      tabIndex={0}
      aria-label={name}
      title={`${end.socket} · ${end.type}`}
      onContextMenu={openMenu}
      onKeyDown={(event: KeyboardEvent) => (event.key === "Enter" || event.key === " ") && openMenu(event)}
    />
  );
});

/** The ends of links on a card at a small zoom: React Flow looks for them on each card that becomes visible. */
export function SocketMarks({ face, entry }: { face: Face; entry: Entry }) {
  return guessedHandles(face, entry).map(({ id, type, position, x, y }) => (
    <i
      key={`${type} ${id}`}
      className={type}
      data-handleid={id}
      data-handlepos={position}
      style={{ left: x, top: y }}
    />
  ));
}
