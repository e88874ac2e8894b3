import { beforeEach, describe, expect, it, vi } from "vitest";
import { add } from "../src/actions/editing";
import { nameFor, open, openNew, openVersion, save } from "../src/actions/files";
import { jobOf, readDraft, remember, writeDraft } from "../src/actions/memory";
import { api, Refused } from "../src/api";
import { autosave } from "../src/background";
import { store } from "../src/store";
import { emptyDocument } from "../src/workflow";
import { KINDS, LINKS, picture } from "./kinds";

const listed = (name: string) => ({ name, title: "", saved: 0, versions: 1 });

/** A browser's storage with room for a number of characters. */
function storage(room = Infinity): Storage {
  const held = new Map<string, string>();
  return {
    getItem: (key: string) => held.get(key) ?? null,
    setItem: (key: string, value: string) => {
      if (value.length > room) throw new DOMException("full", "QuotaExceededError");
      held.set(key, value);
    },
  } as Storage;
}

const draft = (title: string) => ({ document: { ...picture(), title }, name: null, job: "j", isKept: false });

describe("the draft", () => {
  beforeEach(() => {
    vi.stubGlobal("localStorage", storage());
    vi.stubGlobal("sessionStorage", storage());
    return () => vi.unstubAllGlobals();
  });

  it("is restored in its tab, whatever other tabs did", () => {
    writeDraft(draft("mine"));
    localStorage.setItem("kinograph.draft", JSON.stringify(draft("theirs")));
    expect(readDraft()).toEqual(draft("mine"));
  });

  it("is the last draft of any tab in a new tab", () => {
    writeDraft(draft("last"));
    vi.stubGlobal("sessionStorage", storage());
    expect(readDraft()?.document.title).toBe("last");
  });

  it("says when there is no room for it", () => {
    vi.stubGlobal("localStorage", storage(10));
    expect(writeDraft(draft("large"))).toBe(false);
  });

  it("is absent if the stored one is damaged", () => {
    localStorage.setItem("kinograph.draft", "{");
    expect(readDraft()).toBeNull();
  });

  it("goes with the last job of each workflow, of the latest hundred", () => {
    for (let at = 0; at < 120; at += 1) remember(`w${at}`, `j${at}`);
    remember("w119", "again");
    expect([jobOf("w119"), jobOf("w20"), jobOf("w1")]).toEqual(["again", "j20", undefined]);
  });
});

describe("saving by itself", () => {
  const saved = vi.fn<typeof api.save>();

  beforeEach(() => {
    vi.spyOn(api, "save").mockImplementation(saved.mockResolvedValue({ version: 1 }));
    vi.spyOn(api, "workflows").mockResolvedValue(["Untitled", "Untitled 2"].map(listed));
    store.getState().learn(KINDS, LINKS);
    return () => {
      vi.restoreAllMocks();
      vi.unstubAllGlobals();
      saved.mockReset();
    };
  });

  it("waits for a change, and then gives the document a name", async () => {
    store.getState().open(emptyDocument());
    await autosave();
    expect(saved).not.toHaveBeenCalled();
    add("Text", { x: 0, y: 0 });
    await autosave();
    expect(saved.mock.calls.map(([name]) => name)).toEqual(["Untitled 3"]);
    expect(store.getState()).toMatchObject({ name: "Untitled 3", kept: store.getState().document });
    await autosave();
    expect(saved).toHaveBeenCalledOnce();
  });

  it("saves again if something was changed meanwhile", async () => {
    store.getState().open(picture(), "A picture");
    add("Text", { x: 0, y: 0 });
    saved.mockImplementationOnce(async () => {
      add("Text", { x: 0, y: 200 });
      return { version: 2 };
    });
    await autosave();
    expect(saved).toHaveBeenCalledTimes(2);
    expect(store.getState().kept).toBe(store.getState().document);
  });

  it("doesn't give its name to a document opened meanwhile", async () => {
    store.getState().open(picture());
    add("Text", { x: 0, y: 0 });
    saved.mockImplementationOnce(async () => {
      store.getState().open(emptyDocument());
      return { version: 1 };
    });
    await autosave();
    expect(store.getState().name).toBeNull();
  });

  it("nor does saving on request", async () => {
    store.getState().open(picture());
    saved.mockImplementationOnce(async () => {
      store.getState().open(emptyDocument());
      return { version: 1 };
    });
    await save();
    const { name, kept, document } = store.getState();
    expect(name).toBeNull();
    expect(kept).toBe(document);
  });

  it("saves changes before something else is opened", async () => {
    store.getState().open(picture(), "A picture", 4);
    add("Text", { x: 0, y: 0 });
    const { document } = store.getState();
    await openNew();
    expect(saved.mock.calls).toEqual([["A picture", document, 4]]);
    expect(store.getState()).toMatchObject({ name: null, nodes: [] });
    await open(picture());
    expect(saved).toHaveBeenCalledOnce();
  });

  it("saves before a version is restored", async () => {
    vi.stubGlobal("localStorage", storage());
    const done: string[] = [];
    saved.mockImplementation(async () => {
      done.push("saved");
      return { version: 3 };
    });
    vi.spyOn(api, "restore").mockImplementation(async () => {
      done.push("restored");
      return { version: 4 };
    });
    vi.spyOn(api, "version").mockResolvedValue(picture());
    store.getState().open(picture(), "A picture");
    add("Text", { x: 0, y: 0 });
    await openVersion("A picture", 1);
    expect(done).toEqual(["saved", "restored"]);
    expect(store.getState()).toMatchObject({ name: "A picture", version: 4 });
  });

  it("sends the edited version, and continues from the saved one", async () => {
    store.getState().open(picture(), "A picture", 7);
    for (const y of [0, 200]) {
      add("Text", { x: 0, y });
      saved.mockResolvedValueOnce({ version: 8 });
      await autosave();
    }
    expect(saved.mock.calls.map(([, , version]) => version)).toEqual([7, 8]);
  });

  it("keeps the changes of two windows apart", async () => {
    store.getState().open({ ...picture(), title: "Untitled" }, "Untitled", 7);
    add("Text", { x: 0, y: 0 });
    const { document } = store.getState();
    saved.mockRejectedValueOnce(new Refused("it was saved elsewhere", 409));
    await autosave();
    expect(saved.mock.calls).toEqual([
      ["Untitled", document, 7],
      ["Untitled 3", document, 0],
    ]);
    expect(store.getState()).toMatchObject({ name: "Untitled 3", version: 1, kept: document });
    expect(store.getState().toasts.at(-1)).toMatchObject({ text: expect.stringContaining("Untitled 3") });
  });

  it("keeps what can't be saved, and reports it", async () => {
    store.getState().open(picture(), "A picture");
    add("Text", { x: 0, y: 0 });
    const { document } = store.getState();
    saved.mockRejectedValueOnce(new TypeError("no connection"));
    expect(await openNew()).toBe(false);
    expect(store.getState()).toMatchObject({ document, name: "A picture" });
    expect(store.getState().toasts.at(-1)).toMatchObject({
      tone: "bad",
      text: expect.stringContaining("connection"),
    });
  });

  it("doesn't treat assigned positions as a change", async () => {
    const unplaced = { kinograph: 1 as const, graph: picture().graph };
    const outer = { graph: { s: { class_type: "Inner", inputs: {} } }, subgraphs: { Inner: unplaced } };
    store.getState().open({ ...picture(), ...outer }, "Nested");
    store.getState().enter([{ node: "s", name: "Inner" }]);
    await autosave();
    expect(saved).not.toHaveBeenCalled();
  });

  it("tries again once the server is back", async () => {
    store.getState().open(picture(), "A picture");
    add("Text", { x: 0, y: 0 });
    saved.mockRejectedValueOnce(new TypeError("no connection"));
    await autosave();
    expect(store.getState().kept).not.toBe(store.getState().document);
    await autosave();
    expect(store.getState().kept).toBe(store.getState().document);
  });
});

it.each([
  ["Key frames from a text", "key-frames-from-a-text"],
  ["Café & ciné!", "cafe-cine"],
  ["", "untitled"],
  ["日本", "untitled"],
])("downloads “%s” as %s", (title, name) => {
  expect(nameFor(title)).toBe(name);
});
