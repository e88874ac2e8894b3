import { beforeEach, describe, expect, it, vi } from "vitest";
import { add } from "../src/actions/editing";
import { nameFor, save } from "../src/actions/files";
import { jobOf, readDraft, remember, writeDraft } from "../src/actions/memory";
import { api } from "../src/api";
import { autosave } from "../src/background";
import type { Document } from "../src/schema";
import { store } from "../src/store";
import { emptyDocument } from "../src/workflow";
import { KINDS, LINKS, picture } from "./kinds";

const listed = (name: string) => ({ name, title: "", saved: 0, versions: 1 });

/** A browser's storage with room for so many letters. */
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

  it("comes back in its tab, whatever other tabs did", () => {
    writeDraft(draft("mine"));
    localStorage.setItem("kinograph.draft", JSON.stringify(draft("theirs")));
    expect(readDraft()).toEqual(draft("mine"));
  });

  it("is the last of any in a new tab", () => {
    writeDraft(draft("last"));
    vi.stubGlobal("sessionStorage", storage());
    expect(readDraft()?.document.title).toBe("last");
  });

  it("says when there is no room for it", () => {
    vi.stubGlobal("localStorage", storage(10));
    expect(writeDraft(draft("large"))).toBe(false);
  });

  it("isn't there if what is kept is damaged", () => {
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
  const saved = vi.fn<(name: string, document: Document) => Promise<{ name: string; version: number }>>();

  beforeEach(() => {
    vi.spyOn(api, "save").mockImplementation(saved.mockResolvedValue({ name: "", version: 1 }));
    vi.spyOn(api, "workflows").mockResolvedValue(["Untitled", "Untitled 2"].map(listed));
    store.getState().learn(KINDS, LINKS);
    return () => {
      vi.restoreAllMocks();
      saved.mockReset();
    };
  });

  it("waits until something is changed, and then gives the document a name", async () => {
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

  it("saves again what was changed meanwhile", async () => {
    store.getState().open(picture(), "A picture");
    add("Text", { x: 0, y: 0 });
    saved.mockImplementationOnce(async (name) => {
      add("Text", { x: 0, y: 200 });
      return { name, version: 2 };
    });
    await autosave();
    expect(saved).toHaveBeenCalledTimes(2);
    expect(store.getState().kept).toBe(store.getState().document);
  });

  it("doesn't give its name to another document that was opened meanwhile", async () => {
    store.getState().open(picture());
    add("Text", { x: 0, y: 0 });
    saved.mockImplementationOnce(async (name) => {
      store.getState().open(emptyDocument());
      return { name, version: 1 };
    });
    await autosave();
    expect(store.getState().name).toBeNull();
  });

  it("nor does saving because people asked for it", async () => {
    store.getState().open(picture());
    saved.mockImplementationOnce(async (name) => {
      store.getState().open(emptyDocument());
      return { name, version: 1 };
    });
    await save();
    expect(store.getState()).toMatchObject({ name: null, kept: null });
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
