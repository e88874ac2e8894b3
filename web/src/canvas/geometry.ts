/** Estimates where links end on a card, so that the card needn't be drawn for them. */

import { type NodeHandle, Position } from "@xyflow/react";
import { NODE_WIDTH, ROW } from "../layout";
import type { Entry } from "../schema";
import { fieldFor } from "../widgets";
import { asLink, type Face } from "../workflow";

const ABOVE_ROWS = 72;
const SOCKET = 13;

/** The sockets of links: outputs, and inputs without a field. */
export function guessedHandles(face: Face, entry: Entry): NodeHandle[] {
  const bare = face.inputs.filter(({ name, schema }) => !fieldFor(schema) || asLink(entry.inputs[name]));
  const at = (row: number) => ({ y: ABOVE_ROWS + row * ROW, width: SOCKET, height: SOCKET });
  return [
    ...bare.map(
      ({ name }, row): NodeHandle => ({
        ...at(row),
        id: name,
        type: "target",
        position: Position.Left,
        x: -SOCKET / 2,
      }),
    ),
    ...face.outputs.map(
      ({ name }, row): NodeHandle => ({
        ...at(row),
        id: name,
        type: "source",
        position: Position.Right,
        x: NODE_WIDTH - SOCKET / 2,
      }),
    ),
  ];
}
