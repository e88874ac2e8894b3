import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { address, api, Refused, viewUrl } from "../src/api";
import { picture } from "./kinds";

const fetched = vi.fn();

function answer(status: number, body: unknown) {
  fetched.mockResolvedValue(new Response(typeof body === "string" ? body : JSON.stringify(body), { status }));
}

beforeEach(() => {
  vi.stubGlobal("fetch", fetched);
  vi.stubGlobal("document", { baseURI: "https://host/kino/" });
});
afterEach(() => {
  vi.unstubAllGlobals();
  fetched.mockReset();
});

it("asks below the page's address, and leaves out what isn't given", () => {
  expect(address("kinograph/jobs", { limit: 5, state: undefined, query: "" })).toBe(
    "https://host/kino/api/kinograph/jobs?limit=5",
  );
  expect(viewUrl({ filename: "a b.png", subfolder: "x", type: "output" })).toContain("filename=a+b.png");
});

it("sends a whole document, with the nodes to run if these are given", async () => {
  answer(200, { prompt_id: "1" });
  await api.run(picture(), "me", ["face/draw"]);
  const [url, { method, body }] = fetched.mock.calls[0] ?? [];
  expect([url, method]).toEqual(["https://host/kino/api/prompt", "POST"]);
  expect(JSON.parse(body)).toEqual({
    prompt: picture(),
    client_id: "me",
    partial_execution_targets: ["face/draw"],
  });
});

it("reports a refusal with all its problems", async () => {
  const problem = { message: "is missing", node: "draw", input: "model", hint: null };
  answer(400, { error: { type: "x", message: "draw: is missing" }, problems: [problem] });
  const refused = await api.validate(picture()).catch((error: Refused) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect(refused).toMatchObject({ message: "draw: is missing", status: 400, problems: [problem] });
});

it("reports an answer that isn't JSON by its text", async () => {
  answer(502, "bad gateway");
  await expect(api.kinds()).rejects.toMatchObject({ message: "bad gateway", status: 502 });
});

it("writes names into addresses so that they stay names", async () => {
  answer(200, {});
  await api.versions("a/b c");
  expect(fetched.mock.calls[0]?.[0]).toBe("https://host/kino/api/kinograph/workflows/a%2Fb%20c/versions");
});

describe("packs", () => {
  it("are listed with what went wrong with them", async () => {
    const pack = { name: "day-sky", version: "0.2", kinds: [], problem: "No module named 'sun'" };
    answer(200, { packs: [pack] });
    expect(await api.packs()).toEqual([pack]);
    expect(fetched.mock.calls[0]?.[0]).toBe("https://host/kino/api/kinograph/packs");
  });

  it("are none where the server has no such route", async () => {
    answer(404, { error: { type: "x", message: "there is no such route" } });
    expect(await api.packs()).toEqual([]);
  });

  it("aren't taken for absent when the server fails", async () => {
    answer(500, "oh");
    await expect(api.packs()).rejects.toMatchObject({ status: 500 });
  });
});
