import { beforeEach, describe, expect, it, vi } from "vitest";
import { nameFor } from "../src/actions/files";
import { jobOf, readDraft, remember, writeDraft } from "../src/actions/memory";
import { picture } from "./kinds";

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

it.each([
  ["Key frames from a text", "key-frames-from-a-text"],
  ["Café & ciné!", "cafe-cine"],
  ["", "untitled"],
  ["日本", "untitled"],
])("saves “%s” as %s", (title, name) => {
  expect(nameFor(title)).toBe(name);
});
