/** Random documents: acyclic graphs of the tests' kinds. */

import fc from "fast-check";
import type { Document, Entry, Json } from "../src/schema";
import { emptyLayout } from "../src/workflow";

const NODES = 7;

/** Each node may be linked to any two before it; other inputs are constants. */
export const documents = fc
  .array(fc.record({ first: fc.nat(), second: fc.nat(), links: fc.nat(3), muted: fc.boolean() }), {
    minLength: 2,
    maxLength: NODES,
  })
  .map((plans): Document => {
    const graph: Record<string, Entry> = {};
    const layout = emptyLayout();
    plans.forEach(({ first, second, links, muted }, at) => {
      const inputs: Record<string, Json> = { steps: at };
      if (at > 0 && links & 1) inputs.model = [`n${first % at}`, "images"];
      if (at > 0 && links & 2) inputs.prompt = [`n${second % at}`, 0];
      graph[`n${at}`] = { class_type: "Draw", inputs, ...(muted ? { _meta: { mode: "mute" } } : {}) };
      layout.nodes[`n${at}`] = { x: at * 300, y: (at % 3) * 200 };
    });
    return {
      kinograph: 1,
      inputs: { steps: "n0.steps" },
      outputs: { last: [`n${plans.length - 1}`, 0] },
      graph,
      layout,
    };
  });

/** A document, and some of its nodes. */
export const selections = documents.chain((document) =>
  fc.subarray(Object.keys(document.graph), { minLength: 1 }).map((ids) => ({ document, ids: new Set(ids) })),
);
