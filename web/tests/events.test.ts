import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { listen, readMessage, readPreview } from "../src/events";

function binary(kind: number, about: object, bytes: number[]): ArrayBuffer {
  const json = new TextEncoder().encode(JSON.stringify(about));
  const data = new Uint8Array(8 + json.length + bytes.length);
  const view = new DataView(data.buffer);
  view.setUint32(0, kind);
  view.setUint32(4, json.length);
  data.set(json, 8);
  data.set(bytes, 8 + json.length);
  return data.buffer;
}

describe("messages", () => {
  it("are read if they are Kinograph's own", () => {
    expect(readMessage('{"type": "queue", "data": {"paused": true}}')).toMatchObject({ type: "queue" });
    expect(readMessage('{"type": "executing", "data": {}}')).toBeNull();
  });

  it("carry previews with their node", async () => {
    const about = { node_id: "face/draw", prompt_id: "job", image_type: "image/jpeg" };
    const preview = readPreview(binary(4, about, [1, 2, 3]));
    expect(preview).toMatchObject({ job: "job", node: "face/draw" });
    expect(preview?.picture.type).toBe("image/jpeg");
    expect(await preview?.picture.bytes()).toEqual(new Uint8Array([1, 2, 3]));
    expect(readPreview(binary(1, about, []))).toBeNull();
  });
});

class FakeSocket {
  static made: FakeSocket[] = [];
  sent: string[] = [];
  binaryType = "";
  onopen = () => {};
  onclose = () => {};
  onmessage = (_: { data: string }) => {};
  constructor(readonly url: string) {
    FakeSocket.made.push(this);
  }
  send(text: string) {
    this.sent.push(text);
  }
  close() {
    this.onclose();
  }
}

describe("the connection", () => {
  const listener = { message: vi.fn(), preview: vi.fn(), connected: vi.fn() };
  beforeEach(() => {
    vi.useFakeTimers();
    FakeSocket.made = [];
    vi.stubGlobal("WebSocket", FakeSocket);
    vi.stubGlobal("window", globalThis);
    vi.stubGlobal("document", { baseURI: "https://host/kino/" });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
    vi.clearAllMocks();
  });

  it("is made below the page's address, and asks for previews and events first", () => {
    listen("me", listener);
    const [socket] = FakeSocket.made;
    socket?.onopen();
    expect(socket?.url).toBe("wss://host/kino/api/ws?clientId=me");
    expect(JSON.parse(socket?.sent[0] ?? "")).toEqual({
      type: "feature_flags",
      data: { supports_preview_metadata: true, kinograph_events: true },
    });
  });

  it("is made again when it is lost, after longer and longer", () => {
    listen("me", listener);
    FakeSocket.made[0]?.close();
    expect(listener.connected).toHaveBeenLastCalledWith(false);
    vi.advanceTimersByTime(500);
    expect(FakeSocket.made).toHaveLength(2);
    FakeSocket.made[1]?.close();
    vi.advanceTimersByTime(500);
    expect(FakeSocket.made).toHaveLength(2);
    vi.advanceTimersByTime(500);
    expect(FakeSocket.made).toHaveLength(3);
  });

  it("stays closed when it is no longer wanted", () => {
    const stop = listen("me", listener);
    stop();
    vi.advanceTimersByTime(60_000);
    expect(FakeSocket.made).toHaveLength(1);
  });
});
