/** The models on the server's machine, and which of them an input takes. */

import type { JsonSchema, Kinds, ListedModel } from "./schema";
import { unwrapped } from "./widgets";

const LIST = "kinograph-models";

/** The id of the list of suggestions for an input. */
export function listOf({ takes = [], categories = [] }: JsonSchema): string {
  return [LIST, ...takes, ...categories].join("-");
}

/** Whether an input takes a model, as far as its form and the category of its folder tell. */
export function suits({ takes, categories }: JsonSchema, model: ListedModel): boolean {
  if (model.problem) return false;
  const isOfCategory = !categories || !model.category || categories.includes(model.category);
  return isOfCategory && (!takes || takes.includes(model.form));
}

/** The schemas of all inputs that name a model, one for each list of suggestions. */
export function modelSchemas(kinds: Kinds): Map<string, JsonSchema> {
  const found = new Map<string, JsonSchema>();
  for (const { schema } of Object.values(kinds))
    for (const property of Object.values(schema.properties ?? {})) {
      const inner = unwrapped(property).schema;
      if (inner.widget === "model") found.set(listOf(inner), inner);
    }
  return found;
}

/** Models by category, those of none last. */
export function byCategory(models: readonly ListedModel[]): [category: string, models: ListedModel[]][] {
  const found = new Map<string, ListedModel[]>();
  for (const model of models) {
    const category = model.category ?? "";
    found.set(category, [...(found.get(category) ?? []), model]);
  }
  return [...found].sort(
    ([one], [other]) => Number(one === "") - Number(other === "") || (one < other ? -1 : 1),
  );
}
