import { renderToStaticMarkup } from "react-dom/server";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { importFile } from "../src/actions/files";
import { api, Refused } from "../src/api";
import { learn } from "../src/background";
import { DeprecatedMark, Deprecation, labelled, PackMark, VolatileMark } from "../src/Marks";
import { FailedPacks, Told } from "../src/Palette";
import type { Kind, Kinds, Pack } from "../src/schema";
import { kindsFound } from "../src/search";
import { store } from "../src/store";
import { emptyDocument, Faces } from "../src/workflow";
import { KINDS, LINKS } from "./kinds";

const INSTEAD = "use Draw instead";

function like(kind: Kind | undefined, change: Partial<Kind>): Kind {
  if (!kind) throw new Error("no such kind");
  return { ...kind, ...change };
}

/** The usual kinds, one from a pack, and a deprecated one with a deprecated input. */
const TOLD: Kinds = {
  Doodle: like(KINDS.Draw, {
    kind: "Doodle",
    pack: null,
    deprecated: INSTEAD,
    inputs: [{ name: "steps", type: "int", required: true, help: "", deprecated: "use passes instead" }],
  }),
  ...Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, { ...kind, pack: null }])),
  DrawStars: like(KINDS.Draw, { kind: "DrawStars", pack: "night-sky", deprecated: "" }),
};
const FINE: Pack = { name: "night-sky", version: "1.0", kinds: ["DrawStars"], problem: null };
const FAILED: Pack = { name: "day-sky", version: "0.2", kinds: [], problem: "No module named 'sun'" };

const faces = new Faces(TOLD, {});
const all = Object.keys(TOLD).map((kind) => faces.of(kind));
const found = (text: string) => kindsFound(all, text).map(({ kind }) => kind);

describe("searching for a kind", () => {
  it("lists deprecated kinds last, whatever is searched for", () => {
    expect(found("")).toEqual(["Load", "Text", "Draw", "Save", "DrawStars", "Doodle"]);
    expect(found("doodle")).toEqual(["Doodle"]);
    expect(found("d")).toEqual(["Draw", "DrawStars", "Load", "Doodle"]);
  });

  it("finds kinds by their pack's name, after those with that name", () => {
    expect(found("night-sky")).toEqual(["DrawStars"]);
    const named = faces.of("Text");
    const list = kindsFound([faces.of("DrawStars"), { ...named, kind: "Night-sky" }], "night-sky");
    expect(list.map(({ kind }) => kind)).toEqual(["Night-sky", "DrawStars"]);
  });

  it("accepts kinds without information on pack or deprecation", () => {
    const face = new Faces(KINDS, {}).of("Draw");
    expect(face).toMatchObject({ pack: null, deprecated: "" });
    expect(renderToStaticMarkup(<Told face={face} />)).not.toMatch(/pack|eprecated/);
  });

  it("names the pack of a kind", () => {
    const markup = renderToStaticMarkup(<Told face={faces.of("DrawStars")} />);
    expect(markup).toContain('title="From the pack night-sky"');
    expect(markup).toContain("<span>night-sky</span>");
    expect(renderToStaticMarkup(<Told face={faces.of("Draw")} />)).not.toContain("pack");
  });

  it("says what to use instead of a deprecated kind", () => {
    const markup = renderToStaticMarkup(<Told face={faces.of("Doodle")} />);
    expect(markup).toContain(`>Deprecated: ${INSTEAD}</small>`);
  });
});

describe("a mark on a card", () => {
  it("names the pack, in a tooltip and for assistive technology", () => {
    const markup = renderToStaticMarkup(<PackMark pack="night-sky" />);
    expect(markup).toContain(
      'role="img" aria-label="From the pack night-sky" title="From the pack night-sky"',
    );
  });

  it("says that a kind is volatile", () => {
    const volatile = new Faces({ Draw: like(KINDS.Draw, { volatile: true }) }, {}).of("Draw");
    const label = "Runs in every run, and so does what depends on it";
    expect(renderToStaticMarkup(<VolatileMark volatile={volatile.volatile} />)).toContain(
      `aria-label="${label}"`,
    );
    expect(renderToStaticMarkup(<VolatileMark volatile={faces.of("Text").volatile} />)).toBe("");
  });

  it("says what to use instead of an input", () => {
    const [steps] = faces.of("Doodle").inputs;
    const markup = renderToStaticMarkup(<DeprecatedMark instead={steps?.deprecated} />);
    expect(markup).toContain(
      'aria-label="Deprecated: use passes instead" title="Deprecated: use passes instead"',
    );
    expect(labelled("steps", steps?.deprecated)).toBe("steps (deprecated)");
  });

  it("is absent where there is nothing to show", () => {
    const marks = [<PackMark key={1} pack={null} />, <DeprecatedMark key={2} instead={undefined} />];
    expect(renderToStaticMarkup(marks)).toBe("");
    expect(renderToStaticMarkup(<Deprecation instead="" />)).toBe("");
    expect(labelled("steps", undefined)).toBe("steps");
  });
});

describe("an input of a subgraph", () => {
  it("is deprecated if the inner input is", () => {
    const graph = { inner: { class_type: "Doodle", inputs: {} } };
    const face = new Faces(TOLD, { part: { kinograph: 1, inputs: { passes: "inner.steps" }, graph } }).of(
      "part",
    );
    expect(face).toMatchObject({ pack: null, deprecated: "" });
    expect(face.inputs).toMatchObject([{ name: "passes", deprecated: "use passes instead" }]);
  });
});

describe("packs that failed", () => {
  it("are shown with the reason", () => {
    const markup = renderToStaticMarkup(<FailedPacks packs={[FAILED]} />);
    expect(markup).toContain("The pack day-sky 0.2 could not be loaded.");
    expect(markup).toContain("No module named &#x27;sun&#x27;");
    expect(renderToStaticMarkup(<FailedPacks packs={[]} />)).toBe("");
  });
});

describe("a picture that is dropped", () => {
  const loader = (name: string, deprecated: string): Kind => ({
    ...like(KINDS.Draw, { kind: name, deprecated }),
    inputs: [{ name: "image", type: "str", required: true, help: "", holds: "media" }],
    outputs: [{ name: "out", type: "Image" }],
  });

  beforeEach(() => () => void vi.restoreAllMocks());

  it("becomes a node of a kind that is not deprecated", async () => {
    vi.spyOn(api, "convertFile").mockRejectedValue(new Refused("carries no workflow", 400));
    vi.spyOn(api, "upload").mockResolvedValue({
      name: "a.png",
      filename: "a.png",
      subfolder: "",
      type: "input",
    });
    store.getState().learn({ Old: loader("Old", "use New instead"), New: loader("New", "") }, LINKS);
    store.getState().open(emptyDocument());
    await importFile(new File([], "a.png"), { x: 0, y: 0 });
    const nodes = Object.values(store.getState().document.graph);
    expect(nodes).toMatchObject([{ class_type: "New", inputs: { image: "a.png" } }]);
  });
});

describe("learning of packs", () => {
  const packs = vi.fn<typeof api.packs>();

  beforeEach(() => {
    vi.spyOn(api, "kinds").mockResolvedValue(TOLD);
    vi.spyOn(api, "types").mockResolvedValue({ links: LINKS });
    vi.spyOn(api, "packs").mockImplementation(packs.mockResolvedValue([FINE, FAILED]));
    store.setState({ failedPacks: [], toasts: [] });
    return () => {
      vi.restoreAllMocks();
      packs.mockReset();
    };
  });

  it("happens together with kinds, and keeps the packs that failed", async () => {
    await learn();
    expect(store.getState()).toMatchObject({ kinds: TOLD, failedPacks: [FAILED] });
  });

  it("is skipped if the server names no kind's pack", async () => {
    vi.spyOn(api, "kinds").mockResolvedValue(KINDS);
    await learn();
    expect(packs).not.toHaveBeenCalled();
    expect(store.getState()).toMatchObject({ kinds: KINDS, failedPacks: [], toasts: [] });
  });

  it("shows a failure, and keeps the kinds", async () => {
    packs.mockRejectedValue(new Refused("the index is damaged", 500));
    await learn();
    expect(store.getState().kinds).toBe(TOLD);
    expect(store.getState().toasts.map(({ text }) => text)).toEqual(["the index is damaged"]);
  });
});
