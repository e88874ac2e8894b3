/** The WebSocket: passes the server's messages on as typed ones, and reconnects by itself. */

import { address } from "./api";
import type { ModelProgress, Queue, RunEvent } from "./schema";

export type Message =
  | { type: "kinograph"; data: { job: string; events: RunEvent[] } }
  | { type: "queue"; data: Queue }
  | { type: "model"; data: ModelProgress };

export interface Preview {
  job: string;
  node: string;
  picture: Blob;
}

export interface Listener {
  message(message: Message): void;
  preview(preview: Preview): void;
  connected(isConnected: boolean): void;
}

const KNOWN = new Set(["kinograph", "queue", "model"]);
const PREVIEW = 4;
const LONGEST_WAIT = 10_000;

/** A parsed text message, or null for one that only ComfyUI's own clients need. */
export function readMessage(text: string): Message | null {
  const message = JSON.parse(text) as Message;
  return KNOWN.has(message.type) ? message : null;
}

/** A node's preview, or null for another binary message. */
export function readPreview(data: ArrayBuffer): Preview | null {
  const view = new DataView(data);
  if (data.byteLength < 8 || view.getUint32(0) !== PREVIEW) return null;
  const length = view.getUint32(4);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 8, length)));
  const picture = new Blob([new Uint8Array(data, 8 + length)], { type: about.image_type });
  return { job: about.prompt_id, node: about.node_id, picture };
}

/** Listens until the returned function is called. */
export function listen(client: string, listener: Listener): () => void {
  let socket: WebSocket | undefined;
  let timer = 0;
  let wait = 500;
  let isOver = false;

  function open() {
    const ws = new WebSocket(address("ws", { clientId: client }).replace(/^http/, "ws"));
    socket = ws;
    ws.binaryType = "arraybuffer";
    ws.onopen = () => {
      wait = 500;
      const data = { supports_preview_metadata: true, kinograph_events: true };
      ws.send(JSON.stringify({ type: "feature_flags", data }));
      listener.connected(true);
    };
    ws.onmessage = ({ data }) => {
      if (typeof data === "string") {
        const message = readMessage(data);
        if (message) listener.message(message);
      } else {
        const preview = readPreview(data);
        if (preview) listener.preview(preview);
      }
    };
    ws.onclose = () => {
      if (isOver) return;
      listener.connected(false);
      timer = window.setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    };
  }

  open();
  return () => {
    isOver = true;
    clearTimeout(timer);
    socket?.close();
  };
}
